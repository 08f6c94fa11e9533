"""For any history and selection, a bulk cancellation is that of each selected event, and its preview is exact."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import InvalidCancellation
from tallybook.application.commands import bulk_cancellations

from ..sampling import examples
from .histories import BEGINNING, CUSTOMERS, MeterRules, Step, meters_of, open_ledger, run_steps, steps
from .naive import HistoryEntry, cancelled_identifiers, compute_quantity, effective, entries_between
from .test_queries import ALL_TIME

EDGE = BEGINNING + timedelta(days=1)
SELECTIONS: Mapping[str, tuple[dict[str, Any], Callable[[HistoryEntry], bool]]] = {
    "customer": ({"customer": "acme"}, lambda entry: entry.customer == "acme"),
    "time": ({"start": EDGE}, lambda entry: entry.occurred_at >= EDGE),
    "recorded": ({"recorded_until": BEGINNING + timedelta(seconds=2)},
                 lambda entry: entry.recorded_at < BEGINNING + timedelta(seconds=2)),
    "identifier": ({"identifier_prefix": "1"}, lambda entry: entry.identifier.startswith("1")),
    "both": ({"customer": "beta", "end": EDGE}, lambda entry: entry.customer == "beta" and entry.occurred_at < EDGE),
}  # fmt: skip
"""The arguments of each selection, and whether an entry is selected."""


@settings(max_examples=examples(60))
@given(steps(meters=2), st.sampled_from(sorted(SELECTIONS)), st.integers(1, 4))
def test_a_bulk_cancellation_equals_the_reference_model(history: list[Step], kind: str, part_size: int) -> None:
    """The totals after it are those of the preview, and the first ones again after its revocation."""
    arguments, is_selected = SELECTIONS[kind]
    with open_ledger(meters_of(history)) as (metering, clock), pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk_cancellations, "EVENTS_PER_BATCH", part_size)
        entries = run_steps(metering, clock, history)
        for meter in meters_of(history):
            cancelled = cancelled_identifiers(entries)
            selected = [
                entry
                for entry in entries
                if entry.meter == meter.name and entry.identifier not in cancelled and is_selected(entry)
            ]
            before = quantities(meter, entries)
            preview = metering.cancellations.preview(meter.name, **arguments)
            assert preview.count == len(selected)
            if not selected:
                with pytest.raises(InvalidCancellation):
                    metering.cancellations.cancel_many(meter.name, **arguments, reason="why")
                continue
            after = quantities(meter, [*entries, *(cancellation_of(entry) for entry in selected)])
            months = {row.customer for row in preview.rows}
            assert months == {entry.customer for entry in selected}
            bulk = metering.cancellations.cancel_many(meter.name, **arguments, reason="why", digest=preview.digest)
            assert reported(metering.totals(meter.name, *ALL_TIME)) == after
            for row in preview.rows:
                total = metering.total(meter.name, row.customer, row.start, row.end)
                assert total.value == row.new_quantity
                assert Fraction(row.difference) == Fraction(row.new_quantity) - Fraction(row.quantity)
            metering.cancellations.revoke(bulk.cancellation_id, reason="why not")
            assert reported(metering.totals(meter.name, *ALL_TIME)) == before
            for row in preview.rows:
                assert metering.total(meter.name, row.customer, row.start, row.end).value == row.quantity
        assert metering.verify().is_equal


def cancellation_of(entry: HistoryEntry) -> HistoryEntry:
    """Return the cancellation of a meter event."""
    return HistoryEntry(entry.position + 10_000, entry.recorded_at, entry.identifier, cancels=True)


def quantities(meter: MeterRules, entries: list[HistoryEntry]) -> dict[str, Fraction]:
    """Return the quantity of each customer with counted usage by the naive model."""
    counted = effective(entries, meter.name, meter.window)
    by_customer = {customer: entries_between(counted, customer, *ALL_TIME) for customer in CUSTOMERS}
    return {
        customer: compute_quantity(meter.formula, usage, meter.multiplier)
        for customer, usage in by_customer.items()
        if usage
    }


def reported(totals: Iterable[Any]) -> dict[str, Fraction]:
    """Return the quantity of each customer."""
    return {total.customer: Fraction(total.value) for total in totals}
