"""The access log of the command line: a file to which commands append what they read of one customer."""

import errno
import logging
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from ....domain.errors import InvalidParameter
from ...access_log import ACCESS_LOGGER, LoggedCustomers
from ...storage.private_files import private_opener
from ...validation import require_choice

FILE_VARIABLE, CUSTOMERS_VARIABLE = "TALLYBOOK_ACCESS_LOG_FILE", "TALLYBOOK_ACCESS_LOG_CUSTOMERS"


class _FileHandler(logging.Handler):
    """Appends lines to a file. An error ends the command before it prints what it has read."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        with self._reported_error():
            self._descriptor = private_opener(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def emit(self, record: logging.LogRecord) -> None:
        """Append a line by one write, so that lines of other processes are not mixed with it."""
        line = f"{record.getMessage()}\n".encode()
        with self._reported_error():
            if os.write(self._descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
        super().close()

    @contextmanager
    def _reported_error(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise InvalidParameter(
                f"The access log {self._path!r} can't be written: {error.strerror}. {FILE_VARIABLE} names it.",
                field=FILE_VARIABLE,
                value=self._path,
            ) from error


@contextmanager
def access_log_file(environment: Mapping[str, str]) -> Generator[LoggedCustomers | None]:
    """Write the access log to the file that the environment names; yield how it names customers, None if it is off.

    Raises InvalidParameter.
    """
    path = environment.get(FILE_VARIABLE)
    if not path:
        yield None
        return
    customers = require_choice(
        environment.get(CUSTOMERS_VARIABLE, LoggedCustomers.HIDDEN), CUSTOMERS_VARIABLE, LoggedCustomers
    )
    handler = _FileHandler(path)
    handlers, level, propagates = ACCESS_LOGGER.handlers, ACCESS_LOGGER.level, ACCESS_LOGGER.propagate
    ACCESS_LOGGER.handlers, ACCESS_LOGGER.propagate = [handler], False
    ACCESS_LOGGER.setLevel(logging.INFO)
    try:
        yield customers
    finally:
        ACCESS_LOGGER.handlers, ACCESS_LOGGER.propagate = handlers, propagates
        ACCESS_LOGGER.setLevel(level)
        handler.close()
