"""The server's log: on stderr, a line of JSON for whatever happens."""

import logging
import sys
from datetime import UTC, datetime

import msgspec


class Line(msgspec.Struct, omit_defaults=True):
    """A line of the log."""

    time: str
    level: str
    logger: str
    message: str
    trace: str = ""


class JsonLines(logging.Formatter):
    """Writes a record on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        line = Line(at, record.levelname.lower(), record.name, record.getMessage(), trace)
        return msgspec.json.encode(line).decode()


def log_to_stderr() -> None:
    """Have what is logged written to stderr; the access log's lines are written already."""
    lines, written = logging.StreamHandler(sys.stderr), logging.StreamHandler(sys.stderr)
    lines.setFormatter(JsonLines())
    for name, handler, level in (
        ("", lines, logging.WARNING),
        ("tallybook.server", lines, logging.INFO),
        ("tallybook.access", written, logging.INFO),
    ):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
