"""Random histories of a ledger with every rule of counting, to compare SQL with the ledger's own results.

Names and values contain quotes, backslashes and letters beyond ASCII, and times lie on both sides of 1970.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import pairwise
from typing import Any, NamedTuple

from hypothesis import strategies as st
from tallybook.application import MeterEventInput, Metering, TallybookError

from ..notation import Clock
from ..properties.histories import FORMULAS, LIFTED, VALUES

Rules = Mapping[str, Any]
Step = Callable[[Metering, Clock], object]

SOURCE, DERIVED = "cal'ls\\Ω", "derived"
CUSTOMERS = ("acme", "o'hara\\", "Ω")
MIDNIGHT = datetime(1969, 12, 30, tzinfo=UTC)
DAYS = [MIDNIGHT + timedelta(days=number) for number in range(5)]
CUSTOMER, ACCOUNT, TOKENS, SIZE, NOTE, REGION, PLAN, KIND = (
    "cu'stomer", "account", "to\\kens", "$.size", "note", 're"gion', "plan", "kind",
)  # fmt: skip

COMPARISONS = (
    {"key": SIZE, "at_least": "1.5"},
    {"key": SIZE, "greater_than": "-0.5", "at_most": "40"},
    {"key": SIZE, "less_than": "0"},
    {"key": NOTE, "greater_than": "-3"},
    {"key": TOKENS, "at_most": "-0.1"},
    {"key": TOKENS, "at_least": "0", "less_than": "5"},
)
FILTERS = st.recursive(
    st.sampled_from(
        [
            {"key": KIND, "equals": "te'st\\"},
            {"key": KIND, "exists": True},
            {"key": PLAN, "exists": False},
            {"key": PLAN, "one_of": ["free", "p'ro"]},
            *COMPARISONS,
        ]
    ),
    lambda conditions: st.one_of(
        conditions.map(lambda condition: {"not": condition}),
        st.lists(conditions, min_size=1, max_size=2).map(lambda parts: {"any": parts}),
        st.lists(conditions, min_size=1, max_size=2).map(lambda parts: {"all": parts}),
    ),
    max_leaves=3,
)
MULTIPLIERS = ("1/3", "1000", "0.125", "7/12", "123456789.987654321/90000001")
ROUNDINGS = [
    {"mode": mode, "step": step}
    for mode in ("up", "down", "half_up")
    for step in ("1", "0.10", "1000", "3", "0.000000000000007", "2.5")
]
RULES: st.SearchStrategy[Rules] = st.fixed_dictionaries(
    {
        "formula": st.sampled_from(FORMULAS),
        "event_time_window": st.sampled_from([None, "hour", "day"]),
        "customer_key": st.sampled_from([CUSTOMER, CUSTOMER, ACCOUNT]),
        "value_key": st.sampled_from([TOKENS, TOKENS, SIZE]),
        "dimension_keys": st.sampled_from([(), (), (REGION,)]),
        "optional_dimension_keys": st.sampled_from([(), (PLAN,)]),
        "filter": st.none() | FILTERS,
        "multiplier": st.sampled_from([*[None] * 5, *MULTIPLIERS]),
        "rounding": st.sampled_from([*[None] * len(ROUNDINGS), *ROUNDINGS]),
    }
)
TEXTS = st.sampled_from(["u1", "U1", "", "é", "5", "5.0", "-4", "1e3", " 5", "-", "٣", 'a"b\\'])
PAYLOADS = st.fixed_dictionaries(
    {
        CUSTOMER: st.sampled_from(CUSTOMERS),
        ACCOUNT: st.sampled_from(CUSTOMERS),
        TOKENS: VALUES | st.sampled_from(["007.50", "1.4", "1.6", "2.5"]),
        SIZE: st.sampled_from(["0", "1", "1.50", "-3", "40", "40.01", "-0.50", "-0.6", "0.0"]),
        REGION: st.sampled_from(["eu", "u's"]),
    },
    optional={PLAN: st.sampled_from(["free", "p'ro"]), KIND: st.sampled_from(["te'st\\", "live"]), NOTE: TEXTS},
)
OMITTED = st.sampled_from([(), (), (), (), (TOKENS,), (ACCOUNT,), (REGION,)])
MINUTES = st.integers(0, 4 * 24 * 60 - 1) | st.sampled_from([0, 60, 59, 24 * 60, 24 * 60 - 1, 48 * 60, 48 * 60 + 30])
METER: st.SearchStrategy[str] = st.sampled_from([SOURCE, SOURCE, DERIVED])


def _step(call: Callable[[Metering, Clock], object]) -> Step:
    """Return a step that has no effect if the ledger rejects it."""

    def run(metering: Metering, clock: Clock) -> None:
        with suppress(TallybookError):
            call(metering, clock)

    return run


def _usage(minutes: int, payload: dict[str, str], omitted: Sequence[str]) -> MeterEventInput:
    payload = {key: value for key, value in payload.items() if key not in omitted}
    at = MIDNIGHT + timedelta(minutes=minutes, microseconds=minutes % 3)
    return MeterEventInput(SOURCE, payload, timestamp=at)


def _record(usage: Sequence[MeterEventInput]) -> Step:
    return _step(lambda metering, _: metering.record_many(usage))


def _cancel(which: int, *, revokes: bool) -> Step:
    def run(metering: Metering, _: Clock) -> None:
        events = metering.events(SOURCE)
        if events:
            identifier = events[which % len(events)].identifier
            if revokes:
                metering.revoke_cancel(SOURCE, identifier, reason="a test")
            else:
                metering.cancel(SOURCE, identifier)

    return _step(run)


def _change(meter: str, rules: Rules, field: str, effective_from: datetime | None) -> Step:
    """Return a step that changes one field of the rules, or all of them."""
    changes = rules if field == "all" else {field: rules[field]}
    return _step(
        lambda metering, _: metering.rules.change(meter, changes, reason="a test", effective_from=effective_from)
    )


def _derive(rules: Rules) -> Step:
    return _step(lambda metering, _: metering.meters.configure(DERIVED, source=SOURCE, **rules))


def _close(meter: str, customer: str, bounds: tuple[datetime, datetime], *, reopens: bool) -> Step:
    def run(metering: Metering, _: Clock) -> None:
        if reopens:
            metering.periods.reopen(meter, customer, *bounds, reason="a test")
        metering.periods.close(meter, customer, *bounds, allow_empty=True)

    return _step(run)


PERIODS = [*pairwise(DAYS), (DAYS[0] + timedelta(hours=10, minutes=30), DAYS[2] + timedelta(hours=7))]
_FIELDS = ("formula", "event_time_window", "customer_key", "value_key", "optional_dimension_keys", "filter", "all")
USAGE = st.builds(_usage, MINUTES, PAYLOADS, OMITTED)
RECORDINGS = st.builds(_record, st.lists(USAGE, min_size=1, max_size=5))
STEPS = st.one_of(
    RECORDINGS,
    st.builds(_cancel, st.integers(0, 9), revokes=st.sampled_from([False, False, True])),
    st.builds(_change, METER, RULES, st.sampled_from(_FIELDS), st.sampled_from([None, None, *DAYS[:4]])),
    st.builds(_derive, RULES),
    st.builds(
        _close, METER, st.sampled_from(CUSTOMERS), st.sampled_from(PERIODS), reopens=st.sampled_from([False, True])
    ),
)


class Answer(Enum):
    """What a query asks for."""

    TOTALS = "the total of each customer"
    TOTAL = "the total of all customers"
    DIGEST = "the lines of the digest of all customers"


class Query(NamedTuple):
    """A query of the usage of a meter, as known at a part of the ledger; 1 is the whole ledger."""

    answer: Answer
    meter: str
    bounds: tuple[datetime, datetime]
    known: float
    where: bool
    group_by: bool


RANGES = [
    (DAYS[0], DAYS[-1]),
    (DAYS[1], DAYS[2]),
    (DAYS[0] + timedelta(minutes=59), DAYS[2] + timedelta(minutes=30, microseconds=1)),
    (DAYS[1] + timedelta(minutes=10), DAYS[1] + timedelta(minutes=20)),
]
QUERIES = st.lists(
    st.builds(
        Query,
        st.sampled_from([Answer.TOTALS, Answer.TOTALS, Answer.TOTAL, Answer.DIGEST]),
        METER,
        st.sampled_from([RANGES[0], RANGES[0], *RANGES]),
        st.sampled_from([1, 1, 0.8, 0.5]),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=2,
)
_FIRST = st.builds(_record, st.lists(USAGE, min_size=5, max_size=10))
_STEPS = st.tuples(_FIRST, st.lists(STEPS, min_size=8, max_size=20)).map(lambda steps: [steps[0], *steps[1]])
HISTORIES: st.SearchStrategy[tuple[Rules, list[Step], list[Query]]] = st.tuples(RULES, _STEPS, QUERIES)


@contextmanager
def ledger_of(rules: Rules, steps: Sequence[Step]) -> Generator[Metering]:
    """Open a ledger after the steps of a history."""
    clock = Clock(DAYS[-1] + timedelta(days=1))
    with Metering.open("sqlite://", policy=LIFTED, clock=clock) as metering:
        metering.meters.configure(SOURCE, **rules)
        for step in steps:
            clock.now += timedelta(seconds=1)
            step(metering, clock)
        yield metering
