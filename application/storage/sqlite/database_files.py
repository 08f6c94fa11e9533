"""The files of a SQLite database: their creation, and whether they are still those that a connection has open.

SQLite goes on writing to a database that was removed, renamed or replaced, and to a write-ahead log that was removed.
What it commits there is missing in the file that the path leads to.
"""

import os
from contextlib import suppress
from pathlib import Path

from ....domain.errors import LedgerUnavailable
from ..private_files import IS_SYMBOLIC_LINK, create_private_file, permissions_like
from .errors import unavailable

WAL_SUFFIX, SHM_SUFFIX = "-wal", "-shm"
"""SQLite creates these files next to a database, with its permissions. The last process that closes it removes them."""
READ_MODELS_SUFFIX = ".read-models"
"""The read models of a ledger are a database next to it."""

FileIdentity = tuple[int, int]
"""Inode and device: what distinguishes a file from a later one with the same path."""


class OpenFiles:
    """The files that a connection has open: the database, its write-ahead log and the index of the log."""

    def __init__(self, database: str) -> None:
        real_path = os.path.realpath(database)  # SQLite puts the log next to the target of a symbolic link
        paths = (database, real_path + WAL_SUFFIX, real_path + SHM_SUFFIX)
        self._files = [(path, identity) for path in paths if (identity := file_identity(path)) is not None]
        self._database = database

    @property
    def database_identity(self) -> FileIdentity | None:
        """Return the identity of the database; None if it does not exist any more."""
        return next((identity for path, identity in self._files if path == self._database), None)

    def find_replaced(self, *, for_writing: bool) -> str | None:
        """Return the path of a file that was removed, renamed or replaced; None if there is none.

        To read, only the database is compared: each comparison takes 1 µs.
        """
        for path, identity in self._files if for_writing else self._files[:1]:
            if not _is_at(path, identity):
                return path
        return None


class DatabaseFile:
    """The file of a database: of a ledger, or of its read models, which may be deleted at any time."""

    def __init__(self, path: str, permissions_of: str, *, is_disposable: bool) -> None:
        """Initialize; a new file gets the permissions of the file `permissions_of` if that exists, or 0600."""
        self.path = path
        self._permissions_of = permissions_of
        self._is_disposable = is_disposable
        self._identity: FileIdentity | None = None

    def prepare(self) -> None:
        """Create the file if it does not exist. Call this before each connection.

        Raise LedgerUnavailable if the file has several names, or if the ledger was removed or replaced since the first
        connection: a file that is created in its place would be another ledger.
        """
        if self._is_disposable and Path(self.path).is_symlink():
            raise unavailable(self.path, f"{IS_SYMBOLIC_LINK}.")
        if self._identity is not None and not self._is_disposable:
            if not _is_at(self.path, self._identity):
                raise replaced_error(self.path, self.path)
            return
        has_log = has_content(self.path + WAL_SUFFIX)  # before the database, which another process creates first
        if Path(self.path).exists():
            self._require_one_name()
            return
        if has_log:
            self._require_disposable_log()
            for suffix in (WAL_SUFFIX, SHM_SUFFIX):  # without a log, another process may be creating both
                Path(self.path + suffix).unlink(missing_ok=True)
        with suppress(OSError):  # SQLite reports why a file cannot be created
            create_private_file(os.path.realpath(self.path), permissions_like(self._permissions_of))

    def opened(self) -> OpenFiles:
        """Return the files of a new connection. Raise LedgerUnavailable if the ledger was replaced meanwhile."""
        files = OpenFiles(self.path)
        identity = files.database_identity
        if identity is None or (self._identity not in (None, identity) and not self._is_disposable):
            raise replaced_error(self.path, self.path)
        self._identity = identity
        return files

    def _require_one_name(self) -> None:
        """Raise LedgerUnavailable if there are hard links to the file: under each name, SQLite uses a log of its own.

        A link that is created later does no harm, because no process can open the ledger under the new name.
        """
        try:
            name_count = Path(self.path).stat().st_nlink
        except OSError:  # SQLite reports why a file cannot be opened
            return
        if name_count > 1:
            raise unavailable(
                self.path,
                f"the file has {name_count} names (hard links). SQLite keeps a write-ahead log for each name, and "
                "events that are recorded under one would be lost under another. Close the ledger in all programs, "
                "then remove the other names, or replace this one by a copy of the file.",
            )

    def _require_disposable_log(self) -> None:
        """Raise LedgerUnavailable if the log of a missing database may hold events. SQLite would delete it."""
        if not self._is_disposable:
            raise unavailable(
                self.path,
                f"the file does not exist, but its write-ahead log {self.path + WAL_SUFFIX!r} does, and may hold "
                "recorded events. Put the file back next to it, or move the log away to create another ledger.",
            )


def replaced_error(database: str, path: str) -> LedgerUnavailable:
    """Return the error for a file at `path` that is no longer the one that was opened."""
    state = "replaced" if Path(path).exists() else "removed or renamed"
    advice = (
        "Put the file back, or close the ledger and open it again."
        if path == database
        else "Close the ledger in all programs, without killing them: SQLite then saves what that file held."
    )
    return unavailable(database, f"the file {path!r} was {state} while the ledger is open. {advice}")


def file_identity(path: str) -> FileIdentity | None:
    """Return the identity of the file at a path; None if there is none or it cannot be read."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_ino, status.st_dev


def _is_at(path: str, identity: FileIdentity) -> bool:
    try:
        status = os.stat(path)  # noqa: PTH116 - pathlib would double the time
    except OSError:
        return False
    return status.st_ino == identity[0] and status.st_dev == identity[1]


def has_content(path: str) -> bool:
    """Return whether a file exists and is not empty."""
    try:
        return Path(path).stat().st_size > 0
    except OSError:
        return False
