"""Files that only their owner can read and write, whatever the umask. An existing file keeps its permissions."""

import errno
import os
import stat
from pathlib import Path

PRIVATE_MODE = 0o600
IS_SYMBOLIC_LINK = "it is a symbolic link, and Tallybook follows none under this name; remove the link"
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag
_READ_AND_WRITE_BITS = 0o666


def private_opener(path: str, flags: int) -> int:
    """Open a file for `open(…, opener=private_opener)`. A new file is created with the mode 0600."""
    return _open(path, flags)


def private_opener_without_links(path: str, flags: int) -> int:
    """Open a file like `private_opener`, but raise OSError if the path is a symbolic link.

    Use it for a file whose name is derived from another one: in a shared folder, another user could create a link under
    this name to a file that the caller can write.
    """
    try:
        return _open(path, flags | _NO_FOLLOW)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, IS_SYMBOLIC_LINK, path) from None
        raise


def create_private_file(path: str, mode: int = PRIVATE_MODE) -> None:
    """Create an empty file with the mode `mode`. Raise FileExistsError if the path exists, also as a link.

    No descriptor is opened if the system allows that: SQLite may have opened the file in another thread by the time the
    descriptor is closed, which would release the locks of this process on the file.
    """
    try:
        os.mknod(path, mode)
    except (AttributeError, PermissionError):  # Windows, and macOS without privileges
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    Path(path).chmod(mode)  # the umask may have removed bits


def permissions_like(path: str | Path) -> int:
    """Return the permissions of a file that is created next to another one; 0600 if that does not exist.

    The group that may read or write the one may read or write the other.
    """
    try:
        return stat.S_IMODE(Path(path).stat().st_mode) & _READ_AND_WRITE_BITS | PRIVATE_MODE
    except OSError:
        return PRIVATE_MODE


def sync_folder(folder: Path) -> None:
    """Make the directory entry of a new file durable, if the system can sync folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(path: str, flags: int) -> int:
    if flags & os.O_CREAT:
        try:
            descriptor = os.open(path, flags | os.O_EXCL, PRIVATE_MODE)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
        else:
            if hasattr(os, "fchmod"):  # the umask may have removed bits
                os.fchmod(descriptor, PRIVATE_MODE)
            return descriptor
    return os.open(path, flags, PRIVATE_MODE)
