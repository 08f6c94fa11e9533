"""In any history, usage is in exactly one of a closing, an adjustment and the status of the period."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import ClosedPeriod, RunDifferenceReason
from tallybook.domain.errors import InvalidTimeRange, PeriodOverlaps

from ..sampling import examples
from .coverage import first_examples, search, stop_if_covered
from .period_histories import (
    CANCELS,
    EARLIEST,
    NAMES,
    RECORDS,
    TILES,
    TIME_RANGE,
    Bounds,
    ReferenceLedger,
    Rules,
    Step,
    open_reference,
    run_steps,
)

ALL_TILES = [tile for tiles in TILES.values() for tile in tiles]
RUN_TILES = [*(tiles[1] for tiles in list(TILES.values())[:2]), TILES["UTC"][0], TIME_RANGE]
"""Days of two time zones, which overlap, and a range that overlaps them all."""
CHANGES: list[Mapping[str, str | bool | None]] = [
    {"has_filter": False}, {"has_filter": True}, {"customer_key": "customer"}, {"customer_key": "org"},
    {"value_key": "value"}, {"value_key": "units"}, {"window": None}, {"window": "hour"}, {"window": "day"},
]  # fmt: skip
WHOLE_DAYS = datetime.combine(TIME_RANGE[0], time(), UTC), datetime.combine(TIME_RANGE[1], time(), UTC) + timedelta(1)
"""The days of UTC with usage: the range has whole windows, whatever they are."""
CHANGE_TIMES = [EARLIEST, *(day[0] for day in TILES["UTC"][1:])]


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
    """Run a billing run of a tile: one of all meters, or one that names the meter, which is another run."""
    return run_tile(RUN_TILES[number % len(RUN_TILES)], ["calls"] if number >= 50 else None)


def run_tile(tile: Bounds, meters: list[str] | None = None) -> Step:
    """Run a billing run of a tile, and check its control total, and that it reports all usage that it leaves open."""

    def step(reference: ReferenceLedger) -> None:
        periods = reference.metering.periods
        result = periods.run(*tile, meters=meters)
        (total,) = result.run.meters
        if result.was_closed:
            return
        assert total.sum_difference == sum(difference.sum for difference in result.differences)
        assert total.count_difference == sum(difference.count for difference in result.differences)
        customers = {
            reason: {difference.customer for difference in result.differences if difference.reason is reason}
            for reason in RunDifferenceReason
        }
        adjustments = periods.adjustments("calls", start=tile[0], end=tile[1])
        late = {found.period.customer for found in adjustments if found.is_late and period_bounds(found.period) == tile}
        assert customers[RunDifferenceReason.LATE] <= late
        (status,) = periods.status(*tile).meters
        assert {usage.customer for usage in status.unbilled} <= customers[RunDifferenceReason.NOT_CLOSED]

    return step


def run_twice(number: int, record: Step) -> Step:
    """Run two billing runs of a tile, and record a meter event in between."""

    def step(reference: ReferenceLedger) -> None:
        tile = RUN_TILES[number % len(RUN_TILES)]
        run_tile(tile)(reference)
        record(reference)
        run_tile(tile, ["calls"])(reference)

    return step


def take_back(number: int) -> Step:
    """Reopen all closings of the range of a run."""

    def step(reference: ReferenceLedger) -> None:
        periods, tile = reference.metering.periods, RUN_TILES[number % len(RUN_TILES)]
        for period in periods.list("calls"):
            if period_bounds(period) == tile:
                periods.reopen("calls", period.customer, *tile, reason="a wrong range", withdraw_settlements=True)

    return step


def period_bounds(period: ClosedPeriod) -> Bounds:
    """Return the bounds of a closed period."""
    return period.start, period.end


def change_rules(changes: Mapping[str, str | bool | None], start: datetime) -> Step:
    """Change the rules for usage from a time on. Without changes, the newest rules apply to usage from then on."""
    return lambda reference: reference.change_rules_from(changes, start)


def correct_rules(changes: Mapping[str, str | bool | None], start: datetime, closing: Step) -> Step:
    """Change the rules from a time on, close under them, and let them apply to all usage, as they always should."""

    def step(reference: ReferenceLedger) -> None:
        reference.change_rules_from(changes, start)
        closing(reference)
        reference.change_rules_from({}, EARLIEST)

    return step


NUMBERS = st.integers(0, 99)
RULE_CHANGES = st.builds(change_rules, st.sampled_from(CHANGES), st.sampled_from(CHANGE_TIMES))
RUNS = st.builds(run_twice, NUMBERS, RECORDS)
CORRECTIONS = st.builds(
    correct_rules,
    st.sampled_from(CHANGES),
    st.sampled_from(CHANGE_TIMES[1:]),
    st.sampled_from([run_tile(TIME_RANGE), *(close_tile(customer, TIME_RANGE) for customer in NAMES)]),
)
STEPS = (
    RECORDS, RECORDS, RECORDS, CANCELS, NUMBERS.map(close), NUMBERS.map(run), RUNS, NUMBERS.map(reopen),
    NUMBERS.map(settle), NUMBERS.map(take_back), RULE_CHANGES, CORRECTIONS,
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
        (status,) = periods.status(*WHOLE_DAYS).meters
        adjustments = periods.adjustments("calls")
        for customer in NAMES:
            invoiced = sum(Fraction(period.invoiced.quantity) for period in periods.list("calls", customer))
            of_customer = [found for found in adjustments if found.period.customer == customer]
            owed = sum(Fraction(found.difference) for found in of_customer)
            by_rules = sum(Fraction(found.rules_difference) for found in of_customer)
            unbilled = sum(Fraction(usage.value) for usage in status.unbilled if usage.customer == customer)
            total = reference.expected_total(customer, WHOLE_DAYS)
            assert invoiced + owed + by_rules + unbilled == total
            assert of_customer == periods.adjustments("calls", customer)
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
    """Some have late customers, unbilled usage for each reason, rules differences, and runs that report each reason."""
    expected = {
        "late", "unbilled open", "unbilled partly_closed", "not_closed", "closed_before", "run late", "settled",
        "by rules",
    }  # fmt: skip
    seen: set[str] = set()

    @first_examples(1_000)
    @given(ADDITIVE_RULES, HISTORIES)
    def collect(rules: Rules, history: list[Step]) -> None:
        with open_reference(rules) as reference:
            run_steps(reference, history)
            periods = reference.metering.periods
            adjustments = periods.adjustments("calls")
            seen.update("late" for adjustment in adjustments if adjustment.is_late)
            seen.update("by rules" for adjustment in adjustments if adjustment.rules_difference)
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
