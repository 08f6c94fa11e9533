"""The zip file of an evidence pack: files that are written one after the other, and the list of their hashes."""

import hashlib
import os
import zipfile
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from ...domain.errors import InvalidParameter
from ..storage.private_files import private_opener, sync_folder

_BUFFER_BYTES = 1 << 16


class HashingWriter:
    """Writes to a file and hashes what it writes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._buffer = bytearray()
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Write bytes."""
        self._buffer += data
        if len(self._buffer) >= _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered."""
        self._file.write(self._buffer)
        self.digest.update(self._buffer)
        self._buffer.clear()


class PackFile:
    """A zip file. `sha256` has the digest of each file in it."""

    def __init__(self, file: IO[bytes], at: datetime) -> None:
        self._archive = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)
        self._date_time = at.timetuple()[:6]
        self.sha256: dict[str, str] = {}

    @contextmanager
    def open(self, name: str) -> Generator[HashingWriter]:
        """Open a new file in the pack. All files have the time of the pack, so that equal packs are equal files."""
        entry = zipfile.ZipInfo(name, self._date_time)
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o644 << 16
        with self._archive.open(entry, "w", force_zip64=True) as file:
            writer = HashingWriter(file)
            yield writer
            writer.flush()
        self.sha256[name] = writer.digest.hexdigest()

    def add(self, name: str, data: bytes) -> None:
        """Add a file."""
        with self.open(name) as file:
            file.write(data)

    def file_list(self) -> bytes:
        """Return the list of the files in the form of `sha256sum`."""
        return "".join(f"{digest}  {name}\n" for name, digest in sorted(self.sha256.items())).encode()

    def close(self) -> None:
        """Write the directory of the zip file."""
        self._archive.close()


@contextmanager
def new_pack_file(path: Path, at: datetime, *, overwrite: bool) -> Generator[PackFile]:
    """Create a pack at `path`, which appears there when it is complete. Raises InvalidParameter."""
    if path.exists() and not overwrite:
        raise InvalidParameter(f"{path} exists already; set overwrite to replace it.", field="file", value=path)
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        with open(unfinished, "wb", opener=private_opener) as file:
            with closing(PackFile(file, at)) as pack:
                yield pack
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise InvalidParameter(f"{path} can't be written: {error.strerror}.", field="file", value=path) from error
    finally:
        unfinished.unlink(missing_ok=True)
