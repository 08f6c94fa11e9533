"""Gaps: ranges between closed periods of a customer that belong to none of them."""

from datetime import datetime

import msgspec

from .....domain.closed_period import ClosedPeriod
from .... import adjustment_results
from ..api_types import Number, encode_decimal, to_unix
from ..ledgers import ServedLedger


class PeriodGap(msgspec.Struct, kw_only=True):
    """A range between two closed periods of a customer that belongs to neither, with its usage now."""

    aggregated_value: Number
    count: int
    end_time: int
    start_time: int


def adjacent_gaps(
    period: ClosedPeriod, ledger: ServedLedger, as_of: datetime | int | None
) -> tuple[PeriodGap | None, PeriodGap | None]:
    """Return the gaps before and after a closed period; None if the adjacent one adjoins it, or if there is none."""
    gaps = ledger.metering.periods.gaps(
        period.event_name, period.customer, start=period.start, end=period.end, as_of=as_of
    )
    before = next((_to_object(gap) for gap in gaps if gap.end == period.start), None)
    after = next((_to_object(gap) for gap in gaps if gap.start == period.end), None)
    return before, after


def _to_object(gap: adjustment_results.PeriodGap) -> PeriodGap:
    return PeriodGap(
        aggregated_value=encode_decimal(gap.value),
        count=gap.count,
        end_time=to_unix(gap.end),
        start_time=to_unix(gap.start),
    )
