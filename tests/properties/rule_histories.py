"""Random histories in which the rules of meters change: by replay, back again, and between reports and cancels."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hypothesis import strategies as st
from tallybook.application import Metering, TallybookError

from ..notation import Clock
from .histories import BEGINNING, LIFTED, MINUTES
from .naive import Said, effective

METERS: tuple[str, ...] = ("calls", "seats")
CUSTOMERS = ("acme", "beta", "core")
NOW = BEGINNING + timedelta(days=40)
ALL_TIME = BEGINNING - timedelta(days=400), BEGINNING + timedelta(days=400)
PERIODS = tuple(
    (BEGINNING.replace(hour=0) + timedelta(days=first), BEGINNING.replace(hour=0) + timedelta(days=last))
    for first, last in ((0, 2), (2, 4), (1, 3), (0, 40))
)


@dataclass(frozen=True)
class NaiveRules:
    """Rules, and how they read a payload; the names of its fields are those that the calls take."""

    formula: str = "sum"
    event_time_window: str | None = None
    customer_key: str = "customer"
    value_key: str = "tokens"
    dimension_keys: tuple[str, ...] = ()

    def said(self, use: Said, payload: Mapping[str, str]) -> Said | None:
        """A use as these rules read it; None where they can't."""
        value_key = () if self.formula == "count" else (self.value_key,)
        if not {self.customer_key, *self.dimension_keys, *value_key} <= payload.keys():
            return None
        dimensions = tuple(payload[key] for key in self.dimension_keys)
        customer, value = payload[self.customer_key], payload.get(self.value_key)
        return replace(use, customer=customer, value=value, dimensions=dimensions)


RULES = st.builds(
    NaiveRules,
    st.sampled_from(["sum", "count", "last"]),
    st.sampled_from([None, "hour", "day"]),
    st.sampled_from(["customer", "customer", "account"]),
    st.sampled_from(["tokens", "tokens", "bytes"]),
    st.sampled_from([(), ("region",), ("region", "plan")]),
)
NUMBERS = st.sampled_from(["0", "1", "2.5", "-3", "0.1", "40", "1.50", "-0.1"])
PAYLOADS = st.fixed_dictionaries(
    {
        "customer": st.sampled_from(CUSTOMERS),
        "account": st.sampled_from(CUSTOMERS),
        "tokens": NUMBERS,
        "bytes": NUMBERS,
        "region": st.sampled_from(["eu", "us"]),
        "plan": st.sampled_from(["free", "paid"]),
    }
)
POORER = st.sampled_from([(), (), (), (), ("bytes",), ("account",), ("plan",), ("tokens",)])


@dataclass
class Told:
    """What the ledger must have kept so far: uses and cancels, and the rules in force from each position on."""

    said: list[tuple[Said, Mapping[str, str]]]
    rules: dict[str, list[tuple[int, NaiveRules]]]

    def in_force(self, meter: str, position: int) -> NaiveRules:
        """The rules of a meter at a position."""
        return next(rules for since, rules in reversed(self.rules[meter]) if since <= position)

    def effective(self, meter: str, position: int, rules: NaiveRules | None = None) -> list[Said]:
        """The uses that count at a position, by the rules in force there or by others."""
        by = rules or self.in_force(meter, position)
        known = [one for one in self.said if one[0].position <= position]
        read = [one if one.cancels else by.said(one, payload) for one, payload in known]
        return effective([one for one in read if one is not None], meter, by.event_time_window)


Step = Callable[[Metering, Clock, Told], None]


def _record(meter: str, identifier: str, minutes: float, payload: dict[str, str], without: tuple[str, ...]) -> Step:
    given = {key: value for key, value in payload.items() if key not in without}
    at = BEGINNING + timedelta(minutes=minutes)

    def do(metering: Metering, clock: Clock, told: Told) -> None:
        report = {"event_name": meter, "payload": given, "identifier": identifier, "timestamp": at}
        (receipt,) = metering.record_many([report])
        if receipt.outcome == "accepted" and receipt.position is not None:
            told.said.append((Said(receipt.position, clock.now, identifier, meter, occurred_at=at), given))

    return do


