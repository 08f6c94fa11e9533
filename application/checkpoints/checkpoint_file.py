"""The checkpoint file: checkpoints one after the other, each a signed note and a blank line that ends it."""

import os
import re
from codecs import BOM_UTF8
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from ...domain.errors import InvalidCheckpointFile
from ..storage.private_files import private_opener, sync_folder
from .checkpoint import Checkpoint, Note
from .signing_keys import PublicKey
from .witness import Cosignature, WitnessKey

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_COMPLETE_CHECKPOINT = re.compile(r"((?:[^\n]+\n)+\n(?:— [^\n]+\n)*)\n".encode())


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint with its signatures."""

    checkpoint: Checkpoint
    note: Note

    @classmethod
    def parse(cls, text: str) -> "SignedCheckpoint":
        """Parse a checkpoint. Raises ValueError."""
        note = Note.parse(text)
        return cls(Checkpoint.parse(note.text), note)


@dataclass(frozen=True, slots=True)
class SignedCheckpoints:
    """All that a checkpoint file says, from the first to the last.

    `complete_bytes` is how long the file is without a last checkpoint that was never finished, as after a crash.
    """

    path: Path
    all: tuple[SignedCheckpoint, ...]
    complete_bytes: int
    has_incomplete_tail: bool

    @classmethod
    def parse(cls, path: Path, data: bytes) -> "SignedCheckpoints":
        """Parse a checkpoint file; `path` is for error messages. Raises InvalidCheckpointFile."""
        if (reason := _editor_change_hint(data)) is not None:
            raise _invalid_file(path, reason)
        signed_checkpoints: list[SignedCheckpoint] = []
        offset = 0
        while (match := _COMPLETE_CHECKPOINT.match(data, offset)) is not None:
            try:
                signed_checkpoints.append(SignedCheckpoint.parse(match[1].decode()))
            except ValueError as error:
                raise _invalid_file(path, f"checkpoint {len(signed_checkpoints) + 1} is corrupted: {error}") from error
            offset = match.end()
        if offset < len(data) and not (
            signed_checkpoints and _is_incomplete_tail(data[offset:], signed_checkpoints[-1].checkpoint.origin)
        ):
            raise _invalid_file(
                path,
                f"what follows its {len(signed_checkpoints)} checkpoints is none"
                if signed_checkpoints
                else "there is no checkpoint in it",
            )
        for number, (earlier, later) in enumerate(
            pairwise(signed_checkpoint.checkpoint for signed_checkpoint in signed_checkpoints), 2
        ):
            if later.origin != earlier.origin:
                raise _invalid_file(
                    path, f"checkpoint {number} is of {later.origin}, the one before it of {earlier.origin}"
                )
            if later.size < earlier.size or (later.size == earlier.size and later.root != earlier.root):
                raise _invalid_file(path, f"checkpoint {number} can't follow the one before it")
        return cls(path, tuple(signed_checkpoints), offset, has_incomplete_tail=offset < len(data))

    def with_size(self, size: int) -> SignedCheckpoint | None:
        """Return the last checkpoint with `size` events, or None."""
        return next(
            (
                signed_checkpoint
                for signed_checkpoint in reversed(self.all)
                if signed_checkpoint.checkpoint.size == size
            ),
            None,
        )

    def require_signatures(self, key: PublicKey, previous_keys: Sequence[PublicKey] = ()) -> None:
        """Raise InvalidCheckpointFile at the first checkpoint that isn't signed by this key, or by a previous one."""
        for number, signed_checkpoint in enumerate(self.all, 1):
            if not any(accepted.has_signed(signed_checkpoint.note) for accepted in (key, *previous_keys)):
                raise _invalid_file(self.path, f"checkpoint {number} is not signed by {key}")

    def verify_cosignatures(self, witnesses: Sequence[WitnessKey]) -> list[tuple[Cosignature, ...]]:
        """Return the cosignatures of these witnesses, for each checkpoint.

        Raises InvalidCheckpointFile if one is not valid, or if a witness has not cosigned the last checkpoint.
        """
        cosignatures: list[tuple[Cosignature, ...]] = []
        for number, signed_checkpoint in enumerate(self.all, 1):
            try:
                found = [witness.cosignature(signed_checkpoint.note) for witness in witnesses]
            except ValueError as error:
                raise _invalid_file(self.path, f"checkpoint {number}: {error}") from error
            cosignatures.append(tuple(cosignature for cosignature in found if cosignature is not None))
            missing = [str(witness) for witness, one in zip(witnesses, found, strict=True) if one is None]
            if missing and number == len(self.all):
                raise _invalid_file(self.path, f"the last checkpoint is not cosigned by {missing[0]}")
        return cosignatures


