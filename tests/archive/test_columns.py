"""The columns of a segment: both ways to decode them agree, and unreadable states are named."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application.archive.columns import (
    DECODED_COLUMNS,
    UnreadableState,
    decode_columns,
)
from tallybook.application.archive.ledger_rows import (
    FIRST_PAGE_SIZE,
    MAX_PAGE_BYTES,
    PAGE_SIZE,
    RowPage,
    ledger_pages,
)
from tallybook.application.archive.usage_columns import MAX_PAYLOAD_KEYS, MIN_USAGE, ColumnDecoder
from tallybook.application.ledger.mapper import encode_meter_event
from tallybook.application.storage.ports import PositionedEventRow, RawEventRow
from tallybook.domain.meter_event import MeterEventData

from ..sampling import examples

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["", "null", ":null", "2026-10-01T00:00:00Z", "12.50", "true", '"}\n{"', "}\n{", "\\", "\x00", "\u2028", "😀"]
)
TIME = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))
USAGE = st.builds(
    MeterEventData,
    recorded_at=TIME,
    event_name=TEXT,
    payload=st.dictionaries(
        st.sampled_from(["customer", "tokens", "", "region", "null", "a b"]) | TEXT, TEXT, max_size=4
    ),
    occurred_at=TIME,
)
PLAIN = MeterEventData(datetime(2026, 1, 1, tzinfo=UTC), "m", {"customer": "a"}, datetime(2026, 1, 1, tzinfo=UTC))


def rows_of(states: Sequence[bytes], topic: str = "UsageRecorded") -> list[PositionedEventRow]:
    """Return rows with these states."""
    return [(position, f"event/{position}", 1, topic, state) for position, state in enumerate(states, 1)]


def decode_both_ways(rows: Sequence[PositionedEventRow], decoder: ColumnDecoder) -> list[dict[str, object]]:
    """Decode rows with Arrow's reader and event by event, check that the results are equal, and return them."""
    bulk, single = decoder.decode(RowPage.from_rows(rows)), decode_columns(rows)
    for name, bulk_column, single_column in zip(DECODED_COLUMNS.names, bulk, single, strict=True):
        assert bulk_column.type == single_column.type == DECODED_COLUMNS.field(name).type
        assert bulk_column.equals(single_column), name
        bulk_column.validate(full=True)
    columns = [column.to_pylist() for column in single]
    return [dict(zip(DECODED_COLUMNS.names, values, strict=True)) for values in zip(*columns, strict=True)]


@settings(max_examples=examples(60))
@given(st.lists(USAGE, min_size=1, max_size=8))
def test_columns_of_usage_are_the_stored_values(events: list[MeterEventData]) -> None:
    """All times from year 1 to 9999 to the microsecond, all texts; the entries of a payload are sorted by key."""
    states = [encode_meter_event(event) for event in events]
    decoded = decode_both_ways(rows_of(states), ColumnDecoder(min_usage=1))
    for event, columns in zip(events, decoded, strict=True):
        assert columns == {
            "recorded_at": event.recorded_at,
            "event_name": event.event_name,
            "occurred_at": event.occurred_at,
            "recorded_position": None,
            "payload": sorted(event.payload.items()),
        }


