"""Temporary directories next to a database. Those of killed processes are removed when the next one is created."""

import glob
import shutil
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from ...domain.errors import LedgerUnavailable
from .file_lock import file_lock
from .private_files import permissions_like

LOCK_TIMEOUT_SECONDS = 30.0
_LOCK_NAME = "scratch"


@contextmanager
def temp_directory(database: Path, *, timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> Generator[Path]:
    """Create a temporary directory next to a file, and delete it at the end. Only its owner can read it.

    Its process locks it, and the operating system releases the lock when the process ends. Unlocked directories were
    left by killed processes, and are removed first; those of another user are left to that user. One process at a time
    creates and removes directories, so that none is removed before it is locked.
    """
    with ExitStack() as directory_lock:
        with _creation_lock(database, timeout_seconds) as is_locked:
            if not is_locked:
                raise LedgerUnavailable(
                    f"Another process has been removing temporary directories of {str(database)!r} for over "
                    f"{timeout_seconds:.0f} seconds. Try again.",
                    field="url",
                    value=str(database),
                )
            _remove_abandoned_directories(database)
            directory = _create_directory(database)
            directory_lock.enter_context(file_lock(str(directory / _LOCK_NAME), timeout_seconds=0))
        try:
            yield directory
        finally:
            with _creation_lock(database, timeout_seconds):
                directory_lock.close()
                shutil.rmtree(directory, ignore_errors=True)  # the next process removes what is left


@contextmanager
def _creation_lock(database: Path, timeout_seconds: float) -> Generator[bool]:
    """Hold the lock to create and remove directories. Yield whether it was free within the timeout."""
    path, mode = f"{database}.{_LOCK_NAME}", permissions_like(database)
    with file_lock(path, timeout_seconds=timeout_seconds, mode=mode) as is_locked:
        yield is_locked


def _remove_abandoned_directories(database: Path) -> None:
    for leftover in database.parent.glob(f"{glob.escape(_prefix(database))}*"):
        if leftover.is_symlink():  # not ours: another user may lead us to a directory of theirs
            continue
        with (
            suppress(LedgerUnavailable),  # another user's
            file_lock(str(leftover / _LOCK_NAME), timeout_seconds=0) as is_abandoned,
        ):
            if is_abandoned:
                shutil.rmtree(leftover, ignore_errors=True)


def _create_directory(database: Path) -> Path:
    try:
        directory = Path(mkdtemp(prefix=_prefix(database), dir=database.parent))
        directory.chmod(0o700)  # the umask may have removed bits
    except OSError as error:
        raise LedgerUnavailable(
            f"No temporary directory can be created in {str(database.parent)!r}: {error.strerror or error}. A replay "
            "of the ledger needs free space and write permission there.",
            field="url",
            value=str(database.parent),
        ) from error
    return directory


def _prefix(database: Path) -> str:
    return f"{database.name}.{_LOCK_NAME}-"
