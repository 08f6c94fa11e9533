"""Uploaded usage files, in the ledger's database, so that any process can check one, import it, or show the result.

A file is stored in parts, as are the rows of it that were rejected. All of it is deleted after a day. A new file of an
author replaces their oldest one if they have too many, but not one that a task reads, nor one of somebody else.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import PurePath
from tempfile import TemporaryFile
from typing import BinaryIO, Literal, cast

import msgspec
from msgspec.structs import replace

from ...domain.authorship import resolve_author
from ...domain.errors import InvalidParameter, TooManyUploads
from ...domain.timestamps import to_microseconds
from ..storage.key_value import KeyValueEntry, KeyValueStore
from ..uuid7 import uuid7
from ..validation import require_text
from .options import ImportOptions, ImportReport

UPLOAD_KIND, PART_KIND, READING_KIND = "import upload", "import part", "import reading"
PART_BYTES = 512 * 1024
MAX_UPLOAD_BYTES = 24 * 1024 * 1024
MAX_REJECTED_BYTES = 2 * MAX_UPLOAD_BYTES
MAX_UPLOADS, MAX_UPLOADS_PER_AUTHOR = 50, 10
RETENTION = timedelta(days=1)
Content = Literal["file", "rejected"]


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """An uploaded file, its size and its author. `options` and `report` are those of its last check or import.

    `rejected_bytes` is the size of the file with the rows that were rejected then, whose parts have keys of their own:
    those of `rejected_id`.
    """

    id: str
    file_name: str
    size: int
    by: str | None = None
    options: ImportOptions = ImportOptions()
    report: ImportReport | None = None
    rejected_bytes: int = 0
    rejected_id: str = ""

    def part_keys(self, content: Content) -> list[str]:
        """Return the keys of the parts of the file, or of its rejected rows, in order."""
        name, size = (self.id, self.size) if content == "file" else (self.rejected_id, self.rejected_bytes)
        return [_part_key(name, number) for number in range(-(-size // PART_BYTES))]


class UploadStore:
    """The uploads of a ledger."""

    def __init__(
        self, key_values: KeyValueStore, clock: Callable[[], datetime], *, max_uploads: int = MAX_UPLOADS,
        max_uploads_per_author: int = MAX_UPLOADS_PER_AUTHOR,
    ) -> None:  # fmt: skip
        self._key_values = key_values
        self._clock = clock
        self._max_uploads = max_uploads
        self._max_uploads_per_author = max_uploads_per_author

    def add(self, file_name: str, contents: BinaryIO) -> Upload:
        """Store a file of the author who acts.

        Raises InvalidParameter if it is empty or larger than MAX_UPLOAD_BYTES, and TooManyUploads if others have so
        many files that none more can be stored.
        """
        by = resolve_author(None).by
        self._delete_expired()
        self._make_room(by)
        name = require_text(PurePath(file_name.replace("\\", "/")).name[-200:] or "upload", "file_name", 200)
        upload_id = uuid7().hex
        size = self._write_parts(upload_id, contents)
        upload = Upload(id=upload_id, file_name=name, size=size, by=by)
        if not 0 < size <= MAX_UPLOAD_BYTES:
            self._delete(upload)
            problem = "is empty" if not size else f"has more than {MAX_UPLOAD_BYTES:,} bytes: divide or compress it"
            raise InvalidParameter(f"The file {problem}.", field="file", value=name)
        self._write(upload)
        return upload

    def get(self, upload_id: str) -> Upload:
        """Return an upload. Raises InvalidParameter if there is none."""
        key = require_text(upload_id, "upload", 100)
        entry = self._key_values.get(UPLOAD_KIND, [key]).get(key)
        if entry is None:
            message = f"There is no upload {key!r}; it is deleted after a day. Upload the file again."
            raise InvalidParameter(message, field="upload", value=key)
        return _decode(entry.body)

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
        for key in upload.part_keys(content):
            part = self._key_values.get(PART_KIND, [key]).get(key)
            if part is None:
                message = f"The upload {upload.id!r} was deleted meanwhile. Upload the file again."
                raise InvalidParameter(message, field="upload", value=upload.id)
            yield part.body

    def set_options(self, upload: Upload, options: ImportOptions) -> Upload:
        """Store how an upload is read from now on, without a report, and return it."""
        changed = replace(upload, options=options, report=None, rejected_bytes=0, rejected_id="")
        self._write(changed)
        self._delete_parts(upload, "rejected")
        return changed

    @contextmanager
    def reading(self, upload: Upload, task_kind: str) -> Generator[None]:
        """Let a task read an upload, which no newer one replaces in the block. One task of a kind runs at a time.

        If the process dies, that one upload is not replaced before the next task of this kind.
        """
        entry = KeyValueEntry(READING_KIND, task_kind, to_microseconds(self._clock()), upload.id.encode())
        self._key_values.apply(upsert=[entry])
        try:
            yield
        finally:
            self._key_values.apply(delete=[(READING_KIND, task_kind)])

    def finish(self, upload: Upload, options: ImportOptions, report: ImportReport, rejected: BinaryIO | None) -> None:
        """Store the report of a check or an import with these options, and the file with its rejected rows.

        Without it if it has more than MAX_REJECTED_BYTES: a part of the rows would pass for all of them. They replace
        those of the run that ended last, also if another one has ended meanwhile.
        """
        rejected_id = uuid7().hex
        size = 0 if rejected is None else self._write_parts(rejected_id, rejected)
        finished = replace(upload, options=options, report=report, rejected_bytes=size, rejected_id=rejected_id)
        if size > MAX_REJECTED_BYTES:
            self._delete_parts(finished, "rejected")
            finished = replace(finished, rejected_bytes=0)
        previous = self._key_values.get(UPLOAD_KIND, [upload.id]).get(upload.id)
        self._write(finished)
        if previous is not None:
            self._delete_parts(_decode(previous.body), "rejected")

    def _write_parts(self, name: str, file: BinaryIO) -> int:
        """Store a file up to the first part beyond the limit, and return the size of what was stored."""
        size, number, at = 0, 0, to_microseconds(self._clock())
        while size <= MAX_REJECTED_BYTES and (part := file.read(PART_BYTES)):
            self._key_values.apply(upsert=[KeyValueEntry(PART_KIND, _part_key(name, number), at, part)])
            size, number = size + len(part), number + 1
        return size

    def _write(self, upload: Upload) -> None:
        at = to_microseconds(self._clock())
        self._key_values.apply(upsert=[KeyValueEntry(UPLOAD_KIND, upload.id, at, msgspec.json.encode(upload))])

    def _delete_expired(self) -> None:
        until = to_microseconds(self._clock() - RETENTION)
        for kind in (UPLOAD_KIND, PART_KIND):
            self._key_values.delete_due_before(kind, until, 10_000)

    def _make_room(self, by: str | None) -> None:
        """Delete all but the newest uploads of an author, for a new one. Raises TooManyUploads if others fill it."""
        scanned = self._key_values.scan(UPLOAD_KIND, limit=2 * self._max_uploads, newest_first=True)
        uploads = [_decode(entry.body) for entry in scanned]
        read = {entry.body.decode() for entry in self._key_values.scan(READING_KIND, limit=10)}
        own = [upload for upload in uploads if upload.by == by]
        replaced = [upload for upload in own[self._max_uploads_per_author - 1 :] if upload.id not in read]
        if len(uploads) - len(replaced) >= self._max_uploads:
            raise TooManyUploads(
                f"{len(uploads):,} files are uploaded, and the limit is {self._max_uploads:,}. Each is deleted a day "
                "after it was uploaded: try again later.",
                field="file",
            )
        for upload in replaced:
            self._delete(upload)

    def _delete(self, upload: Upload) -> None:
        self._key_values.apply(delete=[(UPLOAD_KIND, upload.id)])
        self._delete_parts(upload, "file")
        self._delete_parts(upload, "rejected")

    def _delete_parts(self, upload: Upload, content: Content) -> None:
        for key in upload.part_keys(content):
            self._key_values.apply(delete=[(PART_KIND, key)])


def _decode(body: bytes) -> Upload:
    return msgspec.json.decode(body, type=Upload)


def _part_key(name: str, number: int) -> str:
    return f"{name}/{number:05}"
