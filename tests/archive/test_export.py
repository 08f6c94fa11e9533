"""An export adds exactly the events that are not archived yet, and its root is that of a checkpoint."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore
from tallybook.application import (
    Archive,
    ArchiveInUse,
    ArchiveMismatch,
    InvalidArchive,
    InvalidRequest,
    LedgerCorrupted,
)
from tallybook.application.archive import folder as folder_module
from tallybook.application.archive import reader
from tallybook.application.archive.arrow import parquet
from tallybook.application.archive.columns import SCHEMA
from tallybook.application.archive.folder import FolderDestination
from tallybook.domain.timestamps import to_microseconds

from ..checkpoints.ledgers import TRIGGERS
from ..contract.stores import Store
from ..sampling import examples
from .ledgers import (
    archived_rows,
    digest,
    export,
    open_metering,
    record,
    record_every_kind,
    rows_of_all_files,
    stored_rows,
)


@pytest.fixture(scope="module")
def ledger_of_every_kind(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of a ledger with events of every kind."""
    folder = tmp_path_factory.mktemp("ledger")
    with open_metering(f"sqlite:///{folder / 'usage.db'}") as metering:
        record_every_kind(metering)
        metering.checkpoints.create(folder / "usage.checkpoints")
    return f"sqlite:///{folder / 'usage.db'}"


def test_columns_of_every_kind_of_event(ledger_of_every_kind: str, tmp_path: Path) -> None:
    """Only usage has a time and a payload; cancellations and revocations have the position of their usage."""
    export(ledger_of_every_kind, tmp_path)
    (file,) = Archive.open(tmp_path).files
    table = parquet.read_table(file)
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    assert len({row["topic"] for row in rows}) >= 12
    usage = {row["position"]: row for row in rows if row["topic"] == "UsageRecorded"}
    changes = [row for row in rows if row["topic"] in ("EventCancelled", "CancelRevoked")]
    assert len(changes) >= 5
    for row in rows:
        assert row["recorded_at"] == datetime(2026, 11, 22, 10, tzinfo=UTC)
        assert (row["occurred_at"] is not None) == (row["payload"] is not None) == (row["position"] in usage)
        assert (row["recorded_position"] is not None) == (row in changes)
    for row in changes:
        assert usage[row["recorded_position"]]["stream"] == row["stream"]
    odd = next(row for row in usage.values() if row["stream"] == "event/odd")
    assert (odd["event_name"], odd["payload"]) == ("meter/strange é", [("customer", 'a"\\\n\u2028😀')])
    names = {row["topic"]: row["event_name"] for row in rows}
    assert (names["Renamed"], names["Deactivated"], names["PeriodClosed"]) == ("tokens", "meter/strange é", "tokens")
    assert (names["AccessKeyCreated"], names["EventsCancelledPart"]) == (None, None)


@settings(max_examples=examples(15))
@given(st.sampled_from([1, 2, 4, 16, 1 << 20]), st.data())
def test_the_root_is_that_of_the_checkpoint_however_segments_are_cut(
    ledger_of_every_kind: str, block_size: int, data: st.DataObject
) -> None:
    """Exports at any heads, with blocks of any size: the same rows, and the same root from the manifest alone."""
    rows = stored_rows(ledger_of_every_kind)
    checkpoints = Path(ledger_of_every_kind.removeprefix("sqlite:///")).with_name("usage.checkpoints")
    store = MemoryStore()
    heads = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    for head in [*heads, len(rows)]:
        exported = export(ledger_of_every_kind, store, block_size, head=head)
        assert exported.last_position == head
    archive = Archive.open(store)
    assert archived_rows(store) == rows
    assert archive.segments[-1].root in checkpoints.read_text()
    verification = archive.verify(checkpoints=checkpoints)
    assert (verification.differences, verification.matching_checkpoints) == ((), 1)


@pytest.mark.parametrize("block_size", [8, 1 << 20])
def test_an_export_adds_what_is_new(url: str, tmp_path: Path, block_size: int) -> None:
    """Segments are never changed, and end at blocks or at the head of their export."""
    folder = tmp_path / "archive"
    record(url, 1, 9)
    first = export(url, folder, block_size)
    digests = {file: digest(Path(file)) for file in Archive.open(folder).files}
    assert (first.rows, first.last_position) == (10, 10)
    record(url, 10, 20)
    second = export(url, folder, block_size)
    assert (second.rows, second.last_position) == (11, 21)
    again = export(url, folder, block_size)
    assert (again.segments, again.rows, again.bytes, again.root) == (0, 0, 0, second.root)
    segments = Archive.open(folder).segments
    ends = [8, 10, 16, 21] if block_size == 8 else [10, 21]
    assert [segment.last for segment in segments] == ends
    assert sum(segment.bytes for segment in segments) == first.bytes + second.bytes
    assert {file: digest(Path(file)) for file in digests} == digests
    assert rows_of_all_files(folder) == stored_rows(url)


@pytest.mark.parametrize("at", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)])
def test_the_first_and_the_last_time_are_exact(url: str, tmp_path: Path, at: datetime) -> None:
    """DuckDB reads the microseconds of any time that a ledger can have, and the exact bytes."""
    with open_metering(url) as metering:
        metering.meters.configure("tokens", formula="count", customer_key="customer")
        metering.record("tokens", {"customer": "acme"}, identifier="req", timestamp=at)
        metering.archive.export(tmp_path / "archive")
    query = "SELECT epoch_us(occurred_at), state FROM read_parquet($files) WHERE topic = 'UsageRecorded'"
    rows = duckdb.execute(query, {"files": list(Archive.open(tmp_path / "archive").files)}).fetchall()
    assert rows == [(to_microseconds(at), stored_rows(url)[1][4])]


