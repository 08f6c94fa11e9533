"""The times of recording never decrease: a row that is stored is not older than the one before it.

Clocks of several machines differ by milliseconds, and a clock is set back by a second now and then; a decision may take
minutes from the time that it says to its transaction. What is recorded then gets the time of the last row. A clock that
is further behind is wrong: nothing is stored.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from ...domain.errors import ClockBehind, LedgerCorrupted
from ...domain.timestamps import ensure_utc, to_iso
from .ports import EventRow

MAX_CLOCK_DELAY = timedelta(minutes=1)
_START = b'{"recorded_at":"'
"""What every state begins with; the time, in UTC, ends at a Z."""


def recorded_at_of(state: bytes) -> bytes | None:
    """Return the time of recording in a state, without its Z, so that earlier times are less; None if it has none."""
    if not state.startswith(_START):
        return None
    end = state.find(b"Z", len(_START), len(_START) + 30)
    return None if end < 0 else state[len(_START) : end]


def in_order_of_time(
    rows: Sequence[EventRow],
    last: bytes | None,
    max_delay: timedelta | None = MAX_CLOCK_DELAY,
    clock: Callable[[], datetime] | None = None,
) -> Sequence[EventRow]:
    """Return rows whose times of recording don't decrease after `last`, the time of the last row stored before them.

    A row that is behind is moved to the time of the one before it. Raises ClockBehind if `clock` is more than
    `max_delay` behind that time; None is any delay. Without a clock, the time of the row is that of the clock. Raises
    LedgerCorrupted if a row would get the time of the one before it, but that is no time.
    """
    if rows and _is_at_one_time(rows) and (last is None or (recorded_at_of(rows[0][3]) or last) >= last):
        return rows
    ordered: list[EventRow] = []
    for row in rows:
        time = recorded_at_of(row[3])
        if last is not None and time is not None and time < last:
            now = _parse(time) if clock is None else ensure_utc(clock(), "clock")
            delay = _parse_last(last) - now
            if max_delay is not None and delay > max_delay:
                raise ClockBehind(
                    f"The clock of this program is at {to_iso(now)}, {delay} behind the last event of the ledger, "
                    f"which was recorded at {last.decode()}Z. Nothing was stored: correct the clock. If that event is "
                    "ahead of the true time, wait until then, or lift max_clock_delay in the policy: events are then "
                    "recorded at its time.",
                    field="recorded_at",
                    value=now,
                )
            row = (*row[:3], _START + last + row[3][len(_START) + len(time) :])  # noqa: PLW2901
        elif time is not None:
            last = time
        ordered.append(row)
    return ordered


def _is_at_one_time(rows: Sequence[EventRow]) -> bool:
    """Return whether all states begin with the same time, as those of a batch do."""
    time = recorded_at_of(rows[0][3])
    if time is None:
        return False
    beginning = b"%b%bZ" % (_START, time)
    return all(row[3].startswith(beginning) for row in rows)


def _parse(time: bytes) -> datetime:
    return datetime.fromisoformat(f"{time.decode()}+00:00")


def _parse_last(time: bytes) -> datetime:
    """Return the time of the last event. Raise LedgerCorrupted if it is no time: another program has stored it."""
    try:
        return _parse(time)
    except ValueError as error:
        raise LedgerCorrupted(
            f"The last event of the ledger was recorded at {time.decode(errors='replace')!r}, which is no time, so "
            "nothing can be recorded after it. Ledgers don't write such events; 'tallybook verify --checkpoints' shows "
            "what was changed, and a backup has the original."
        ) from error
