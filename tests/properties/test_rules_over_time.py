"""Usage is counted under the newest revision that is in effect when it occurred, at every position."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import Metering, TallybookError
from tallybook.domain.errors import RulesChangeInRange

from ..notation import Clock
from ..sampling import examples
from .coverage import first_examples, search, stop_if_covered
from .histories import BEGINNING, LIFTED
from .naive import HistoryEntry, cancelled_identifiers, effective

MIDNIGHT = BEGINNING.replace(hour=0, minute=0, second=0, microsecond=0)
DAYS = [MIDNIGHT + timedelta(days=number) for number in range(5)]
CUSTOMERS = ("acme", "beta")


@dataclass(frozen=True)
class DatedRules:
    """Rules and the day from which on they apply to usage; None for all usage."""

    formula: str = "sum"
    event_time_window: str | None = None
    value_key: str = "tokens"
    effective_from: datetime | None = None
    revision: int = 1

    @property
    def arguments(self) -> dict[str, object]:
        """The arguments of `rules.change`."""
        return {"formula": self.formula, "event_time_window": self.event_time_window, "value_key": self.value_key}

    def quantity(self, values: list[Fraction]) -> Fraction:
        """Return the quantity of values in order of time."""
        if not values:
            return Fraction(0)
        match self.formula:
            case "sum":
                return sum(values, Fraction(0))
            case "count":
                return Fraction(len(values))
            case "max":
                return max(values)
            case _:
                return values[-1]


@dataclass
class Reference:
    """Everything that is stored: meter events and cancellations, and the revisions, each with its position."""

    entries: list[tuple[HistoryEntry, dict[str, str]]]
    revisions: list[tuple[int, DatedRules]]

    def rules_at(self, occurred_at: datetime, position: int) -> DatedRules:
        """Return the rules for usage of a time, as known at a position."""
        known = [rules for since, rules in self.revisions if since <= position]
        return next(
            rules for rules in reversed(known) if rules.effective_from is None or rules.effective_from <= occurred_at
        )

    def values(self, customer: str, start: datetime, end: datetime, position: int) -> list[Fraction]:
        """Return the counted values of a customer in a range that lies within one day, as known at a position."""
        rules = self.rules_at(start, position)
        visible = [
            replace(entry, value=payload.get(rules.value_key))
            for entry, payload in self.entries
            if entry.position <= position
        ]
        return [
            Fraction(entry.value or 0)
            for entry in effective(visible, "calls", rules.event_time_window)
            if entry.customer == customer and start <= entry.occurred_at < end
        ]


Step = Callable[[Metering, Clock, Reference], None]


def _record(number: int, minutes: int, customer: str, tokens: str, size: str) -> Step:
    payload = {"customer": customer, "tokens": tokens, "size": size}
    at = MIDNIGHT + timedelta(minutes=minutes)

    def run(metering: Metering, clock: Clock, reference: Reference) -> None:
        event = {"event_name": "calls", "payload": payload, "identifier": str(number), "timestamp": at}
        (receipt,) = metering.record_many([event])
        if receipt.outcome == "accepted" and receipt.position is not None:
            entry = HistoryEntry(receipt.position, clock.now, str(number), "calls", customer, at)
            reference.entries.append((entry, payload))

    return run


def _cancel(number: int) -> Step:
    def run(metering: Metering, clock: Clock, reference: Reference) -> None:
        known = {entry.identifier for entry, _ in reference.entries if not entry.cancels}
        revokes = str(number) in cancelled_identifiers([entry for entry, _ in reference.entries])
        if str(number) in known:
            if revokes:
                metering.revoke_cancel("calls", str(number), reason="cancelled by mistake")
            else:
                metering.cancel("calls", str(number))
            entry = HistoryEntry(metering.catch_up(), clock.now, str(number), cancels=True, revokes=revokes)
            reference.entries.append((entry, {}))

    return run


def _change(rules: DatedRules) -> Step:
    def run(metering: Metering, clock: Clock, reference: Reference) -> None:
        before = metering.meters.changes(limit=1_000)
        with suppress(TallybookError):  # nothing would change
            metering.rules.change("calls", rules.arguments, reason="a test", effective_from=rules.effective_from)
        after = metering.meters.changes(limit=1_000)
        if len(after) > len(before):
            revision = len(reference.revisions) + 1
            reference.revisions.append((after[-1].position, replace(rules, revision=revision)))

    return run


NUMBERS = st.sampled_from(["0", "1", "2.5", "-3", "40", "1.50"])
MINUTES_OF_DAYS = st.integers(0, 4 * 24 * 60 - 1)
RECORDINGS = st.builds(_record, st.integers(0, 12), MINUTES_OF_DAYS, st.sampled_from(CUSTOMERS), NUMBERS, NUMBERS)
RULES = st.builds(
    DatedRules,
    st.sampled_from(["sum", "count", "last", "max"]),
    st.sampled_from([None, "hour", "day"]),
    st.sampled_from(["tokens", "size"]),
    st.sampled_from([None, *DAYS[:4]]),
)
STEPS = st.one_of(RECORDINGS, RECORDINGS, RECORDINGS, st.integers(0, 12).map(_cancel), RULES.map(_change))
HISTORIES = st.lists(STEPS, min_size=6, max_size=18)


def run_history(metering: Metering, clock: Clock, history: list[Step]) -> Reference:
    """Configure a meter and run the steps."""
    metering.meters.configure("calls", customer_key="customer", value_key="tokens")
    reference = Reference([], [(metering.catch_up(), DatedRules())])
    for step in history:
        clock.now += timedelta(seconds=1)
        step(metering, clock, reference)
    return reference


def check_totals(metering: Metering, reference: Reference, position: int) -> None:
    """Check the total of each day and of all days, as known at a position."""
    for customer in CUSTOMERS:
        for start, end in pairwise(DAYS):
            rules = reference.rules_at(start, position)
            total = metering.total("calls", customer, start, end, as_of=position)
            values = reference.values(customer, start, end, position)
            assert (Fraction(total.value), total.count) == (rules.quantity(values), len(values))
        all_rules = [reference.rules_at(day, position) for day in DAYS[:-1]]
        if len({rules.formula for rules in all_rules}) > 1:
            with pytest.raises(RulesChangeInRange):
                metering.total("calls", customer, DAYS[0], DAYS[-1], as_of=position)
            continue
        values = [value for bounds in pairwise(DAYS) for value in reference.values(customer, *bounds, position)]
        total = metering.total("calls", customer, DAYS[0], DAYS[-1], as_of=position)
        assert Fraction(total.value) == all_rules[-1].quantity(values)


@settings(max_examples=examples(30))
@given(HISTORIES)
def test_usage_counts_under_the_revision_in_effect(history: list[Step]) -> None:
    """As of each position, and after a rebuild from nothing."""
    clock = Clock(DAYS[-1] + timedelta(days=1))
    with Metering.open("sqlite://", policy=LIFTED, clock=clock) as metering:
        reference = run_history(metering, clock, history)
        head = metering.catch_up()
        for position in range(1, head + 1):
            check_totals(metering, reference, position)
        assert metering.verify().is_equal
        rebuilt = metering.generations.rebuild()
        assert metering.generations.diff(rebuilt.number, window="day").differences == ()
        metering.generations.promote(rebuilt.number)
        check_totals(metering, reference, head)


@settings(max_examples=examples(30))
@given(HISTORIES)
def test_each_event_names_its_revision(history: list[Step]) -> None:
    """The contributions of a day add up to its total, and summaries are split where the formula changes."""
    clock = Clock(DAYS[-1] + timedelta(days=1))
    with Metering.open("sqlite://", policy=LIFTED, clock=clock) as metering:
        reference = run_history(metering, clock, history)
        head = metering.catch_up()
        for event in metering.events("calls", limit=1_000):
            assert event.revision == reference.rules_at(event.occurred_at, head).revision
        for start, end in pairwise(DAYS):
            explanation = metering.explain("calls", None, start, end)
            assert sum(event.contribution for event in explanation.events) == explanation.total.value
        for summary in metering.summaries("calls", None, DAYS[0], DAYS[-1], window="month"):
            total = metering.total("calls", None, summary.start, summary.end)
            assert (summary.value, summary.count) == (total.value, total.count)


def test_the_histories_cover_every_case() -> None:
    """Rules change for all usage and from a day on, in every formula and window, before and after usage."""
    expected = {
        "sum", "count", "last", "max", "no window", "hour", "day", "all usage", "from a day on", "a replaced revision",
        "no single quantity", "cancelled", "revoked", "usage under an older revision",
    }  # fmt: skip
    seen: set[str] = set()

    @first_examples(600)
    @given(HISTORIES)
    def collect(history: list[Step]) -> None:
        clock = Clock(DAYS[-1] + timedelta(days=1))
        with Metering.open("sqlite://", policy=LIFTED, clock=clock) as metering:
            reference = run_history(metering, clock, history)
            head = metering.catch_up()
        in_effect = [reference.rules_at(day, head) for day in DAYS[:-1]]
        for rules in in_effect:
            seen.update({rules.formula, rules.event_time_window or "no window"})
            seen.add("all usage" if rules.effective_from is None else "from a day on")
        seen.update({"no single quantity"} if len({rules.formula for rules in in_effect}) > 1 else ())
        seen.update({"a replaced revision"} if len({*in_effect}) < len(reference.revisions) else ())
        for entry, _ in reference.entries:
            if entry.cancels:
                seen.add("revoked" if entry.revokes else "cancelled")
            elif reference.rules_at(entry.occurred_at, head).revision < len(reference.revisions):
                seen.add("usage under an older revision")
        stop_if_covered(seen, expected)

    search(collect)
    assert seen >= expected
