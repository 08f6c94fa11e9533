"""Backups of a SQLite ledger: a copy of one state, by SQLite's online backup, while other connections record."""

import hashlib
import os
import secrets
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from ....domain.errors import InvalidParameter, LedgerCorrupted, LedgerUnavailable
from ...results import Backup
from ..private_files import create_private_file
from .database_files import READ_MODELS_SUFFIX, SHM_SUFFIX, WAL_SUFFIX
from .errors import translate_errors

STEP_PAGES = 1_000
"""The pages that are copied in one step, of 4 KiB each. Between steps the caller can stop the backup."""
_LEDGER_SUFFIXES = [part + suffix for part in ("", READ_MODELS_SUFFIX) for suffix in ("", WAL_SUFFIX, SHM_SUFFIX)]
BackupProgress = Callable[[int, int], object]
"""Called with the number of bytes copied and the size of the backup."""


def write_backup(
    source: sqlite3.Connection,
    file: Path,
    *,
    overwrite: bool,
    least_position: int,
    progress: BackupProgress | None = None,
) -> Backup:
    """Write the state that a connection reads to a file, check it, and return what it holds.

    The connection is in a read transaction, so that the state stays the same while others record. A backup outside of
    one starts again after each transaction of others. The file is complete as soon as it has its name: it is written
    under a temporary name, checked, synchronized to the disk and renamed.

    Raises InvalidParameter if the file cannot be created there, LedgerUnavailable if writing fails, and LedgerCorrupted
    if the copy is corrupted or ends before `least_position`.
    """
    _check_target(source, file, overwrite=overwrite)
    with _temporary_file(file) as temporary:
        with translate_errors(str(temporary)), closing(sqlite3.connect(temporary)) as target:
            _copy_pages(source, target, progress)
            position = _check(target, file, least_position)
        digest = _synchronize(temporary)
        size = temporary.stat().st_size
        _publish(temporary, file, overwrite=overwrite)
    return Backup(str(file), size, position, digest)


def _check_target(source: sqlite3.Connection, file: Path, *, overwrite: bool) -> None:
    """Raise InvalidParameter if the file exists, is part of the ledger, or has the write-ahead log of another one."""
    if file.exists() and not overwrite:
        raise _invalid(file, "exists already. Choose another name, or overwrite it if you no longer need it")
    for _, _, ledger in source.execute("PRAGMA database_list"):  # a database in memory has no name
        ledger_files = {os.path.realpath(f"{ledger}{suffix}") for suffix in _LEDGER_SUFFIXES} if ledger else set[str]()
        if os.path.realpath(file) in ledger_files:
            raise _invalid(file, "is a file of the ledger itself. Choose another name")
    if file.is_dir():
        raise _invalid(file, "is a folder. Name a file in it")
    for suffix in (WAL_SUFFIX, SHM_SUFFIX):
        if Path(f"{file}{suffix}").exists():
            raise _invalid(
                file,
                f"has a file {file.name + suffix!r} next to it, which SQLite would take for a part of the backup. "
                "Choose another name",
            )


@contextmanager
def _temporary_file(file: Path) -> Generator[Path]:
    """Create an empty private file next to a file, and delete it at the end if it still has its temporary name."""
    temporary = file.with_name(f"{file.name}.{secrets.token_hex(4)}.part")
    try:
        create_private_file(str(temporary))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _invalid(file, f"cannot be created: {reason}. Its folder must exist and be writable") from error
    try:
        yield temporary
    finally:
        for suffix in ("", "-journal", WAL_SUFFIX, SHM_SUFFIX):
            with suppress(OSError):
                Path(f"{temporary}{suffix}").unlink(missing_ok=True)


def _copy_pages(source: sqlite3.Connection, target: sqlite3.Connection, progress: BackupProgress | None) -> None:
    (page_size,) = source.execute("PRAGMA page_size").fetchone()

    def report(_status: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress((total - remaining) * page_size, total * page_size)

    source.backup(target, pages=STEP_PAGES, progress=report)


def _check(target: sqlite3.Connection, file: Path, least_position: int) -> int:
    """Return the position of the last event. Raise LedgerCorrupted if the copy is corrupted or an event is missing."""
    problems = [row[0] for row in target.execute("PRAGMA integrity_check(3)")]
    if problems != ["ok"]:
        raise LedgerCorrupted(f"No backup {str(file)!r} was written: the ledger is corrupted ({'; '.join(problems)}).")
    count, position = target.execute("SELECT count(*), coalesce(max(position), 0) FROM stored_events").fetchone()
    if count != position or position < least_position:
        raise LedgerCorrupted(
            f"No backup {str(file)!r} was written: it would hold {count} events up to position {position}, but the "
            f"ledger had reached position {max(position, least_position)}, and positions have no gaps."
        )
    return position


def _synchronize(file: Path) -> str:
    """Write a file to the disk, and return the SHA-256 of its contents."""
    try:
        with file.open("r+b") as opened:
            os.fsync(opened.fileno())
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise _not_written(file, error) from error


def _publish(temporary: Path, file: Path, *, overwrite: bool) -> None:
    """Give the backup its name. Without `overwrite`, a file that appeared meanwhile is preserved."""
    try:
        if overwrite:
            temporary.replace(file)
        else:
            os.link(temporary, file)  # unlike a rename, it fails if the name is taken
            temporary.unlink()
        _synchronize_folder(file.parent)
    except FileExistsError:
        raise _invalid(file, "exists already. Choose another name") from None
    except OSError as error:
        raise _not_written(file, error) from error


def _synchronize_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _invalid(file: Path, problem: str) -> InvalidParameter:
    return InvalidParameter(f"The backup {str(file)!r} {problem}.", field="file", value=str(file))


def _not_written(file: Path, error: OSError) -> LedgerUnavailable:
    return LedgerUnavailable(
        f"The backup {str(file)!r} could not be written: {error.strerror or error}.", field="file", value=str(file)
    )
