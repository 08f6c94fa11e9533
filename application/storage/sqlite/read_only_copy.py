"""A read-only copy of a ledger, such as one on a read-only disk: SQLite can create no write-ahead log next to it.

It is read as it is, without a log. Its read models are projected in a temporary folder.
"""

import os
from pathlib import Path
from urllib.parse import quote

from .database_files import SHM_SUFFIX, WAL_SUFFIX, OpenFiles, has_content
from .errors import unavailable


def is_read_only_copy(database: str) -> bool:
    """Return whether a ledger can only be read as a file that does not change.

    That is so if its folder is read-only, and no process has it open: then its `-shm` file would exist. Raise
    LedgerUnavailable if its write-ahead log may hold events.
    """
    folder = Path(os.path.realpath(database)).parent
    if not Path(database).is_file() or os.access(folder, os.W_OK | os.X_OK):
        return False
    real_path = os.path.realpath(database)
    if Path(real_path + SHM_SUFFIX).exists():
        return False
    if has_content(real_path + WAL_SUFFIX):
        raise unavailable(
            database,
            f"its folder is read-only, and its write-ahead log {real_path + WAL_SUFFIX!r} may hold recorded events. "
            "Copy both files to a folder that you can write, or make a backup with 'tallybook backup'.",
        )
    return True


def immutable_uri(database: str) -> str:
    """Return the URI under which SQLite reads a file without locks and logs."""
    return f"file:{quote(database)}?mode=ro&immutable=1"


class ImmutableFile(OpenFiles):
    """The file of a read-only copy: a connection reads it as long as it is unchanged, and no program can record."""

    def __init__(self, database: str) -> None:
        super().__init__(database)
        self._path = database
        self._version = _version(database)

    def find_replaced(self, *, for_writing: bool) -> str | None:
        """Return the path if the file was replaced or changed, which SQLite would not notice; None otherwise.

        Raise LedgerUnavailable if a program has opened the ledger: what it records is in its log, not in the file.
        """
        real_path = os.path.realpath(self._path)
        if Path(real_path + SHM_SUFFIX).exists() or has_content(real_path + WAL_SUFFIX):
            raise unavailable(
                self._path,
                "another program opened it since, and what that records can't be read in this way. Open it again.",
            )
        return super().find_replaced(for_writing=for_writing) or (
            None if _version(self._path) == self._version else self._path
        )


def _version(database: str) -> tuple[int, int] | None:
    """Return what changes when a file is written: its size and time of modification; None if it is missing."""
    try:
        status = Path(database).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