class CheckpointFile:
    """A checkpoint file. It is only ever appended to, by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> SignedCheckpoints:
        """Return all checkpoints in the file. Raises InvalidCheckpointFile if it is missing or invalid."""
        return SignedCheckpoints.parse(self.path, self._data())

    def read_nonempty(self) -> SignedCheckpoints:
        """All checkpoints in the file, at least one. Raises InvalidCheckpointFile."""
        checkpoints = self.read()
        if not checkpoints.all:
            raise _invalid_file(self.path, "there is no checkpoint in it")
        return checkpoints

    def read_trusted(self) -> tuple[SignedCheckpoint, ...]:
        """Return the checkpoints in a checkpoint file or in a file of one checkpoint. Raises InvalidCheckpointFile."""
        data = self._data()
        try:
            return (SignedCheckpoint.parse(data.decode()),)
        except ValueError:
            return SignedCheckpoints.parse(self.path, data).all

    def _data(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError as error:
            raise InvalidCheckpointFile(
                f"There is no checkpoint file at {self.path}; create it with 'tallybook checkpoint create'.",
                field="file",
                value=self.path,
            ) from error
        except OSError as error:
            raise _invalid_file(self.path, error.strerror) from error

    def append(self, checkpoints: SignedCheckpoints, note: Note) -> None:
        """Append a checkpoint to those that were read, in the place of an unfinished one; on disk when this returns."""
        try:
            with self.path.open("r+b") as file:
                file.truncate(checkpoints.complete_bytes)
                file.seek(checkpoints.complete_bytes)
                file.write(f"{note}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _invalid_file(self.path, error.strerror) from error

    @contextmanager
    def locked(self) -> Generator[None]:
        """Prevent other processes from appending. Create the file if it does not exist.

        An empty file that was created here is removed again if the block raises an error.
        """
        file, is_created = self._lock()
        with file:
            try:
                yield
            except BaseException:
                if (
                    is_created and not self._data()
                ):  # else somebody had the lock, and checkpointed, before it was had here
                    with suppress(OSError):  # Windows keeps open files; the next checkpoint creates an empty one
                        self.path.unlink()
                raise

    def _lock(self) -> tuple[BinaryIO, bool]:
        """Return the locked file, and whether it was created."""
        while True:
            try:
                file, is_created = _open_or_create(self.path)
                with ExitStack() as stack:
                    stack.enter_context(file)
                    sync_folder(self.path.parent)
                    if fcntl is not None:
                        fcntl.flock(file, fcntl.LOCK_EX)
                    if _is_still_at(self.path, file):  # or who began it was refused, and removed it
                        stack.pop_all()
                        return file, is_created
            except OSError as error:
                raise _invalid_file(self.path, error.strerror) from error


def _open_or_create(path: Path) -> tuple[BinaryIO, bool]:
    try:
        return open(path, "xb", opener=private_opener), True
    except FileExistsError:
        return open(path, "ab", opener=private_opener), False


def _is_still_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _editor_change_hint(data: bytes) -> str | None:
    """Return what an editor or a text-mode copy added to the file, if that is why it cannot be parsed."""
    without_bom = data.removeprefix(BOM_UTF8)
    normalized = without_bom.replace(b"\r\n", b"\n")
    match = (
        None if normalized == data else _COMPLETE_CHECKPOINT.match(normalized + b"\n")
    )  # also of a checkpoint by itself
    if match is None:
        return None
    try:
        SignedCheckpoint.parse(match[1].decode())
    except ValueError:
        return None
    additions = [
        *(["a byte order mark at its start"] if without_bom != data else []),
        *(["a carriage return at the ends of lines"] if normalized != without_bom else []),
    ]
    return f"it has {' and '.join(additions)}, which no checkpoint has; an editor or a copy as text may have added that"


def _is_incomplete_tail(rest: bytes, origin: str) -> bool:
    """Return whether this is an incomplete last checkpoint, not a corrupted one that others follow."""
    first_line = f"{origin}\n".encode()
    return (first_line.startswith(rest) or rest.startswith(first_line)) and _COMPLETE_CHECKPOINT.search(rest) is None


def _invalid_file(path: Path, reason: str | None) -> InvalidCheckpointFile:
    return InvalidCheckpointFile(f"{path}: {reason}.", field="file", value=path)
