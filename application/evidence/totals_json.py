"""The totals of an evidence pack as they are written to totals.json."""

from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from ...domain.closed_period import ClosedPeriod
from ...domain.decimals import to_plain_string
from ...domain.rules import Rules
from ...domain.timestamps import to_iso
from ..results import ExplanationStream
from .evidenced_totals import TotalToExplain
from .results import EvidenceKind, EvidenceTotal


def evidence_total(total: TotalToExplain, explanation: ExplanationStream, name: str) -> EvidenceTotal:
    """Return a total with the numbers of its explanation; that of a closing with its frozen numbers."""
    explained, closing, adjustment = explanation.total, total.closing, total.adjustment
    frozen: ClosedPeriod | None = closing.period if closing and total.kind is EvidenceKind.CLOSED else None
    counted_from, counted_until = explained.counted_from or total.start, explained.counted_until or total.end
    return EvidenceTotal(
        total.meter,
        total.kind,
        total.start,
        total.end,
        *((counted_from, counted_until) if closing is None else closing.period.counted_range),
        total.position,
        frozen.quantity if frozen else explained.value,
        frozen.billable if frozen else explained.billable,
        frozen.sum if frozen else explained.sum,
        frozen.count if frozen else explained.count,
        frozen.last if frozen else explained.last,
        explanation.event_count,
        frozen.digest if frozen else explanation.digest,
        explanation.revision if closing is None else closing.period.revision,
        total.rules,
        name,
        closing.position if closing else None,
        closing.settlement_position if closing else None,
        adjustment.difference if adjustment else None,
        adjustment.billable_difference if adjustment else None,
        adjustment.roll_forward if adjustment else None,
    )


def totals_json(customer: str, totals: tuple[EvidenceTotal, ...]) -> bytes:
    """Return the totals of a customer as JSON: numbers are plain decimal text, times RFC 3339 in UTC."""
    document = {"customer": customer, "totals": [_plain(total) for total in totals]}
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return to_plain_string(value)
    if isinstance(value, datetime):
        return to_iso(value)
    if isinstance(value, Rules):
        return value.model_dump(mode="json", by_alias=True)
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value
