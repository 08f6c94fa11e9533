"""Single events are read from an archive by decoding little of it, and a thread that waits for others can stop."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from tallybook.application.archive import locations
from tallybook.application.archive.archived_events import MAX_CACHED_BYTES, ArchivedEvents
from tallybook.application.archive.segment_file import ROW_GROUP_BYTES, SegmentReader
from tallybook.application.checkpoints.leaves import event_leaf_data
from tallybook.application.checkpoints.merkle import leaf_hash
from tallybook.application.interruption import Interruption, QueryInterrupted, interruptible
from tallybook.application.storage.ports import PositionedEventRow
from tallybook.domain.errors import ArchiveUnavailable

from .ledgers import archived_rows, export, record

EVENTS = 9_000
POSITIONS = 1, 700, 1_024, 1_025, 5_000, 8_999, EVENTS + 1
"""They are in all row groups; the first event configures the meter."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive with several row groups."""
    folder = tmp_path_factory.mktemp("archive")
    url = f"sqlite:///{folder}/usage.db"
    record(url, 1, EVENTS)
    export(url, folder / "archive")
    return folder / "archive"


@pytest.fixture(scope="module")
def rows(archive: Path) -> dict[int, PositionedEventRow]:
    """Return the rows at POSITIONS."""
    all_rows = archived_rows(archive)
    return {position: all_rows[position - 1] for position in POSITIONS}


@pytest.mark.parametrize(("max_cached_bytes", "decodings"), [(MAX_CACHED_BYTES, 1), (1, 2)])
def test_row_groups_are_small_and_cached_within_a_limit(
    archive: Path,
    rows: dict[int, PositionedEventRow],
    max_cached_bytes: int,
    decodings: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each event comes from the one row group that it is in, which is decoded again if it was dropped meanwhile."""
    tables: list[Any] = []
    stored_rows = SegmentReader.stored_rows

    def decode(reader: SegmentReader, row_group: int) -> Any:
        tables.append(stored_rows(reader, row_group))
        return tables[-1]

    monkeypatch.setattr(SegmentReader, "stored_rows", decode)
    events = ArchivedEvents(max_cached_bytes=max_cached_bytes)
    leaf_hashes = {position: leaf_hash(event_leaf_data(row)) for position, row in rows.items()}
    for _ in range(2):
        assert events.read(archive.as_uri(), leaf_hashes) == rows
    assert events.read(archive.as_uri(), {700: leaf_hashes[700]}) == {700: rows[700]}
    events.close()
    row_groups = len({table.column("position")[0].as_py() for table in tables})
    assert 3 <= row_groups <= 5
    assert max(table.nbytes for table in tables) < ROW_GROUP_BYTES
    assert len(tables) == row_groups * decodings + (decodings - 1)


def test_a_position_that_the_archive_does_not_have_is_unavailable(archive: Path) -> None:
    """The archive may be an older copy."""
    with pytest.raises(ArchiveUnavailable, match=f"it has no event at position {EVENTS + 2}"):
        ArchivedEvents().read(archive.as_uri(), {EVENTS + 2: bytes(32)})


def test_a_query_does_not_wait_for_a_stuck_one_after_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would occupy a thread of the server until the other one ends."""
    is_stuck, may_end = Event(), Event()

    def open_slowly(*_: object) -> None:
        is_stuck.set()
        assert may_end.wait(60)
        raise ArchiveUnavailable("no connection.", field="destination")

    monkeypatch.setattr(locations, "resolve_destination", open_slowly)
    events = ArchivedEvents()
    with ThreadPoolExecutor() as pool:
        stuck = pool.submit(events.read, "s3://bucket/usage", {7: bytes(32)})
        assert is_stuck.wait(60)
        with interruptible(Interruption(timeout_seconds=0.01)), pytest.raises(QueryInterrupted):
            events.read("s3://bucket/usage", {8: bytes(32)})
        may_end.set()
        assert isinstance(stuck.exception(), ArchiveUnavailable)
