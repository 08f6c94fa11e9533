"""Uploaded files: whose are replaced by newer ones, and what two runs on one file leave behind."""

from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO

import pytest
from tallybook.application import Metering, TooManyUploads
from tallybook.application.usage_import.formats import FileDialect, FileFormat
from tallybook.application.usage_import.import_tasks import CHECK, start_import, upload_store
from tallybook.application.usage_import.options import ImportOptions, ImportReport
from tallybook.application.usage_import.uploads import PART_BYTES, READING_KIND, RETENTION, Upload, UploadStore

from ..notation import Clock
from ..waiting import wait_until

CONTENTS = b"y" * (PART_BYTES + 1)


@pytest.fixture
def uploads(metering: Metering, clock: Clock) -> UploadStore:
    """The uploads of a ledger: five in all, and two of an author."""
    return UploadStore(metering.key_value_store(), clock, max_uploads=5, max_uploads_per_author=2)


def add(metering: Metering, uploads: UploadStore, author: str, name: str = "usage.csv") -> Upload:
    """Upload a file."""
    with metering.acting_as(author):
        return uploads.add(name, BytesIO(CONTENTS))


def stored(metering: Metering) -> list[str]:
    """Return the ids of the stored uploads, oldest first, each of which has all of its parts and no others."""
    store, key_values = upload_store(metering), metering.key_value_store()
    ids = [entry.key for entry in key_values.scan("import upload", limit=100)]
    keys = [
        key for upload in map(store.get, ids) for content in ("file", "rejected") for key in upload.part_keys(content)
    ]
    assert sorted(keys) == [entry.key for entry in key_values.scan("import part", limit=100)]
    return ids


def test_a_new_file_replaces_the_oldest_of_its_author(metering: Metering, uploads: UploadStore) -> None:
    """Not one of somebody else, nor one that a task reads."""
    others, first, second, third = (add(metering, uploads, author).id for author in ("eve", "ada", "ada", "ada"))
    assert stored(metering) == [others, second, third]
    assert first not in stored(metering)
    with uploads.reading(uploads.get(second), CHECK):
        fourth = add(metering, uploads, "ada").id
        assert stored(metering) == [others, second, third, fourth]
    fifth = add(metering, uploads, "ada", "../../etc/passwd")
    assert (stored(metering), fifth.file_name) == ([others, fourth, fifth.id], "passwd")
    assert b"".join(uploads.parts(fifth, "file")) == CONTENTS


def test_a_full_store_rejects_a_file(metering: Metering, uploads: UploadStore, clock: Clock) -> None:
    """Of an author who has too few to replace one. After a day there is room."""
    before = [add(metering, uploads, author).id for author in ("ada", "ada", "eve", "eve", "bob")]
    with pytest.raises(TooManyUploads, match="5 files are uploaded, and the limit is 5"):
        add(metering, uploads, "mallory")
    assert stored(metering) == before
    newest = add(metering, uploads, "ada").id
    assert stored(metering) == [*before[1:], newest]
    clock.now += RETENTION
    newest = add(metering, uploads, "mallory").id
    assert stored(metering) == [newest]


class Interrupted(BytesIO):
    """A file during whose second part something else happens."""

    def __init__(self, contents: bytes, meanwhile: Callable[[], None]) -> None:
        super().__init__(contents)
        self._meanwhile: Callable[[], None] | None = meanwhile

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes."""
        if self.tell() and self._meanwhile is not None:
            self._meanwhile()
            self._meanwhile = None
        return super().read(size)


def test_a_check_and_an_import_of_a_file_end_at_once(metering: Metering, uploads: UploadStore) -> None:
    """The rejected rows are those of the report that is shown, and nothing is left of the others."""
    upload = add(metering, uploads, "ada")

    def finish(rejected: BinaryIO, *, dry_run: bool) -> None:
        dialect = FileDialect(FileFormat.CSV, None)
        report = ImportReport(
            dry_run=dry_run, dialect=dialect, rows=1, accepted=0, duplicate=0, conflict=0, rejected=1, first_rows=[],
            first_rejected=[],
        )  # fmt: skip
        uploads.finish(upload, ImportOptions(), report, rejected)

    checked, imported = b"c" * (PART_BYTES + 1), b"i" * (PART_BYTES + 2)
    finish(BytesIO(b"of an earlier check"), dry_run=True)
    finish(Interrupted(imported, lambda: finish(BytesIO(checked), dry_run=True)), dry_run=False)
    shown = uploads.get(upload.id)
    assert shown.report is not None
    assert not shown.report.dry_run
    assert b"".join(uploads.parts(shown, "rejected")) == imported
    assert stored(metering) == [upload.id]
    uploads.set_options(shown, ImportOptions())
    assert stored(metering) == [upload.id]


def test_a_task_says_which_upload_it_reads(metering: Metering, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has ended, however it ends."""
    read: list[bytes] = []
    upload = upload_store(metering).add("usage.csv", BytesIO(b"not a usage file"))
    key_values = metering.key_value_store()

    def spy(_uploads: UploadStore, _upload: Upload) -> BinaryIO:
        read.extend(entry.body for entry in key_values.scan(READING_KIND, limit=10))
        return BytesIO(b"")

    monkeypatch.setattr(UploadStore, "open", spy)
    task = start_import(metering, upload, ImportOptions(), dry_run=True)
    wait_until(lambda: metering.tasks.get(task.id).ended_at is not None)
    assert read == [upload.id.encode()]
    assert not key_values.scan(READING_KIND, limit=10)
