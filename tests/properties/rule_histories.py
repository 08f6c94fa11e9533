"""Random histories in which the rules of meters change, forth and back, between meter events and cancellations."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hypothesis import strategies as st
from tallybook.application import Metering, MeterView, TallybookError
from tallybook.domain.conditions import Equals

from ..notation import Clock
from .histories import BEGINNING, FORMULAS, LIFTED, MINUTES
from .naive import HistoryEntry, cancelled_identifiers, effective

METERS: tuple[str, ...] = ("calls", "seats")
CUSTOMERS = ("acme", "beta", "core")
NOW = BEGINNING + timedelta(days=40)
ALL_TIME = BEGINNING - timedelta(days=400), BEGINNING + timedelta(days=400)
PERIODS = tuple(
    (BEGINNING.replace(hour=0) + timedelta(days=first), BEGINNING.replace(hour=0) + timedelta(days=last))
    for first, last in ((0, 2), (2, 4), (1, 3), (0, 40))
)


@dataclass(frozen=True)
class ReferenceRules:
    """Rules with a naive implementation of parsing. With `plan`, only events of this plan match the filter."""

    formula: str = "sum"
    event_time_window: str | None = None
    customer_key: str = "customer"
    value_key: str = "tokens"
    dimension_keys: tuple[str, ...] = ()
    optional_dimension_keys: tuple[str, ...] = ()
    plan: str | None = None
    multiplier: str | None = None

    @classmethod
    def from_view(cls, meter: MeterView) -> "ReferenceRules":
        """Return the rules of a meter."""
        return cls(
            meter.formula.value,
            None if meter.event_time_window is None else meter.event_time_window.value,
            meter.customer_key,
            meter.value_key,
            meter.dimension_keys,
            meter.optional_dimension_keys,
            meter.filter.equals if isinstance(meter.filter, Equals) else None,
            None if meter.multiplier is None else str(meter.multiplier),
        )

    @property
    def arguments(self) -> dict[str, object]:
        """The rules as arguments of `configure` and of rule changes."""
        arguments: dict[str, object] = {name: value for name, value in vars(self).items() if name != "plan"}
        arguments["filter"] = None if self.plan is None else {"key": "plan", "equals": self.plan}
        return arguments

    @property
    def all_dimension_keys(self) -> tuple[str, ...]:
        """The keys of the required and the optional dimensions."""
        return self.dimension_keys + self.optional_dimension_keys

    def apply(self, entry: HistoryEntry, payload: Mapping[str, str]) -> HistoryEntry | None:
        """Return the entry as parsed by these rules; None if it is incompatible."""
        is_filtered = self.plan is not None and payload.get("plan") != self.plan
        value_key = () if self.formula == "count" else (self.value_key,)
        needed_keys = {self.customer_key} if is_filtered else {self.customer_key, *self.dimension_keys, *value_key}
        if not needed_keys <= payload.keys():
            return None
        text = None if is_filtered else payload.get(self.value_key)
        return replace(
            entry,
            customer=payload[self.customer_key],
            value=None if self.formula == "unique_count" else text,
            dimensions=tuple(payload.get(key) for key in self.all_dimension_keys),
            unique_value=text if self.formula == "unique_count" else None,
            is_filtered=is_filtered,
        )


RULES = st.builds(
    ReferenceRules,
    st.sampled_from(FORMULAS),
    st.sampled_from([None, "hour", "day"]),
    st.sampled_from(["customer", "customer", "account"]),
    st.sampled_from(["tokens", "tokens", "bytes"]),
    st.sampled_from([(), (), ("region",), ("region", "plan")]),
    plan=st.sampled_from([None, None, "free"]),
    multiplier=st.sampled_from([None, None, "1/3", "1000"]),
) | st.builds(
    ReferenceRules,
    st.sampled_from(FORMULAS),
    st.sampled_from([None, "hour", "day"]),
    dimension_keys=st.sampled_from([(), ("region",)]),
    optional_dimension_keys=st.sampled_from([(), ("plan",)]),
)
NUMBERS = st.sampled_from(["0", "1", "2.5", "-3", "0.1", "40", "1.50", "1.5", "-0.1"])
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
OMITTED_KEYS = st.sampled_from([(), (), (), (), ("bytes",), ("account",), ("plan",), ("tokens",)])


@dataclass
class ReferenceLedger:
    """The meter events and cancellations stored so far, and the rules in force from each position on."""

    entries: list[tuple[HistoryEntry, Mapping[str, str]]]
    rules: dict[str, list[tuple[int, ReferenceRules]]]

    def in_force(self, meter: str, position: int) -> ReferenceRules:
        """Return the rules of a meter in force at a position."""
        return next(rules for since, rules in reversed(self.rules[meter]) if since <= position)

    def effective(self, meter: str, position: int, rules: ReferenceRules | None = None) -> list[HistoryEntry]:
        """Return the meter events that count at a position, under the rules in force there or under `rules`."""
        by = rules or self.in_force(meter, position)
        visible = [entry for entry in self.entries if entry[0].position <= position]
        read = [entry if entry.cancels else by.apply(entry, payload) for entry, payload in visible]
        return effective([entry for entry in read if entry is not None], meter, by.event_time_window)


Step = Callable[[Metering, Clock, ReferenceLedger], None]


def _record(meter: str, identifier: str, minutes: float, payload: dict[str, str], without: tuple[str, ...]) -> Step:
    event_payload = {key: value for key, value in payload.items() if key not in without}
    at = BEGINNING + timedelta(minutes=minutes)

    def run(metering: Metering, clock: Clock, reference: ReferenceLedger) -> None:
        meter_event = {"event_name": meter, "payload": event_payload, "identifier": identifier, "timestamp": at}
        (receipt,) = metering.record_many([meter_event])
        if receipt.outcome == "accepted" and receipt.position is not None:
            reference.entries.append(
                (HistoryEntry(receipt.position, clock.now, identifier, meter, occurred_at=at), event_payload)
            )

    return run


def _cancel(which: int) -> Step:
    def run(metering: Metering, clock: Clock, reference: ReferenceLedger) -> None:
        cancelled = cancelled_identifiers([past_entry for past_entry, _ in reference.entries])
        recorded = [past_entry for past_entry, _ in reference.entries if not past_entry.cancels]
        if recorded:
            entry = recorded[which % len(recorded)]
            revokes = entry.identifier in cancelled
            if revokes:
                metering.revoke_cancel(entry.meter, entry.identifier, reason="cancelled by mistake")
            else:
                metering.cancel(entry.meter, entry.identifier)
            position = metering.catch_up()
            change = HistoryEntry(position, clock.now, entry.identifier, cancels=True, revokes=revokes)
            reference.entries.append((change, {}))

    return run


def _change(new_rules: Mapping[str, ReferenceRules]) -> Step:
    def run(metering: Metering, clock: Clock, reference: ReferenceLedger) -> None:
        with suppress(TallybookError):  # the meter doesn't exist yet, or an event is incompatible
            candidate = metering.generations.rebuild(
                rules={meter: rules.arguments for meter, rules in new_rules.items()}
            )
            promote(metering, reference, candidate.number)

    return run


def _go_back(which: int) -> Step:
    def run(metering: Metering, clock: Clock, reference: ReferenceLedger) -> None:
        generations = metering.generations.list()
        with suppress(TallybookError):
            promote(metering, reference, generations[which % len(generations)].number)

    return run


def _manage(command: str, meter: str) -> Step:
    def run(metering: Metering, clock: Clock, reference: ReferenceLedger) -> None:
        with suppress(TallybookError):
            if command == "rename":
                metering.meters.rename(meter, f"{meter} at {metering.catch_up()}")
            else:
                getattr(metering.meters, command)(meter)

    return run


def _close(meter: str, customer: str, period: tuple[datetime, datetime], *, is_repeated: bool) -> Step:
    def run(metering: Metering, clock: Clock, reference: ReferenceLedger) -> None:
        with suppress(TallybookError):
            if is_repeated:
                metering.periods.reopen(meter, customer, *period, reason="a test")
            group_by = reference.rules[meter][-1][1].all_dimension_keys if meter in reference.rules else ()
            metering.periods.close(meter, customer, *period, group_by=group_by, allow_empty=True)

    return run


def _configure_second_meter(metering: Metering, clock: Clock, reference: ReferenceLedger) -> None:
    if "seats" not in reference.rules:
        configure(metering, reference, "seats", ReferenceRules("last", "hour"))


def configure(metering: Metering, reference: ReferenceLedger, meter: str, rules: ReferenceRules) -> None:
    """Configure a meter and add its rules to the reference ledger."""
    metering.meters.configure(meter, **rules.arguments)  # pyright: ignore[reportArgumentType]
    reference.rules[meter] = [(metering.catch_up(), rules)]


def promote(metering: Metering, reference: ReferenceLedger, generation: int) -> None:
    """Promote a generation, and add the rules in force since then to the reference ledger."""
    metering.generations.promote(generation, reason="a test")
    head = metering.catch_up()
    for meter in metering.meters.list():
        rules = ReferenceRules.from_view(meter)
        if reference.rules[meter.event_name][-1][1] != rules:
            since = head
            while metering.meters.get(meter.event_name, as_of=since - 1) == meter:  # meters change one after another
                since -= 1
            reference.rules[meter.event_name].append((since, rules))


METER: st.SearchStrategy[str] = st.sampled_from(METERS)
IDENTIFIER = st.integers(0, 9).map(str)
RECORDINGS = st.builds(_record, METER, IDENTIFIER, MINUTES, PAYLOADS, OMITTED_KEYS)
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
    st.builds(_close, METER, st.sampled_from(CUSTOMERS), st.sampled_from(PERIODS), is_repeated=st.booleans()),
    st.just(_configure_second_meter),
)
HISTORIES = st.lists(st.tuples(STEPS, st.sampled_from([0, 0, 1, 3_600])), min_size=10, max_size=20)


@contextmanager
def open_ledger(url: str = "sqlite://") -> Generator[tuple[Metering, Clock, ReferenceLedger]]:
    """Open a ledger with the first meter; a step of a history configures the second one."""
    clock, reference = Clock(NOW), ReferenceLedger([], {})
    with Metering.open(url, policy=LIFTED, clock=clock) as metering:
        configure(metering, reference, "calls", ReferenceRules())
        yield metering, clock, reference
