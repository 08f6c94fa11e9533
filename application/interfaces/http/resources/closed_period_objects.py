"""The objects of closed periods: frozen totals, their groups, and the settlements of their adjustments."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from .....domain.closed_period import ClosedPeriod, PeriodGroup
from ..api_types import Number, encode, encode_decimal, optional_number, optional_unix, to_unix
from ..dimension_parameters import Dimensions
from ..ledgers import ServedLedger
from ..object_ids import METER_PREFIX, encode_id
from ..rules_objects import RulesObject
from .closed_period_ids import IdentifiedPeriod, closed_period_id, iter_identified_periods
from .period_gaps import PeriodGap, adjacent_gaps


class ReopeningDetails(msgspec.Struct, kw_only=True):
    """When and why a closed period was reopened, and by whom."""

    reopened_at: int
    reason: str | None
    by: str | None
    on_behalf_of: str | None


class ClosedPeriodGroup(msgspec.Struct, kw_only=True):
    """The part of a closed period with these values of `dimensions`."""

    aggregated_value: Number
    billable_value: Number
    count: int
    dimensions: Dimensions
    last: Number | None
    sum: Number


class ClosedPeriodSettlement(msgspec.Struct, kw_only=True):
    """An adjustment that was settled by a credit note or an invoice, whose number is `document`.

    `aggregated_value` and `billable_value` are the totals of the period at `position`; the differences, which are what
    was settled, are relative to the closing or the settlement before.
    """

    aggregated_value: Number
    billable_difference: Number
    billable_value: Number
    by: str | None
    difference: Number
    document: str
    on_behalf_of: str | None
    position: int
    settled_at: int


class BillingClosedPeriod(msgspec.Struct, kw_only=True):
    """A closed period of a customer: its totals at `created`, from the ledger up to `position`.

    They have the usage from `counted_from` until `counted_until`, which are null if they are start_time and end_time.
    `digest` is the SHA-256 of the counted events, `rules` are the rules at closing. `gap_before` and `gap_after` are
    the ranges to the customer's previous and next closed period, if these don't adjoin. `groups` are the totals by
    the dimensions that the period was closed with. `settlements` are those of its adjustments, oldest first.
    """

    id: str
    object: Literal["billing.closed_period"] = "billing.closed_period"
    aggregated_value: Number
    billable_value: Number
    count: int
    counted_from: int | None
    counted_until: int | None
    created: int
    customer: str
    digest: str
    end_time: int
    gap_after: PeriodGap | None
    gap_before: PeriodGap | None
    groups: list[ClosedPeriodGroup]
    last: Number | None
    livemode: bool
    meter: str
    position: int
    reopening: ReopeningDetails | None
    revision: int
    rules: RulesObject
    settlements: list[ClosedPeriodSettlement]
    start_time: int
    status: Literal["closed", "reopened"]
    sum: Number


def closed_period_object(
    identified: IdentifiedPeriod, ledger: ServedLedger, as_of: datetime | int | None = None
) -> BillingClosedPeriod:
    """Return the object of a closed period."""
    period = identified.period
    gap_before, gap_after = adjacent_gaps(period, ledger, as_of) if period.is_closed else (None, None)
    return BillingClosedPeriod(
        id=closed_period_id(identified),
        aggregated_value=encode_decimal(period.quantity),
        billable_value=encode_decimal(period.billable),
        count=period.count,
        counted_from=optional_unix(period.counted_from),
        counted_until=optional_unix(period.counted_until),
        created=to_unix(period.closed_at),
        customer=period.customer,
        digest=period.digest,
        end_time=to_unix(period.end),
        gap_after=gap_after,
        gap_before=gap_before,
        groups=group_objects(period.groups),
        last=optional_number(period.last),
        livemode=ledger.livemode,
        meter=encode_id(METER_PREFIX, period.event_name),
        position=period.position,
        reopening=_reopening(period),
        revision=period.revision,
        rules=RulesObject.from_rules(period.rules),
        settlements=_settlements(period),
        start_time=to_unix(period.start),
        status="closed" if period.is_closed else "reopened",
        sum=encode_decimal(period.sum),
    )


def identify(ledger: ServedLedger, period: ClosedPeriod) -> IdentifiedPeriod:
    """Return a closed period of the ledger with its key, as it is: its stored one may have changed since."""
    found = [
        stored
        for stored in iter_identified_periods(ledger, period.event_name, period.customer, (period.start, period.end))
        if _identity(stored.period) == _identity(period)
    ]
    return IdentifiedPeriod(found[-1].key, period)


def variable_size(period: ClosedPeriod) -> int:
    """Return the size of those parts of the object of a period whose number is not limited."""
    return len(encode((group_objects(period.groups), _settlements(period))))


def group_objects(groups: Sequence[PeriodGroup]) -> list[ClosedPeriodGroup]:
    """Return the objects of the groups of a period."""
    return [
        ClosedPeriodGroup(
            aggregated_value=encode_decimal(group.quantity),
            billable_value=encode_decimal(group.billable),
            count=group.count,
            dimensions=group.dimensions,
            last=optional_number(group.last),
            sum=encode_decimal(group.sum),
        )
        for group in groups
    ]


def _identity(period: ClosedPeriod) -> tuple[datetime, datetime, datetime]:
    return period.start, period.end, period.closed_at


def _reopening(period: ClosedPeriod) -> ReopeningDetails | None:
    if period.reopened_at is None:
        return None
    return ReopeningDetails(
        reopened_at=to_unix(period.reopened_at), reason=period.reason, by=period.by, on_behalf_of=period.on_behalf_of
    )


def _settlements(period: ClosedPeriod) -> list[ClosedPeriodSettlement]:
    return [
        ClosedPeriodSettlement(
            aggregated_value=encode_decimal(settlement.quantity),
            billable_difference=encode_decimal(settlement.billable_difference),
            billable_value=encode_decimal(settlement.billable),
            by=settlement.by,
            difference=encode_decimal(settlement.difference),
            document=settlement.document,
            on_behalf_of=settlement.on_behalf_of,
            position=settlement.position,
            settled_at=to_unix(settlement.settled_at),
        )
        for settlement in period.settlements
    ]
