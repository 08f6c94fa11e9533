"""The file of seals: checkpoints one after the other, each a signed note and a blank line that ends it."""

import os
import re
from codecs import BOM_UTF8
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from ...domain.errors import InvalidSealFile
from .checkpoint import Checkpoint
from .keys import PublicKey
from .note import Note

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_WHOLE = re.compile(r"((?:[^\n]+\n)+\n(?:— [^\n]+\n)*)\n".encode())


@dataclass(frozen=True, slots=True)
class Seal:
    """A checkpoint with its signatures."""

    checkpoint: Checkpoint
    note: Note

    @classmethod
    def parse(cls, text: str) -> "Seal":
        """The seal that reads so. Raises ValueError."""
        note = Note.parse(text)
        return cls(Checkpoint.parse(note.text), note)


@dataclass(frozen=True, slots=True)
class Seals:
    """All that a file of seals says, from the first to the last.

    `whole_bytes` is how long the file is without a last seal that was never finished, as after a crash.
    """

    path: Path
    all: tuple[Seal, ...]
    whole_bytes: int
    is_unfinished: bool

    @classmethod
    def parse(cls, path: Path, data: bytes) -> "Seals":
        """The seals that read so; `path` is named in what is refused. Raises InvalidSealFile."""
        if (what := _changed_by_an_editor(data)) is not None:
            raise _invalid(path, what)
        seals: list[Seal] = []
        at = 0
        while (text := _WHOLE.match(data, at)) is not None:
            try:
                seals.append(Seal.parse(text[1].decode()))
            except ValueError as error:
                raise _invalid(path, f"seal {len(seals) + 1} is damaged: {error}") from error
            at = text.end()
        if at < len(data) and not (seals and _is_begun(data[at:], seals[-1].checkpoint.origin)):
            raise _invalid(path, f"what follows its {len(seals)} seals is none" if seals else "there is no seal in it")
        for number, (earlier, later) in enumerate(pairwise(one.checkpoint for one in seals), 2):
            if later.origin != earlier.origin:
                raise _invalid(path, f"seal {number} is of {later.origin}, the one before it of {earlier.origin}")
            if later.size < earlier.size or (later.size == earlier.size and later.root != earlier.root):
                raise _invalid(path, f"seal {number} can't follow the one before it")
        return cls(path, tuple(seals), at, is_unfinished=at < len(data))

    def of_size(self, size: int) -> Seal | None:
        """The last seal of so many events."""
        return next((one for one in reversed(self.all) if one.checkpoint.size == size), None)

    def require_signatures(self, key: PublicKey) -> None:
        """Raise InvalidSealFile at the first seal that isn't signed by this key."""
        for number, seal in enumerate(self.all, 1):
            if not key.has_signed(seal.note):
                raise _invalid(self.path, f"seal {number} is not signed by {key}")


class SealFile:
    """A file of seals. It is only ever appended to, by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Seals:
        """All seals in the file. Raises InvalidSealFile where there is none, or what is there isn't seals."""
        return Seals.parse(self.path, self._data())

    def read_some(self) -> Seals:
        """All seals in the file, at least one. Raises InvalidSealFile."""
        seals = self.read()
        if not seals.all:
            raise _invalid(self.path, "there is no seal in it")
        return seals

    def read_held(self) -> tuple[Seal, ...]:
        """The seals in the file, which may also be a single checkpoint by itself. Raises InvalidSealFile."""
        data = self._data()
        try:
            return (Seal.parse(data.decode()),)
        except ValueError:
            return Seals.parse(self.path, data).all

    def _data(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError as error:
            raise InvalidSealFile(
                f"There is no file of seals at {self.path}; 'tallybook seal' begins one.", field="file", value=self.path
            ) from error
        except OSError as error:
            raise _invalid(self.path, error.strerror) from error

    def append(self, seals: Seals, note: Note) -> None:
        """Append a seal to those that were read, in the place of an unfinished one; on disk when this returns."""
        try:
            with self.path.open("r+b") as file:
                file.truncate(seals.whole_bytes)
                file.seek(seals.whole_bytes)
                file.write(f"{note}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _invalid(self.path, error.strerror) from error

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keep other processes from appending meanwhile; the file is begun if it isn't there.

        One that was begun here, and is still empty, is removed where what is done meanwhile is refused.
        """
        file, is_begun = self._lock()
        with file:
            try:
                yield
            except BaseException:
                if is_begun and not self._data():  # else somebody had the lock, and sealed, before it was had here
                    with suppress(OSError):  # Windows keeps open files; an empty one is begun by the next seal
                        self.path.unlink()
                raise

    def _lock(self) -> tuple[BinaryIO, bool]:
        """The file, locked, and whether it was begun for that."""
        while True:
            try:
                file, is_begun = _open_or_begin(self.path)
                with ExitStack() as unless_locked:
                    unless_locked.enter_context(file)
                    _sync_folder(self.path.parent)
                    if fcntl is not None:
                        fcntl.flock(file, fcntl.LOCK_EX)
                    if _is_still_at(self.path, file):  # or who began it was refused, and removed it
                        unless_locked.pop_all()
                        return file, is_begun
            except OSError as error:
                raise _invalid(self.path, error.strerror) from error


def _open_or_begin(path: Path) -> tuple[BinaryIO, bool]:
    try:
        return path.open("xb"), True
    except FileExistsError:
        return path.open("ab"), False


def _is_still_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _changed_by_an_editor(data: bytes) -> str | None:
    """What programs that take seals for any text add to them, if that is why these can't be read."""
    unmarked = data.removeprefix(BOM_UTF8)
    plain = unmarked.replace(b"\r\n", b"\n")
    found = None if plain == data else _WHOLE.match(plain + b"\n")  # also of a checkpoint by itself
    if found is None:
        return None
    try:
        Seal.parse(found[1].decode())
    except ValueError:
        return None
    added = [
        *(["a byte order mark at its start"] if unmarked != data else []),
        *(["a carriage return at the ends of lines"] if plain != unmarked else []),
    ]
    return f"it has {' and '.join(added)}, which no seal has; an editor or a copy as text may have added that"


def _is_begun(rest: bytes, origin: str) -> bool:
    """Whether this is how a seal begins that was never finished, and not a damaged one with others after it."""
    first = f"{origin}\n".encode()
    return (first.startswith(rest) or rest.startswith(first)) and _WHOLE.search(rest) is None


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file as durable as what is in it, where folders can be synced."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _invalid(path: Path, what: str | None) -> InvalidSealFile:
    return InvalidSealFile(f"{path}: {what}.", field="file", value=path)
