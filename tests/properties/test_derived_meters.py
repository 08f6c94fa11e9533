"""A derived meter counts as an independent meter does to which each event is recorded a second time."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import Metering, TallybookError

from ..notation import Clock
from ..sampling import examples
from .coverage import first_examples, search, stop_if_covered
from .histories import BEGINNING, FORMULAS, LIFTED
from .test_page_workers import fold_in_worker, fold_rows

MIDNIGHT = BEGINNING.replace(hour=0, minute=0, second=0, microsecond=0)
DAYS = [MIDNIGHT + timedelta(days=number) for number in range(5)]
CUSTOMERS = ("acme", "beta")
SOURCE, DERIVED = "requests", "tokens"

Rules = dict[str, Any]


@dataclass
class Ledgers:
    """A ledger with a derived meter, and its twin with an independent meter of the same name and rules.

    In the twin, each event is recorded to the source and to that meter. `queried_at` are the times of the steps since
    the derived meter was configured.
    """

    ledger: Metering
    twin: Metering
    clock: Clock
    rules: Rules
    identifiers: list[str]
    queried_at: list[datetime]

    @property
    def is_configured(self) -> bool:
        """Whether the derived meter is configured."""
        return bool(self.queried_at)


Step = Callable[[Ledgers], object]


def outcome(call: Callable[[], Any]) -> str:
    """Return the code of the error that a call raises, or `done`."""
    try:
        call()
    except TallybookError as error:
        return error.code
    return "done"


def _record(minutes: int, payload: dict[str, str], omitted: tuple[str, ...]) -> Step:
    payload = {key: value for key, value in payload.items() if key not in omitted}
    at = MIDNIGHT + timedelta(minutes=minutes)

    def run(ledgers: Ledgers) -> None:
        identifier = str(len(ledgers.identifiers))

        def record(metering: Metering, event_name: str) -> str:
            name = f"{event_name} {identifier}"
            return outcome(lambda: metering.record(event_name, payload, identifier=name, timestamp=at))

        if not ledgers.is_configured and not _is_readable(payload, ledgers.rules):
            return  # otherwise the meter could never be configured
        in_twin = record(ledgers.twin, DERIVED)
        assert record(ledgers.ledger, SOURCE) == in_twin
        if in_twin == "done":
            assert record(ledgers.twin, SOURCE) == "done"
            ledgers.identifiers.append(identifier)

    return run


def _is_readable(payload: dict[str, str], rules: Rules) -> bool:
    matches = rules["filter"] is None or "kind" in payload
    needed = [*rules["dimension_keys"], *([] if rules["formula"] == "count" else [rules["value_key"]])]
    return not matches or all(key in payload for key in needed)


def _cancel(which: int) -> Step:
    def run(ledgers: Ledgers) -> None:
        if ledgers.identifiers:
            identifier = ledgers.identifiers[which % len(ledgers.identifiers)]
            ledgers.ledger.cancel(SOURCE, f"{SOURCE} {identifier}", reason="a test")
            for event_name in (SOURCE, DERIVED):
                ledgers.twin.cancel(event_name, f"{event_name} {identifier}", reason="a test")

    return run


def _configure(ledgers: Ledgers) -> None:
    if not ledgers.is_configured:
        ledgers.ledger.meters.configure(DERIVED, source=SOURCE, **ledgers.rules)
        ledgers.queried_at.append(ledgers.clock.now)


def _both(call: Callable[[Metering], Any]) -> Step:
    """Return a step that does the same in both ledgers once the meter is configured, with the same outcome."""

    def run(ledgers: Ledgers) -> None:
        if ledgers.is_configured:
            assert outcome(lambda: call(ledgers.ledger)) == outcome(lambda: call(ledgers.twin))

    return run


def _change(changes: Rules, effective_from: datetime | None) -> Step:
    return _both(
        lambda metering: metering.rules.change(DERIVED, changes, reason="a test", effective_from=effective_from)
    )


def _close(customer: str, day: int, *, is_reopened: bool) -> Step:
    period = DAYS[day], DAYS[day + 1]

    def close(metering: Metering) -> None:
        if is_reopened:
            with suppress(TallybookError):
                metering.periods.reopen(DERIVED, customer, *period, reason="a test")
        metering.periods.close(DERIVED, customer, *period)

    return _both(close)


def _rebuild(ledgers: Ledgers) -> None:
    rebuilt = ledgers.ledger.generations.rebuild()
    assert ledgers.ledger.generations.diff(rebuilt.number, window="day").differences == ()
    ledgers.ledger.generations.promote(rebuilt.number)


FILTER = {"key": "kind", "exists": True}
NUMBERS = st.sampled_from(["0", "1", "2.5", "-3", "40", "1.50"])
PAYLOADS = st.fixed_dictionaries(
    {
        "customer": st.sampled_from(CUSTOMERS),
        "tokens": NUMBERS,
        "size": NUMBERS,
        "region": st.sampled_from(["eu", "us"]),
    },
    optional={"kind": st.just("paid")},
)
OMITTED = st.sampled_from([(), (), (), ("tokens",), ("size",), ("region",)])
RULES = st.fixed_dictionaries(
    {
        "formula": st.sampled_from(FORMULAS),
        "event_time_window": st.sampled_from([None, None, "hour", "day"]),
        "customer_key": st.just("customer"),
        "value_key": st.sampled_from(["tokens", "size"]),
        "dimension_keys": st.sampled_from([(), ("region",)]),
        "filter": st.sampled_from([None, None, FILTER]),
        "multiplier": st.sampled_from([None, None, "1/3"]),
    }
)
MINUTES_OF_DAYS = st.integers(0, 4 * 24 * 60 - 1)
RECORDINGS = st.builds(_record, MINUTES_OF_DAYS, PAYLOADS, OMITTED)
STEPS = st.one_of(
    RECORDINGS,
    RECORDINGS,
    RECORDINGS,
    RECORDINGS,
    st.builds(_cancel, st.integers(0, 9)),
    st.just(_configure),
    st.builds(_change, RULES, st.sampled_from([None, *DAYS[:4]])),
    st.builds(_close, st.sampled_from(CUSTOMERS), st.integers(0, 3), is_reopened=st.booleans()),
    st.just(_rebuild),
)
HISTORIES = st.lists(STEPS, min_size=8, max_size=20)


def run_history(ledgers: Ledgers, history: Sequence[Step]) -> None:
    """Run the steps, and configure the derived meter at the end if none of them did."""
    for metering in (ledgers.ledger, ledgers.twin):
        metering.meters.configure(SOURCE, formula="count", customer_key="customer")
    ledgers.twin.meters.configure(DERIVED, **ledgers.rules)
    for step in (*history, _configure):
        ledgers.clock.now += timedelta(seconds=1)
        step(ledgers)
        if ledgers.is_configured:
            ledgers.queried_at.append(ledgers.clock.now)


def results(metering: Metering, as_of: datetime | None) -> list[object]:
    """Return everything that a ledger answers about the meter, without positions and recorded names."""
    found: list[object] = []
    for start, end in pairwise(DAYS):
        found += [
            metering.totals(DERIVED, start, end, as_of=as_of),
            [
                (event.identifier.split()[1], event.customer, event.verdict, event.contribution, event.revision,
                 event.superseded_by and event.superseded_by.split()[1], event.value, event.unique_value,
                 event.dimensions, event.reason)
                for event in metering.explain(DERIVED, None, start, end, as_of=as_of).events
            ],
        ]  # fmt: skip
    found.append(metering.summaries(DERIVED, None, DAYS[0], DAYS[-1], window="hour", as_of=as_of))
    found += [
        (period.customer, period.start, period.quantity, period.billable, period.sum, period.count, period.last,
         period.revision)
        for period in metering.periods.list(DERIVED, reopened=True, as_of=as_of)
    ]  # fmt: skip
    found += [
        (adjustment.period.start, adjustment.difference, adjustment.rules_difference,
         [(event.identifier.split()[1], event.verdict, event.before, event.change) for event in adjustment.events])
        for adjustment in metering.periods.adjustments(DERIVED, as_of=as_of)
    ]  # fmt: skip
    return found


@settings(max_examples=examples(60))
@given(RULES, HISTORIES)
def test_a_derived_meter_counts_as_a_meter_with_its_own_events(rules: Rules, history: Sequence[Step]) -> None:
    """At every time since its configuration, rebuilt from nothing, from the ledger alone, and folded by workers."""
    clock = Clock(DAYS[-1] + timedelta(days=1))
    with ExitStack() as stack:
        ledger, twin = (stack.enter_context(Metering.open("sqlite://", policy=LIFTED, clock=clock)) for _ in range(2))
        ledgers = Ledgers(ledger, twin, clock, rules, [], [])
        run_history(ledgers, history)
        for as_of in (None, *ledgers.queried_at[::3]):
            assert results(ledger, as_of) == results(twin, as_of)
        for start, end in pairwise(DAYS):
            assert ledger.replay_totals(DERIVED, start, end) == twin.replay_totals(DERIVED, start, end)
            assert ledger.totals(SOURCE, start, end) == twin.totals(SOURCE, start, end)
        assert ledger.verify().is_equal
        plain = fold_rows(ledger, page_size=3)
        with fold_in_worker():
            assert fold_rows(ledger, page_size=3) == plain
        assert results(ledger, None) == results(twin, None)


def test_the_histories_cover_every_case() -> None:
    """The meter is derived before and after usage, and events have every verdict under its rules."""
    expected = {
        "counted", "superseded", "cancelled", "filtered", "derived after usage", "usage after it was derived",
        "changed rules", "a closed period", "an adjustment",
    }  # fmt: skip
    seen: set[str] = set()

    @first_examples(600)
    @given(RULES, HISTORIES)
    def collect(rules: Rules, history: Sequence[Step]) -> None:
        clock = Clock(DAYS[-1] + timedelta(days=1))
        with ExitStack() as stack:
            ledger, twin = (
                stack.enter_context(Metering.open("sqlite://", policy=LIFTED, clock=clock)) for _ in range(2)
            )
            run_history(Ledgers(ledger, twin, clock, rules, [], []), history)
            configured_at = ledger.meters.get(DERIVED).created_at
            for event in ledger.events(DERIVED):
                seen.update({event.verdict.value})
                seen.add("derived after usage" if event.recorded_at < configured_at else "usage after it was derived")
            seen.update({"changed rules"} if len(ledger.meters.history(DERIVED)) > 1 else ())
            seen.update({"a closed period"} if ledger.periods.list(DERIVED) else ())
            seen.update({"an adjustment"} if ledger.periods.adjustments(DERIVED) else ())
        stop_if_covered(seen, expected)

    search(collect)
    assert seen >= expected
