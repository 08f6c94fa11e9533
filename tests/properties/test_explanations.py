"""In any history, the contributions in an explanation add up to its total."""

from datetime import datetime
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from tallybook.application import Explanation

from .naive import counted_range
from .period_histories import (
    NAMES,
    RULES,
    TILES,
    TIME_RANGE,
    ReferenceLedger,
    Rules,
    Step,
    expected_total,
    expected_verdicts,
    histories,
    open_reference,
    run_steps,
)

BOUNDS = st.sampled_from([TIME_RANGE, *TILES["Europe/Berlin"], (TILES["UTC"][1][0], TILES["Asia/Kathmandu"][1][1])])


@given(RULES, histories(max_size=20), BOUNDS)
def test_an_explanation_adds_up_to_the_total(
    rules: Rules, history: list[Step], bounds: tuple[datetime, datetime]
) -> None:
    """For one customer and for all, now and as of any position or time, under the rules in force then."""
    with open_reference(rules) as reference:
        moments: list[tuple[int, datetime]] = []
        run_steps(
            reference, history, after=lambda: moments.append((reference.metering.catch_up(), reference.clock.now))
        )
        for position, now in [*moments[::4], moments[-1]]:
            for customer in (*NAMES, None):
                for as_of in (position, now):
                    check(reference, customer, bounds, as_of)
        for customer in (*NAMES, None):
            check(reference, customer, bounds, None)


def check(
    reference: ReferenceLedger, customer: str | None, bounds: tuple[datetime, datetime], as_of: int | datetime | None
) -> None:
    """Check that an explanation has the total, and that its events add up to it by its formula."""
    explanation = reference.metering.explain("calls", customer, *bounds, as_of=as_of)
    assert explanation.total == reference.metering.total("calls", customer, *bounds, as_of=as_of)
    assert sum(Fraction(event.contribution) for event in explanation.events) == Fraction(explanation.total.value)
    counted_events = [event for event in explanation.events if event.verdict == "counted"]
    assert len(counted_events) == explanation.total.count
    assert all(event.contribution == 0 for event in explanation.events if event.verdict != "counted")
    if isinstance(as_of, int):
        assert explanation.position == as_of
    if as_of is None:
        check_now(reference, customer, bounds, explanation)


def check_now(
    reference: ReferenceLedger, customer: str | None, bounds: tuple[datetime, datetime], explanation: Explanation
) -> None:
    """Check the verdict and contribution of each event against the naive model."""
    total = expected_total(reference.events, reference.rules, customer, bounds, whole_windows=True)
    assert Fraction(explanation.total.value) == total
    if customer is not None:
        actual = {event.identifier: (str(event.verdict), Fraction(event.contribution)) for event in explanation.events}
        whole_windows = counted_range(bounds, reference.rules.window, [])
        assert actual == expected_verdicts(reference.events, reference.rules, customer, whole_windows)


@given(RULES, histories())
def test_a_closed_total_stays_explained(rules: Rules, history: list[Step]) -> None:
    """Later changes don't affect the quantity, the revision or the digest of the counted events.

    Neither as of its position, unless the closing began or ended inside a window, where a closing under other windows
    ended or began, or has the rules of an earlier one.
    """
    with open_reference(rules) as reference:
        run_steps(reference, history)
        seen: set[tuple[str, datetime, datetime]] = set()
        for closed in reference.metering.periods.list("calls", reopened=True):
            period = closed.customer, closed.start, closed.end
            query = ("calls", closed.customer, *closed.counted_range)
            is_first, is_whole = (
                period not in seen,
                counted_range(closed.counted_range, closed.rules.event_time_window, []) == closed.counted_range,
            )
            seen.add(period)
            if closed.is_closed:
                explanation = reference.metering.explain("calls", *period, closed=True)
            elif is_first and is_whole:
                explanation = reference.metering.explain(*query, as_of=closed.position)
            else:
                continue
            total = explanation.total
            assert (total.value, total.billable, total.sum, total.count, total.last) == (
                closed.quantity, closed.billable, closed.sum, closed.count, closed.last,
            )  # fmt: skip
            assert (explanation.digest, explanation.revision) == (closed.digest, closed.revision)
            assert (explanation.formula, explanation.event_time_window) == (
                closed.rules.formula, closed.rules.event_time_window,
            )  # fmt: skip
            if not is_whole:
                continue
            now = reference.metering.explain(*query)
            values_now = counted_values(now, reference.rules.value_key)
            values_then = counted_values(explanation, closed.rules.value_key)
            assert (now.digest == closed.digest) == (values_now == values_then)


def counted_values(explanation: Explanation, value_key: str) -> list[object]:
    """Return position, time and value of each counted event, which the digest is computed from.

    `value_key` is that of the rules of the explanation; the value is quoted text under the formula unique_count.
    """
    return [
        (
            event.position,
            event.occurred_at,
            repr(event.payload[value_key]) if explanation.formula == "unique_count" else str(event.value),
        )
        for event in explanation.events
        if event.verdict == "counted"
    ]
