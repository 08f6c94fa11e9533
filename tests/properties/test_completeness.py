"""In any history, usage is in exactly one of a closing, an adjustment and the status of the period."""

from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.domain.errors import InvalidTimeRange, PeriodOverlaps

from ..sampling import examples
from .coverage import first_examples, search, stop_if_covered
from .period_histories import (
    CANCELS,
    NAMES,
    RECORDS,
    TILES,
    TIME_RANGE,
    Bounds,
    ReferenceLedger,
    Rules,
    Step,
    expected_total,
    open_reference,
    run_steps,
)

ALL_TILES = [tile for tiles in TILES.values() for tile in tiles]
RUN_TILES = [tiles[1] for tiles in TILES.values()][:2]


def close(number: int) -> Step:
    """Close one of the tiles of a customer, unless it overlaps another closed period or no window starts in it."""

    return close_tile(NAMES[number % len(NAMES)], ALL_TILES[number % len(ALL_TILES)])


def close_tile(customer: str, tile: Bounds) -> Step:
    """Close a tile of a customer, unless it overlaps another closed period or no window starts in it."""

    def step(reference: ReferenceLedger) -> None:
        try:
            reference.metering.periods.close("calls", customer, *tile, allow_empty=True)
        except (InvalidTimeRange, PeriodOverlaps):
            return

    return step


def reopen(number: int) -> Step:
    """Reopen a closed period."""

    def step(reference: ReferenceLedger) -> None:
        if closed := reference.metering.periods.list("calls"):
            period = closed[number % len(closed)]
            reference.metering.periods.reopen(
                "calls", period.customer, period.start, period.end, reason="why", withdraw_settlements=True
            )

    return step


def settle(number: int) -> Step:
    """Settle an adjustment, or all adjustments among the lines of a period."""

    def step(reference: ReferenceLedger) -> None:
        periods, document = reference.metering.periods, f"document {len(reference.events)}-{number}"
        if number % 3 == 0:
            periods.invoice_lines(*RUN_TILES[number % len(RUN_TILES)], settle=document)
        elif found := [adjustment for adjustment in periods.adjustments("calls") if adjustment.is_open]:
            period = found[number % len(found)].period
            settled = periods.settle("calls", period.customer, period.start, period.end, document=document)
            assert settled.settlements[-1].document == document

    return step


def run(number: int) -> Step:
    """Run a billing run of one of two tiles."""
    return run_tile(RUN_TILES[number % len(RUN_TILES)])


def run_tile(tile: Bounds) -> Step:
    """Run a billing run of a tile, and check its control total."""

    def step(reference: ReferenceLedger) -> None:
        result = reference.metering.periods.run(*tile)
        (total,) = result.run.meters
        if not result.was_closed:
            assert total.sum_difference == sum(difference.sum for difference in result.differences)
            assert total.count_difference == sum(difference.count for difference in result.differences)

    return step


NUMBERS = st.integers(0, 99)
STEPS = (
    RECORDS, RECORDS, RECORDS, CANCELS, NUMBERS.map(close), NUMBERS.map(run), NUMBERS.map(run), NUMBERS.map(reopen),
    NUMBERS.map(settle),
)  # fmt: skip
HISTORIES = st.lists(st.one_of(*STEPS), min_size=8, max_size=30)
ADDITIVE_RULES = st.builds(
    Rules, st.sampled_from(["sum", "count"]), st.sampled_from([None, "hour", "day"]), has_filter=st.booleans()
)


@settings(max_examples=examples(60))
@given(ADDITIVE_RULES, HISTORIES)
def test_closings_adjustments_and_unbilled_usage_add_up_to_the_usage(rules: Rules, history: list[Step]) -> None:
    """For each customer, over all time; and verification finds each closing as it was computed."""
    with open_reference(rules) as reference:
        run_steps(reference, history)
        periods = reference.metering.periods
        (status,) = periods.status(*TIME_RANGE).meters
        adjustments = periods.adjustments("calls")
        for customer in NAMES:
            invoiced = sum(Fraction(period.invoiced.quantity) for period in periods.list("calls", customer))
            owed = sum(Fraction(found.difference) for found in adjustments if found.period.customer == customer)
            unbilled = sum(Fraction(usage.value) for usage in status.unbilled if usage.customer == customer)
            total = expected_total(reference.events, rules, customer, TIME_RANGE, whole_windows=True)
            assert invoiced + owed + unbilled == total
            assert [found for found in adjustments if found.period.customer == customer] == periods.adjustments(
                "calls", customer
            )
        for adjustment in periods.adjustments("calls", settled=True):
            roll = adjustment.roll_forward
            parts = (roll.late, roll.cancelled, roll.superseded, roll.restored, roll.recalculated)
            assert roll.frozen + sum(parts) == roll.now == roll.frozen + roll.settled + roll.open
        assert reference.metering.verify().differing_periods == ()


def change_window(number: int) -> Step:
    """Change the event time windows for all usage."""

    def step(reference: ReferenceLedger) -> None:
        reference.change_rules({"window": (None, "hour", "day")[number % 3]})

    return step


@settings(max_examples=examples(60))
@given(
    ADDITIVE_RULES,
    st.sampled_from(sorted(TILES)),
    st.lists(RECORDS, min_size=6, max_size=20),
    st.lists(st.sampled_from(NAMES), unique=True),
    st.lists(NUMBERS, min_size=2, max_size=2),
)
def test_closings_of_runs_and_one_by_one_tile_whatever_windows_applied(
    rules: Rules, zone: str, records: list[Step], closed: list[str], windows: list[int]
) -> None:
    """The usage of a period begins where that of the adjoining one ends; each run explains its control total."""
    first, second, third = TILES[zone][:3]
    history = [*records, *(close_tile(customer, first) for customer in closed)]
    history += [change_window(windows[0]), run_tile(second), change_window(windows[1]), run_tile(third)]
    with open_reference(rules) as reference:
        run_steps(reference, history)
        periods = reference.metering.periods
        for customer in NAMES:
            for earlier, later in pairwise(periods.list("calls", customer)):
                assert earlier.counted_range[1] <= later.counted_range[0]
                assert earlier.end < later.start or earlier.counted_range[1] == later.counted_range[0]
        assert reference.metering.verify().differing_periods == ()


def test_the_histories_cover_every_case() -> None:
    """Some have late customers, unbilled usage for each reason, and runs with differences for each reason."""
    expected = {"late", "unbilled open", "unbilled partly_closed", "not_closed", "closed_before", "run late", "settled"}
    seen: set[str] = set()

    @first_examples(1_000)
    @given(ADDITIVE_RULES, HISTORIES)
    def collect(rules: Rules, history: list[Step]) -> None:
        with open_reference(rules) as reference:
            run_steps(reference, history)
            periods = reference.metering.periods
            seen.update("late" for adjustment in periods.adjustments("calls") if adjustment.is_late)
            seen.update("settled" for period in periods.list("calls") if period.settlements)
            for meter in periods.status(*TIME_RANGE).meters:
                seen.update(f"unbilled {usage.reason}" for usage in meter.unbilled)
            for billing_run in periods.runs():
                for total in billing_run.meters:
                    seen.update({"not_closed"} if total.not_closed else ())
                    seen.update({"run late"} if total.late else ())
                    seen.update({"closed_before"} if total.closed_before else ())
        stop_if_covered(seen, expected)

    search(collect)
    assert seen >= expected
