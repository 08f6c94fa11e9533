"""Whatever stands in a payload or in what is stored, a page that is read at once says what its rows say."""

from contextlib import closing

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st
from tallybook.application.ledger import Ledger
from tallybook.application.ledger_url import locate
from tallybook.domain.errors import ProjectionStopped
from tallybook.projections.pages_ahead import PagesAhead
from tallybook.projections.stored_events import StoredEvent, read_rows

TIME = "2026-10-01T00:00:00Z"
PAYLOADS = st.dictionaries(st.text(max_size=5), st.text(), max_size=3)
STATES = PAYLOADS.map(
    lambda payload: msgspec.json.encode(
        {"recorded_at": TIME, "event_name": "calls", "payload": payload, "occurred_at": TIME}
    )
)
PIECES = st.sampled_from([b"", b"]", b"}", b"{", b'"', b"\n", b",", b"\0", b"\xff", b"],[", b"null", b"1", b"\\"])


def with_a_piece(state: bytes, piece: bytes, place: int, missing: int) -> bytes:
    """A state with something else in it, in the place of a few bytes or of none."""
    begins = place % (len(state) + 1)
    return state[:begins] + piece + state[begins + missing :]


DAMAGED = st.builds(with_a_piece, STATES, PIECES, st.integers(0, 400), st.integers(0, 2))
Read = tuple[list[StoredEvent], int | None]


def at_once(ledger: Ledger) -> Read:
    """The events of the ledger in one page, and where reading it stopped."""
    events: list[StoredEvent] = []
    with PagesAhead(ledger, 100, 100) as pages:
        try:
            events += pages.read(0, ledger.head())
        except ProjectionStopped as stopped:
            return events, stopped.position
    return events, None


def row_by_row(ledger: Ledger) -> Read:
    """The same by its rows."""
    events: list[StoredEvent] = []
    try:
        events.extend(read_rows(ledger.page(0, 100)))
    except ProjectionStopped as stopped:
        return events, stopped.position
    return events, None


@given(st.lists(STATES, min_size=1, max_size=4), st.integers(0, 4), st.none() | DAMAGED)
@example([b"{}"], 0, b"{},{}")
def test_a_page_says_what_its_rows_say(states: list[bytes], place: int, damaged: bytes | None) -> None:
    """Of sound events the same ones; where one isn't sound, its position is told by both."""
    if damaged is not None:
        states = [*states[:place], damaged, *states[place:]]
    with closing(Ledger(locate("sqlite://"))) as ledger:
        ledger.ledger_recorder.insert_rows(
            [(f"event/{number}", 1, "UsageRecorded", state) for number, state in enumerate(states)]
        )
        (events, stopped), (expected, position) = at_once(ledger), row_by_row(ledger)
        assert stopped == position
        assert position is not None or events == expected
        assert expected == events or not events
