"""Uploaded usage files, in the ledger's database, so that any process can check one, import it, or show the result.

A file is stored in parts, as are the rows of it that were rejected. All of it is deleted after a day.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import PurePath
from tempfile import TemporaryFile
from typing import BinaryIO, Literal, cast

import msgspec
from msgspec.structs import replace

from ...domain.errors import InvalidParameter
from ...domain.timestamps import to_microseconds
from ..storage.key_value import KeyValueEntry, KeyValueStore
from ..uuid7 import uuid7
from ..validation import require_text
from .options import ImportOptions, ImportReport

UPLOAD_KIND, PART_KIND = "import upload", "import part"
PART_BYTES = 512 * 1024
MAX_UPLOAD_BYTES = 24 * 1024 * 1024
MAX_REJECTED_BYTES = 2 * MAX_UPLOAD_BYTES
MAX_UPLOADS = 20
"""How many are stored; the oldest are deleted for a new one."""
RETENTION = timedelta(days=1)
Content = Literal["file", "rejected"]


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """An uploaded file and its size. `options` and `report` are those of its last check or import.

    `rejected_bytes` is the size of the file with the rows that were rejected then.
    """

    id: str
    file_name: str
    size: int
    options: ImportOptions = ImportOptions()
    report: ImportReport | None = None
    rejected_bytes: int = 0


class UploadStore:
    """The uploads of a ledger."""

    def __init__(self, key_values: KeyValueStore, clock: Callable[[], datetime]) -> None:
        self._key_values = key_values
        self._clock = clock

    def add(self, file_name: str, contents: BinaryIO) -> Upload:
        """Store a file. Raises InvalidParameter if it is empty or larger than MAX_UPLOAD_BYTES."""
        self._delete_old()
        name = require_text(PurePath(file_name.replace("\\", "/")).name[-200:] or "upload", "file_name", 200)
        upload_id = uuid7().hex
        size = self._write_parts(upload_id, "file", contents)
        if not 0 < size <= MAX_UPLOAD_BYTES:
            self._delete(Upload(id=upload_id, file_name=name, size=size))
            problem = "is empty" if not size else f"has more than {MAX_UPLOAD_BYTES:,} bytes: divide or compress it"
            raise InvalidParameter(f"The file {problem}.", field="file", value=name)
        upload = Upload(id=upload_id, file_name=name, size=size)
        self._write(upload)
        return upload

    def get(self, upload_id: str) -> Upload:
        """Return an upload. Raises InvalidParameter if there is none."""
        key = require_text(upload_id, "upload", 100)
        entry = self._key_values.get(UPLOAD_KIND, [key]).get(key)
        if entry is None:
            message = f"There is no upload {key!r}; it is deleted after a day. Upload the file again."
            raise InvalidParameter(message, field="upload", value=key)
        return msgspec.json.decode(entry.body, type=Upload)

    def open(self, upload: Upload) -> BinaryIO:
        """Return a temporary file with the contents of an upload, which the caller closes."""
        file = cast(BinaryIO, TemporaryFile("w+b"))  # noqa: SIM115 - its caller closes it
        try:
            for part in self.parts(upload, "file"):
                file.write(part)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def parts(self, upload: Upload, content: Content) -> Iterator[bytes]:
        """Yield the parts of a file, or of its rejected rows, in order."""
        size = upload.size if content == "file" else upload.rejected_bytes
        for number in range(_part_count(size)):
            key = _part_key(upload.id, content, number)
            part = self._key_values.get(PART_KIND, [key]).get(key)
            if part is None:
                message = f"The upload {upload.id!r} was deleted meanwhile. Upload the file again."
                raise InvalidParameter(message, field="upload", value=upload.id)
            yield part.body

    def set_options(self, upload: Upload, options: ImportOptions) -> Upload:
        """Store how an upload is read from now on, without a report, and return it."""
        changed = replace(upload, options=options, report=None, rejected_bytes=0)
        self._write(changed)
        return changed

    def finish(self, upload: Upload, options: ImportOptions, report: ImportReport, rejected: BinaryIO | None) -> None:
        """Store the report of a check or an import with these options, and the file with its rejected rows.

        Without it if it has more than MAX_REJECTED_BYTES: a part of the rows would pass for all of them.
        """
        size = 0 if rejected is None else self._write_parts(upload.id, "rejected", rejected)
        if size > MAX_REJECTED_BYTES:
            self._delete_parts(upload.id, "rejected", size)
            size = 0
        self._write(replace(upload, options=options, report=report, rejected_bytes=size))

    def _write_parts(self, upload_id: str, content: Content, file: BinaryIO) -> int:
        """Store a file up to the first part beyond the limit, and return the size of what was stored."""
        size, number, at = 0, 0, to_microseconds(self._clock())
        while size <= MAX_REJECTED_BYTES and (part := file.read(PART_BYTES)):
            key = _part_key(upload_id, content, number)
            self._key_values.apply(upsert=[KeyValueEntry(PART_KIND, key, at, part)])
            size, number = size + len(part), number + 1
        return size

    def _write(self, upload: Upload) -> None:
        at = to_microseconds(self._clock())
        self._key_values.apply(upsert=[KeyValueEntry(UPLOAD_KIND, upload.id, at, msgspec.json.encode(upload))])

    def _delete_old(self) -> None:
        """Delete what is too old, and all but the newest uploads."""
        until = to_microseconds(self._clock() - RETENTION)
        for kind in (UPLOAD_KIND, PART_KIND):
            self._key_values.delete_due_before(kind, until, 10_000)
        for entry in self._key_values.scan(UPLOAD_KIND, limit=MAX_UPLOADS + 100, newest_first=True)[MAX_UPLOADS - 1 :]:
            self._delete(msgspec.json.decode(entry.body, type=Upload))

    def _delete(self, upload: Upload) -> None:
        self._key_values.apply(delete=[(UPLOAD_KIND, upload.id)])
        self._delete_parts(upload.id, "file", upload.size)
        self._delete_parts(upload.id, "rejected", upload.rejected_bytes)

    def _delete_parts(self, upload_id: str, content: Content, size: int) -> None:
        for number in range(_part_count(size)):
            self._key_values.apply(delete=[(PART_KIND, _part_key(upload_id, content, number))])


def _part_key(upload_id: str, content: Content, number: int) -> str:
    return f"{upload_id}/{content}/{number:05}"


def _part_count(size: int) -> int:
    return -(-size // PART_BYTES)
