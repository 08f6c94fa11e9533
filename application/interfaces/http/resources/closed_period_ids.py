"""Ids of closed periods: a period that is closed again after a reopening gets another id."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from .....domain.closed_period import ClosedPeriod
from .....domain.errors import InvalidParameter, MeterNotFound
from .....domain.rules_schedule import ALL_TIME
from .....domain.timestamps import to_microseconds
from ....validation import optional_customer, require_event_name
from ..api_types import from_unix
from ..ledgers import ServedLedger
from ..object_ids import (
    CLOSED_PERIOD_PREFIX,
    decode_compound_id,
    encode_compound_id,
    name_from_token,
    name_token,
)

Bounds = tuple[datetime | None, datetime | None]
ANY_BOUNDS: Bounds = None, None
PERIOD_ADJUSTMENT_PREFIX = "mtrpadj"
_LATE_OCCURRENCE = -1
"""Replaces the number of earlier closes in the key of a customer without a closing."""


class ClosedPeriodKey(NamedTuple):
    """The key of a closed period: meter, customer, bounds in microseconds, and the number of earlier closes."""

    event_name: str
    customer_token: str
    start: int
    end: int
    occurrence: int


class IdentifiedPeriod(NamedTuple):
    """A closed period and its key."""

    key: ClosedPeriodKey
    period: ClosedPeriod


def closed_period_id(identified: IdentifiedPeriod, prefix: str = CLOSED_PERIOD_PREFIX) -> str:
    """Return the id of a closed period, or of its adjustment with another prefix."""
    return encode_compound_id(prefix, identified.key)


def optional_range(start: int | None, end: int | None) -> Bounds:
    """Return a time range; None for an open end."""
    return None if start is None else from_unix(start), None if end is None else from_unix(end)


def iter_identified_periods(
    ledger: ServedLedger,
    event_name: str,
    customer: str | None,
    bounds: Bounds = ANY_BOUNDS,
    as_of: datetime | int | None = None,
) -> Iterator[IdentifiedPeriod]:
    """Yield the closed periods that overlap `bounds`, including reopened ones, with their keys, by customer."""
    start, end = bounds
    periods = ledger.metering.periods.iterate(event_name, customer, start=start, end=end, as_of=as_of, reopened=True)
    for name, of_customer in groupby(periods, attrgetter("customer")):
        token, occurrences = name_token(name), Counter[tuple[int, int]]()
        for period in of_customer:  # periods with the same bounds come in order of closing
            period_bounds = to_microseconds(period.start), to_microseconds(period.end)
            key = ClosedPeriodKey(event_name, token, *period_bounds, occurrences[period_bounds])
            yield IdentifiedPeriod(key, period)
            occurrences[period_bounds] += 1


def find_identified_period(
    ledger: ServedLedger, object_id: str, as_of: datetime | int | None = None, prefix: str = CLOSED_PERIOD_PREFIX
) -> IdentifiedPeriod | None:
    """Return the closed period with an id; None if it did not exist as of `as_of`."""
    key = decode_compound_id(prefix, object_id, ClosedPeriodKey)
    if key is None:
        return None
    try:
        identified_periods = iter_identified_periods(
            ledger, key.event_name, name_from_token(key.customer_token), as_of=as_of
        )
        return next((identified for identified in identified_periods if identified.key == key), None)
    except (MeterNotFound, InvalidParameter):
        return None


def find_closed_key(
    ledger: ServedLedger, event_name: str, customer: str, start: datetime, end: datetime, as_of: int
) -> ClosedPeriodKey:
    """Return the key of the period with these bounds that is closed as of a position."""
    identified_periods = iter_identified_periods(ledger, event_name, customer, (start, end), as_of)
    return next(
        key for key, period in identified_periods if period.is_closed and (period.start, period.end) == (start, end)
    )


def late_key(event_name: str, customer: str, start: datetime, end: datetime) -> ClosedPeriodKey:
    """Return the key of a customer without a closing in a period, which no closed period has."""
    bounds = to_microseconds(start), to_microseconds(end)
    return ClosedPeriodKey(event_name, name_token(customer), *bounds, _LATE_OCCURRENCE)


def identify_late_period(period: ClosedPeriod) -> IdentifiedPeriod:
    """Return the period that stands for a customer without a closing, with its key."""
    return IdentifiedPeriod(late_key(period.event_name, period.customer, period.start, period.end), period)


def late_period_key(object_id: str) -> ClosedPeriodKey | None:
    """Return the key in the id of an adjustment of a customer without a closing; None for any other id."""
    key = decode_compound_id(PERIOD_ADJUSTMENT_PREFIX, object_id, ClosedPeriodKey)
    if key is None or key.occurrence != _LATE_OCCURRENCE or not ALL_TIME[0] <= key.start <= key.end <= ALL_TIME[1]:
        return None
    customer = name_from_token(key.customer_token)
    try:
        require_event_name(key.event_name)
        optional_customer(customer)
    except InvalidParameter:
        return None
    return key
