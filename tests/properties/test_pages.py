"""For any payload and any corruption, a page that is decoded in bulk has the events of its rows."""

from collections.abc import Sequence
from contextlib import closing
from typing import cast

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.storage.sqlite.event_recorder import SQLiteEventRecorder
from tallybook.application.storage.url import resolve_store
from tallybook.domain.errors import ProjectionStopped
from tallybook.projections.page_reader import PageReader
from tallybook.projections.stored_events import PositionedEvent, decode_rows

TIME = "2026-10-01T00:00:00Z"
PAYLOADS = st.dictionaries(st.text(max_size=5), st.text(), max_size=3)
STATES = PAYLOADS.map(
    lambda payload: msgspec.json.encode(
        {"recorded_at": TIME, "event_name": "calls", "payload": payload, "occurred_at": TIME}
    )
)
FRAGMENTS = st.sampled_from([b"", b"]", b"}", b"{", b'"', b"\n", b",", b"\0", b"\xff", b"],[", b"null", b"1", b"\\"])


def insert_fragment(state: bytes, fragment: bytes, index: int, missing: int) -> bytes:
    """Return a state with a fragment inserted, in place of `missing` bytes."""
    start = index % (len(state) + 1)
    return state[:start] + fragment + state[start + missing :]


CORRUPTED_STATES = st.builds(insert_fragment, STATES, FRAGMENTS, st.integers(0, 400), st.integers(0, 2))
ReadResult = tuple[list[PositionedEvent], int | None]


def insert_states(ledger: Ledger, states: Sequence[bytes]) -> None:
    """Insert events with any states; a store rejects those whose time was corrupted, so that it is earlier or none."""
    insert = "INSERT INTO stored_events (originator_id, originator_version, topic, state) VALUES (?, 1, ?, ?)"
    recorder = cast(SQLiteEventRecorder, ledger.ledger_recorder)
    with recorder.store.transaction(commit=True) as cursor:
        cursor.execute("DROP TRIGGER recorded_times_never_decrease")
        cursor.executemany(insert, [(f"event/{number}", "UsageRecorded", state) for number, state in enumerate(states)])


def read_bulk(ledger: Ledger) -> ReadResult:
    """Return the events of the ledger decoded in bulk, and the position at which decoding stopped."""
    events: list[PositionedEvent] = []
    with PageReader(ledger, 100, 100) as pages:
        try:
            events += pages.read(0, ledger.head())
        except ProjectionStopped as stopped:
            return events, stopped.position
    return events, None


def row_by_row(ledger: Ledger) -> ReadResult:
    """Return the events of the ledger decoded row by row, and the position at which decoding stopped."""
    events: list[PositionedEvent] = []
    try:
        events.extend(decode_rows(ledger.read_page(0, 100)))
    except ProjectionStopped as stopped:
        return events, stopped.position
    return events, None


@given(st.lists(STATES, min_size=1, max_size=4), st.integers(0, 4), st.none() | CORRUPTED_STATES)
@example([b"{}"], 0, b"{},{}")
def test_a_bulk_page_equals_its_rows(states: list[bytes], index: int, corrupted: bytes | None) -> None:
    """Valid events are equal; both report the position of a corrupted event."""
    if corrupted is not None:
        states = [*states[:index], corrupted, *states[index:]]
    with closing(Ledger(resolve_store("sqlite://"))) as ledger:
        insert_states(ledger, states)
        (events, stopped), (expected, position) = read_bulk(ledger), row_by_row(ledger)
        assert stopped == position
        assert position is not None or events == expected
        assert expected == events or not events
