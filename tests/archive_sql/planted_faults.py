"""Faults of a statement, which the comparison with the ledger must find on every engine."""

from tallybook.application import Metering

from ..notation import Clock, moment
from ..properties.histories import LIFTED
from .comparison import decimal_rows, total_rows
from .engines import SqlEngine, stored_events

FAULTS = {
    "the oldest event of a window": ("SELECT MAX(position) FROM", "SELECT MIN(position) FROM"),
    "the end of the range is in it": ("occurred_us < ", "occurred_us <= "),
    "cancellations of any time": ("'CancelRevoked')\n        AND position <= ", "'CancelRevoked')\n        AND 0 <= "),
    "no sign": ("THEN -1 ELSE 1 END AS sign\n", "THEN 1 ELSE 1 END AS sign\n"),
}
"""Text of a statement, and what replaces it."""
_USAGE = (("-3", "10:05"), ("-5", "10:01"), ("7", "12:00"))


def finds_fault(engine: SqlEngine, fault: str) -> bool:
    """Return whether the result differs from the ledger's with the fault, and doesn't without it."""
    with Metering.open("sqlite://", policy=LIFTED, clock=Clock(moment("2026-12-01T00:00"))) as metering:
        metering.meters.configure("level", event_time_window="hour", customer_key="customer")
        for number, (value, at) in enumerate(_USAGE):
            payload = {"customer": "acme", "value": value}
            metering.record("level", payload, identifier=f"e{number}", timestamp=moment(f"2026-11-01T{at}"))
        position = metering.catch_up()
        metering.cancel("level", "e1")
        engine.load(stored_events(metering))
        bounds = moment("2026-11-01T10:00"), moment("2026-11-01T12:00")
        statement = metering.sql.totals("level", *bounds, dialect=engine.dialect, as_of=position).statement
        expected = total_rows(metering.totals("level", *bounds, as_of=position))
    old, new = FAULTS[fault]
    is_equal = decimal_rows(engine.run(statement)) == expected
    return is_equal and old in statement and decimal_rows(engine.run(statement.replace(old, new))) != expected
