"""The columns of a segment, and how they follow from the stored events: decoded event by event.

`usage_columns.py` makes the same columns of usage in a third of the time; an export uses it if it can. A verification
uses these functions only, so that each way of reading is checked by the other.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ...domain.meter import STREAM_PREFIX as METER_PREFIX
from ...projections.ports import CANCELLATION_TOPICS, USAGE_RECORDED
from ..storage.ports import PositionedEventRow
from .arrow import compute, pa
from .ledger_rows import RowPage

TIME: Any = pa.timestamp("us", tz="UTC")
PAYLOAD: Any = pa.map_(pa.string(), pa.string())
STORED_COLUMNS: Any = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("topic", pa.string(), nullable=False),
        pa.field("state", pa.binary(), nullable=False),
    ]
)
DECODED_COLUMNS: Any = pa.schema(
    [
        pa.field("recorded_at", TIME, nullable=False),
        pa.field("event_name", pa.string()),
        pa.field("occurred_at", TIME),
        pa.field("recorded_position", pa.int64()),
        pa.field("payload", PAYLOAD),
    ]
)
SCHEMA: Any = pa.schema([*list(STORED_COLUMNS)[:-1], *DECODED_COLUMNS, STORED_COLUMNS.field("state")])
"""The columns of a segment. `state` is what the ledger stores; the decoded columns repeat parts of it."""


class UnreadableState(Exception):
    """The state of the event at `position` is not what a ledger stores."""

    def __init__(self, position: int, reason: Exception) -> None:
        super().__init__(f"the state at position {position} can't be read: {str(reason) or type(reason).__name__}")
        self.position = position


class _State(msgspec.Struct, gc=False):
    """The fields of a state that have columns. An event has some of them, and others that have no columns."""

    recorded_at: str
    event_name: str | None = None
    occurred_at: str | None = None
    recorded_position: int | None = None
    payload: dict[str, str] | None = None


_decode: Any = msgspec.json.Decoder(_State).decode
_decode_lines: Any = msgspec.json.Decoder(_State).decode_lines


def stored_columns(page: RowPage) -> list[Any]:
    """Return the arrays of STORED_COLUMNS."""
    return [pa.array(values, column.type) for values, column in zip(page.columns, STORED_COLUMNS, strict=True)]


def decode_columns(rows: Sequence[PositionedEventRow]) -> list[Any]:
    """Return the arrays of DECODED_COLUMNS. Raise UnreadableState."""
    states = _decode_states(rows)
    usage = [row[3] == USAGE_RECORDED for row in rows]
    try:
        recorded_at = pa.array([state.recorded_at for state in states], pa.string()).cast(TIME)
        occurred_at = pa.array(
            [state.occurred_at if is_usage else None for state, is_usage in zip(states, usage, strict=True)],
            pa.string(),
        ).cast(TIME)
    except pa.ArrowInvalid:
        raise next(_unreadable_times(rows)) from None
    return [
        recorded_at,
        pa.array(map(_event_name, rows, states), pa.string()),
        occurred_at,
        pa.array(
            [
                state.recorded_position if row[3] in CANCELLATION_TOPICS else None
                for row, state in zip(rows, states, strict=True)
            ],
            pa.int64(),
        ),
        _payloads([state.payload if is_usage else None for state, is_usage in zip(states, usage, strict=True)]),
    ]


def lines_of_objects(states: Sequence[bytes]) -> bytes | None:
    """Return the states joined by newlines, or None if one of them is not an object.

    Each state starts with `{` and ends with `}`. No JSON document contains `}`, a newline and `{`, so each state has at
    least one document, and with as many documents as states exactly one.
    """
    array = pa.array(states, pa.binary())
    is_object = compute.and_(compute.starts_with(array, "{"), compute.ends_with(array, "}"))
    return b"\n".join(states) if compute.all(is_object).as_py() else None


def _decode_states(rows: Sequence[PositionedEventRow]) -> list[_State]:
    """Decode all states at once; if that fails, one by one to find the one that can't be decoded."""
    lines = lines_of_objects([row[4] for row in rows])
    try:
        if lines is not None and len(states := _decode_lines(lines)) == len(rows):
            return states
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    return [_decode_state(row) for row in rows]


def _decode_state(row: PositionedEventRow) -> _State:
    try:
        return _decode(row[4])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableState(row[0], error) from error


def _unreadable_times(rows: Sequence[PositionedEventRow]) -> Iterator[UnreadableState]:
    """Yield an error for each row whose times can't be read."""
    for row in rows:
        state = _decode_state(row)
        try:
            pa.array([state.recorded_at, state.occurred_at], pa.string()).cast(TIME)
        except pa.ArrowInvalid as error:
            yield UnreadableState(row[0], error)


def _event_name(row: PositionedEventRow, state: _State) -> str | None:
    """Return the event name in the state; of an event of a meter without one, that of the meter."""
    if state.event_name is None and row[1].startswith(METER_PREFIX):
        return row[1].removeprefix(METER_PREFIX)
    return state.event_name


def _payloads(payloads: Sequence[dict[str, str] | None]) -> Any:
    """Return an array of maps. The entries of a map are sorted by their keys."""
    offsets: list[int | None] = []
    keys: list[str] = []
    values: list[str] = []
    for payload in payloads:
        offsets.append(None if payload is None else len(keys))
        if payload:
            sorted_keys = sorted(payload)
            keys += sorted_keys
            values += [payload[key] for key in sorted_keys]
    offsets.append(len(keys))
    return pa.MapArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(keys, pa.string()), pa.array(values, pa.string())
    )
