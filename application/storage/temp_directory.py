"""Temporary directories next to a database. Those of killed processes are removed when the next one is created."""

import glob
import shutil
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ...domain.errors import LedgerUnavailable
from .file_lock import file_lock

_LOCK_NAME = "scratch"


def _create_directory(prefix: str, parent: Path) -> "TemporaryDirectory[str]":
    try:
        return TemporaryDirectory(prefix=prefix, dir=parent)
    except OSError as error:
        raise LedgerUnavailable(
            f"No temporary directory can be created in {str(parent)!r}: {error.strerror or error}. A replay of the "
            "ledger needs free space and write permission there.",
            field="url",
            value=str(parent),
        ) from error


@contextmanager
def temp_directory(database: Path) -> Generator[Path]:
    """Create a temporary directory next to a file, and delete it at the end.

    Its process locks it, and the operating system releases the lock when the process ends. Unlocked directories were
    left by killed processes, and are removed first.
    """
    prefix = f"{database.name}.scratch-"
    for leftover in database.parent.glob(f"{glob.escape(prefix)}*"):
        with file_lock(str(leftover / _LOCK_NAME), timeout_seconds=0) as is_abandoned:
            if is_abandoned:
                shutil.rmtree(leftover, ignore_errors=True)
    while True:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(_create_directory(prefix, database.parent)))
            is_locked = stack.enter_context(file_lock(str(directory / _LOCK_NAME), timeout_seconds=0))
            if is_locked and directory.exists():  # otherwise another process has removed it before it was locked
                yield directory
                return