def test_a_ledger_of_each_store_is_exported(store: Store, tmp_path: Path) -> None:
    """The rows of PostgreSQL are those of SQLite, and so is the root of the same events."""
    with store.metering() as metering:
        record_every_kind(metering)
        metering.checkpoints.create(tmp_path / "usage.checkpoints")
        exported = metering.archive.export(tmp_path)
        verification = metering.archive.verify(tmp_path, checkpoints=tmp_path / "usage.checkpoints")
    with closing(store.ledger()) as ledger:
        assert archived_rows(tmp_path) == ledger.stored_rows(1, ledger.head())
    assert exported.root in (tmp_path / "usage.checkpoints").read_text()
    assert (verification.differences, verification.matching_checkpoints) == ((), 1)
    assert verification.is_compared_with_ledger


def test_an_empty_ledger_has_an_empty_archive(tmp_path: Path) -> None:
    """No file is created for no events."""
    with open_metering("sqlite://") as metering:
        assert metering.archive.export(tmp_path).last_position == 0
    assert list(tmp_path.glob("events/*")) == []
    with pytest.raises(InvalidArchive, match=r"There is no archive at .*; create it with"):
        Archive.open(tmp_path)


def test_an_archive_of_another_ledger_is_rejected(url: str, tmp_path: Path) -> None:
    """Also one that ends later, as after a restored backup. Nothing is added."""
    folder, other = tmp_path / "archive", f"sqlite:///{tmp_path / 'other.db'}"
    record(url, 1, 9)
    export(url, folder)
    record(other, 101, 105)
    with pytest.raises(ArchiveMismatch, match="ends at position 10, but the ledger at 6: it is the archive of another"):
        export(other, folder)
    record(other, 106, 120)
    with pytest.raises(ArchiveMismatch, match="another event at position 10 than the ledger"):
        export(other, folder)
    assert rows_of_all_files(folder) == stored_rows(url)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE stored_events SET state = CAST(state AS TEXT) WHERE position = 4", "types text integer text text"),
        ("UPDATE stored_events SET topic = CAST(X'FF' AS TEXT) WHERE position = 4", "can't decode byte 0xff"),
        ("UPDATE stored_events SET state = X'7B7D' WHERE position = 4", "missing required field `recorded_at`"),
        ("DELETE FROM stored_events WHERE position = 4", "it is missing"),
    ],
)
def test_a_changed_row_is_not_archived(url: str, tmp_path: Path, statement: str, reason: str) -> None:
    """The error names its position. Nothing is left in the folder."""
    record(url, 1, 9)
    with closing(sqlite3.connect(tmp_path / "usage.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for trigger in TRIGGERS:
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(statement)
    with pytest.raises(LedgerCorrupted, match=f"position 4 can't be read: .*{reason}"):
        export(url, tmp_path / "archive")
    assert list((tmp_path / "archive" / "events").iterdir()) == []


def test_one_export_at_a_time_writes_to_a_folder(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one is rejected until the first has ended."""
    monkeypatch.setattr(folder_module, "LOCK_TIMEOUT_SECONDS", 0.01)
    record(url, 1, 3)
    with FolderDestination(tmp_path / "archive").exclusive(), pytest.raises(ArchiveInUse, match="Another process"):
        export(url, tmp_path / "archive")
    assert export(url, tmp_path / "archive").rows == 4


@pytest.mark.parametrize(
    ("destination", "message"),
    [
        ("gopher://bucket/prefix", "There can be no archive at 'gopher://bucket/prefix': .*s3://bucket/prefix"),
        ("file://host/path", "is not the URL of a folder: write file:///an/absolute/path"),
        (7, "'destination' must be the path of a file"),
    ],
)
def test_other_destinations_are_rejected(url: str, destination: object, message: str) -> None:
    """The message says what a destination is."""
    record(url, 1, 1)
    with pytest.raises(InvalidRequest, match=message):
        export(url, destination)


def test_a_url_of_a_folder(url: str, tmp_path: Path) -> None:
    """Special characters are escaped in it."""
    record(url, 1, 1)
    export(url, f"file://{tmp_path}/an%20archive")
    assert len(archived_rows(tmp_path / "an archive")) == 2


def test_files_of_others_are_left_alone(url: str, tmp_path: Path) -> None:
    """Only files with the names of segments are."""
    (tmp_path / "archive" / "events").mkdir(parents=True)
    others = [tmp_path / "archive" / "README", tmp_path / "archive" / "events" / "notes.parquet.unfinished"]
    for file in others:
        file.write_text("mine")
    record(url, 1, 1)
    export(url, tmp_path / "archive")
    assert [file.read_text() for file in others] == ["mine", "mine"]


def test_new_segments_have_the_permissions_of_the_manifest(url: str, tmp_path: Path) -> None:
    """Like the files of a ledger, an archive is private until its owner shares it."""
    record(url, 1, 1)
    export(url, tmp_path / "archive")
    manifest = tmp_path / "archive" / "manifest.jsonl"
    assert manifest.stat().st_mode & 0o777 == 0o600
    manifest.chmod(0o640)
    record(url, 2, 2)
    export(url, tmp_path / "archive")
    modes = [Path(file).stat().st_mode & 0o777 for file in Archive.open(tmp_path / "archive").files]
    assert (modes, manifest.stat().st_mode & 0o777) == ([0o600, 0o640], 0o640)


def test_without_the_extra_the_error_says_how_to_install_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger works without it."""

    def find_nothing(_package: str) -> None:
        return None

    monkeypatch.setattr(reader, "find_spec", find_nothing)
    record(url, 1, 1)
    with open_metering(url) as metering, pytest.raises(InvalidArchive, match=r"pip install 'tallybook\[archive\]'"):
        metering.archive.export("archive")