def _cancel(which: int) -> Step:
    def do(metering: Metering, clock: Clock, told: Told) -> None:
        cancelled = {one.identifier for one, _ in told.said if one.cancels}
        standing = [one for one, _ in told.said if one.identifier not in cancelled]
        if standing:
            use = standing[which % len(standing)]
            metering.cancel(use.meter, use.identifier)
            told.said.append((Said(metering.catch_up(), clock.now, use.identifier, cancels=True), {}))

    return do


def _change(wanted: Mapping[str, NaiveRules]) -> Step:
    def do(metering: Metering, clock: Clock, told: Told) -> None:
        with suppress(TallybookError):  # of a meter that isn't there yet, or of what the new rules can't read
            candidate = metering.rebuild(rules={meter: changes(rules) for meter, rules in wanted.items()})
            promote(metering, told, candidate.number)

    return do


def _go_back(which: int) -> Step:
    def do(metering: Metering, clock: Clock, told: Told) -> None:
        generations = metering.generations()
        with suppress(TallybookError):
            promote(metering, told, generations[which % len(generations)].number)

    return do


def _manage(command: str, meter: str) -> Step:
    def do(metering: Metering, clock: Clock, told: Told) -> None:
        with suppress(TallybookError):
            if command == "rename":
                metering.rename_meter(meter, f"{meter} at {metering.catch_up()}")
            else:
                getattr(metering, f"{command}_meter")(meter)

    return do


def _close(meter: str, customer: str, period: tuple[datetime, datetime], *, again: bool) -> Step:
    def do(metering: Metering, clock: Clock, told: Told) -> None:
        with suppress(TallybookError):
            if again:
                metering.reopen_period(meter, customer, *period, reason="a test")
            metering.close_period(meter, customer, *period)

    return do


def _configure_late(metering: Metering, clock: Clock, told: Told) -> None:
    if "seats" not in told.rules:
        configure(metering, told, "seats", NaiveRules("last", "hour"))


def changes(rules: NaiveRules) -> dict[str, object]:
    """Rules as the calls take them."""
    return dict(vars(rules))


def configure(metering: Metering, told: Told, meter: str, rules: NaiveRules) -> None:
    """Configure a meter by its rules."""
    metering.configure_meter(
        meter,
        formula=rules.formula,
        event_time_window=rules.event_time_window,
        customer_key=rules.customer_key,
        value_key=rules.value_key,
        dimension_keys=rules.dimension_keys,
    )
    told.rules[meter] = [(metering.catch_up(), rules)]


def promote(metering: Metering, told: Told, generation: int) -> None:
    """Let a generation answer, and remember which rules are in force since."""
    metering.promote(generation, reason="a test")
    head = metering.catch_up()
    for view in metering.meters():
        rules = NaiveRules(
            view.formula.value,
            None if view.event_time_window is None else view.event_time_window.value,
            view.customer_key,
            view.value_key,
            view.dimension_keys,
        )
        if told.rules[view.event_name][-1][1] != rules:
            since = head
            while metering.meter(view.event_name, as_of=since - 1) == view:  # several meters change one by one
                since -= 1
            told.rules[view.event_name].append((since, rules))


METER: st.SearchStrategy[str] = st.sampled_from(METERS)
IDENTIFIER = st.integers(0, 9).map(str)
RECORDINGS = st.builds(_record, METER, IDENTIFIER, MINUTES, PAYLOADS, POORER)
CHANGES = st.builds(_change, st.dictionaries(METER, RULES, min_size=1))
STEPS = st.one_of(
    RECORDINGS,
    RECORDINGS,
    RECORDINGS,
    RECORDINGS,
    st.integers(0, 5).map(_cancel),
    CHANGES,
    st.integers(0, 5).map(_go_back),
    st.builds(_manage, st.sampled_from(["rename", "deactivate", "reactivate"]), METER),
    st.builds(_close, METER, st.sampled_from(CUSTOMERS), st.sampled_from(PERIODS), again=st.booleans()),
    st.just(_configure_late),
)
HISTORIES = st.lists(st.tuples(STEPS, st.sampled_from([0, 0, 1, 3_600])), min_size=10, max_size=20)


@contextmanager
def opened(url: str = "sqlite://") -> Generator[tuple[Metering, Clock, Told]]:
    """A ledger with its first meter; the second is configured when a history comes to it."""
    clock, told = Clock(NOW), Told([], {})
    with Metering.open(url, policy=LIFTED, clock=clock) as metering:
        configure(metering, told, "calls", NaiveRules())
        yield metering, clock, told