def test_arrow_decodes_what_ledgers_write() -> None:
    """Not only the slow way that decodes everything: also with new keys, missing keys and other events in a page."""
    decoder = ColumnDecoder()
    usage = [encode_meter_event(PLAIN)] * MIN_USAGE
    regions = [usage[0].replace(b"customer", b"region")] * 3
    for states in (usage, [*usage, *regions], usage):
        decode_both_ways(rows_of(states), decoder)
        assert decoder.decode_usage(states) is not None
    cancelled = usage[0].removesuffix(b"}") + b',"recorded_position":1,"reason":null,"by":null}'
    rows = rows_of([*usage, cancelled, *usage])
    rows[MIN_USAGE] = (MIN_USAGE + 1, "event/1", 2, "EventCancelled", cancelled)
    decoded = decode_both_ways(rows, decoder)
    assert decoded[MIN_USAGE] == {
        "recorded_at": PLAIN.recorded_at, "event_name": "m", "occurred_at": None,
        "recorded_position": 1, "payload": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "state",
    [
        b'{"recorded_at":"2026-01-01T00:00:00Z"}{"a":1}',
        encode_meter_event(PLAIN).replace(b':"a"', b":1"),
        encode_meter_event(PLAIN).replace(b':"a"', b":null"),
        encode_meter_event(PLAIN).replace(b"2026-01-01T00", b"2026-13-01T00"),
        encode_meter_event(PLAIN).replace(b"2026-01-01T00:00:00Z", b"now"),
        b'{"recorded_at":"2026-01-01T00:00:00Z","event_name":"\xff","payload":{}}',
        b"{}",
        b"",
        b"null",
        b"[1]",
    ],
)
def test_an_unreadable_state_is_named(state: bytes) -> None:
    """In the midst of others, and also if two states together look like the right number of documents."""
    usage = [encode_meter_event(PLAIN)] * MIN_USAGE
    for states in ([*usage, state, *usage], [*usage, usage[0] + usage[0], state, *usage]):
        with pytest.raises(UnreadableState, match=f"position {MIN_USAGE + 1} ") as raised:
            ColumnDecoder().decode(RowPage.from_rows(rows_of(states)))
        assert raised.value.position == MIN_USAGE + 1


@pytest.mark.parametrize(
    "states",
    [
        [encode_meter_event(PLAIN) * 2, b"{" + b" " * 9],
        [encode_meter_event(PLAIN)[:-1], b"}" + encode_meter_event(PLAIN)],
        [encode_meter_event(PLAIN) + b"\n" + encode_meter_event(PLAIN), b"{}"],
    ],
)
def test_documents_that_cross_states_are_not_decoded_at_once(states: list[bytes]) -> None:
    """Joined, they are as many documents as states."""
    assert ColumnDecoder().decode_usage(states) is None


def test_a_state_may_contain_a_newline() -> None:
    """It is a document for each state, whatever their number of lines."""
    decode_both_ways(rows_of([encode_meter_event(PLAIN).replace(b"{", b"{\n", 1)] * MIN_USAGE), ColumnDecoder())


def test_many_payload_keys_are_decoded_event_by_event() -> None:
    """A column for each key would take more memory than the events."""
    events = [
        MeterEventData(PLAIN.recorded_at, "m", {f"key-{n % 99}": "1"}, PLAIN.occurred_at) for n in range(MIN_USAGE)
    ]
    decoder = ColumnDecoder()
    decode_both_ways(rows_of([encode_meter_event(event) for event in events]), decoder)
    assert len(decoder.payload_keys) <= MAX_PAYLOAD_KEYS


def test_the_event_name_of_a_meter_is_that_of_its_stream() -> None:
    """A renamed meter stores only its new display name."""
    row = (1, "meter/a b", 2, "Renamed", b'{"recorded_at":"2026-01-01T00:00:00Z","display_name":"x"}')
    assert decode_columns([row])[1].to_pylist() == ["a b"]


class LongStates:
    """A ledger whose states are 10 bytes up to position 20,000, and then of another length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def head(self) -> int:
        """Return the last position."""
        return 60_000

    def stored_rows(self, first: int, last: int) -> Sequence[PositionedEventRow]:
        """Return rows."""
        lengths = {position: self.length if position > 20_000 else 10 for position in range(first, last + 1)}
        return [(position, "s", 1, "t", bytes(length)) for position, length in lengths.items()]

    def raw_rows(self, first: int, last: int, limit: int) -> Sequence[RawEventRow]:
        """Fail: only the error for a row that can't be read needs this."""
        raise AssertionError(f"rows {first} to {last} were read as they are stored")


@pytest.mark.parametrize(("length", "size"), [(10, PAGE_SIZE), (4_000, MAX_PAGE_BYTES // 4_001)])
def test_pages_are_small_if_states_are_long(length: int, size: int) -> None:
    """So the memory of an export does not depend on the size of events. All rows are read once."""
    pages = list(ledger_pages(LongStates(length), 1, 60_000))
    assert [row[0] for page in pages for row in page.rows] == list(range(1, 60_001))
    sizes = [len(page.rows) for page in pages]
    assert (sizes[:2], sizes[-2]) == ([FIRST_PAGE_SIZE, PAGE_SIZE], size)
