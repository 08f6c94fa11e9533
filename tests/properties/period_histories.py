"""Random histories of one meter with closed periods, and a reference ledger that records them in plain lists."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import partial

import pytest
from hypothesis import strategies as st
from tallybook.application import ClosedPeriod, Metering
from tallybook.domain import BillingCycle
from tallybook.domain.errors import IncompatibleRules, InvalidParameter, InvalidTimeRange, PeriodOverlaps

from ..notation import Clock
from .histories import BEGINNING, FILTER, FORMULAS, LIFTED, WINDOWS
from .naive import (
    Bounds,
    HistoryEntry,
    cancelled_identifiers,
    compute_contributions,
    compute_quantity,
    counted_range,
    effective,
    entries_between,
)

NAMES = ("acme", "beta")
EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu")
TIME_RANGE = BEGINNING, BEGINNING + timedelta(days=2)
TILES = {zone: list(BillingCycle("day", zone).periods(*TIME_RANGE)) for zone in ZONES}


@dataclass(frozen=True)
class Rules:
    """The rules of a meter, with a naive implementation of parsing."""

    formula: str
    window: str | None = None
    customer_key: str = "customer"
    value_key: str = "value"
    by_region: bool = False
    has_filter: bool = False
    multiplier: str | None = None

    @property
    def arguments(self) -> dict[str, object]:
        """The rules as arguments of `metering.meters.configure`."""
        return {
            "formula": self.formula,
            "event_time_window": self.window,
            "customer_key": self.customer_key,
            "value_key": self.value_key,
            "dimension_keys": self.group_by,
            "filter": FILTER if self.has_filter else None,
            "multiplier": self.multiplier,
        }

    @property
    def group_by(self) -> tuple[str, ...]:
        """The dimensions."""
        return ("region",) if self.by_region else ()

    def apply(self, events: list["RecordedEvent"]) -> list[HistoryEntry]:
        """Return the entries as parsed by these rules, without the incompatible events."""
        return [
            event.entry if event.entry.cancels else self._parse(event)
            for event in events
            if event.entry.cancels or self.is_compatible(event)
        ]

    def _parse(self, event: "RecordedEvent") -> HistoryEntry:
        is_filtered, text = self._is_filtered(event), event.payload.get(self.value_key)
        return replace(
            event.entry,
            customer=event.payload[self.customer_key],
            value=None if is_filtered or self.formula == "unique_count" else text,
            dimensions=tuple(event.payload[key] for key in self.group_by),
            unique_value=text if self.formula == "unique_count" and not is_filtered else None,
            is_filtered=is_filtered,
        )

    def _is_filtered(self, event: "RecordedEvent") -> bool:
        return self.has_filter and event.payload.get("kind") == "test"

    def is_compatible(self, event: "RecordedEvent") -> bool:
        """Return whether the payload has the keys that these rules need; a filtered one needs a customer only."""
        needs_value = self.formula != "count" and not self._is_filtered(event)
        return self.customer_key in event.payload and (not needs_value or self.value_key in event.payload)


@dataclass(frozen=True)
class RecordedEvent:
    """A meter event or cancellation that the ledger accepted, and the payload of the meter event."""

    entry: HistoryEntry
    payload: dict[str, str] = field(default_factory=dict[str, str])


VerdictAndContribution = tuple[str, Fraction]
"""The verdict on an event, and its contribution to the quantity."""


def expected_verdicts(
    events: list[RecordedEvent], rules: Rules, customer: str, bounds: Bounds
) -> dict[str, VerdictAndContribution]:
    """Return the verdict and contribution of each event that occurred in a range, by identifier."""
    entries = rules.apply(events)
    cancelled = cancelled_identifiers(entries)
    counted = entries_between(effective(entries, "", rules.window), customer, *bounds)
    adds = compute_contributions(rules.formula, counted, rules.multiplier)

    def verdict(entry: HistoryEntry) -> str:
        if entry.identifier in cancelled:
            return "cancelled"
        if entry.is_filtered:
            return "filtered"
        return "counted" if entry.identifier in adds else "superseded"

    return {
        entry.identifier: (verdict(entry), adds.get(entry.identifier, Fraction(0)))
        for entry in entries_between([entry for entry in entries if not entry.cancels], customer, *bounds)
    }


def expected_total(
    events: list[RecordedEvent], rules: Rules, customer: str | None, bounds: Bounds, *, whole_windows: bool
) -> Fraction:
    """Return the quantity of the usage that occurred in a range, or of the windows that start in it."""
    window = rules.window if whole_windows else None
    counted = entries_between(effective(rules.apply(events), "", rules.window), customer, *bounds, window)
    return compute_quantity(rules.formula, counted, rules.multiplier)


def expected_groups(
    events: list[RecordedEvent], rules: Rules, customer: str, bounds: Bounds
) -> dict[str | None, Fraction]:
    """Return the quantity of each region of a customer's period by the naive model; nothing without regions."""
    counted = entries_between(effective(rules.apply(events), "", rules.window), customer, *bounds)
    regions = {entry.dimensions[0] for entry in counted if entry.dimensions}
    by_region = {region: [entry for entry in counted if entry.dimensions == (region,)] for region in regions}
    return {region: compute_quantity(rules.formula, entries, rules.multiplier) for region, entries in by_region.items()}


@dataclass(frozen=True)
class ClosedRecord:
    """A closed period, with its rules and the number of events recorded before it."""

    customer: str
    bounds: Bounds
    counted_range: Bounds
    rules: Rules
    known_position: int
    result: ClosedPeriod


Step = Callable[["ReferenceLedger"], None]


class ReferenceLedger:
    """A ledger of one meter, and plain lists of the accepted events and closed periods."""

    def __init__(self, metering: Metering, clock: Clock, rules: Rules) -> None:
        self.metering = metering
        self.clock = clock
        self.rules = rules
        self.schedule: list[tuple[datetime, Rules]] = [(EARLIEST, rules)]
        self.events: list[RecordedEvent] = []
        self.closed: list[ClosedRecord] = []
        self.reopened: dict[tuple[str, Bounds], Rules] = {}
        metering.meters.configure("calls", **rules.arguments)  # pyright: ignore[reportArgumentType]

    def record(self, payload: dict[str, str], minutes: int) -> None:
        """Record a meter event; the ledger rejects it if it is incompatible with the rules in force."""
        occurred_at, identifier = BEGINNING + timedelta(minutes=minutes), f"e{len(self.events)}"
        (receipt,) = self.metering.record_many(
            [{"event_name": "calls", "payload": payload, "identifier": identifier, "timestamp": occurred_at}]
        )
        if receipt.position is not None:
            self.events.append(
                RecordedEvent(HistoryEntry(receipt.position, self.clock.now, identifier, "", "", occurred_at), payload)
            )

    def cancel(self, number: int) -> None:
        """Cancel a recorded meter event that isn't cancelled."""
        cancelled = cancelled_identifiers([event.entry for event in self.events])
        recorded = [event.entry.identifier for event in self.events if not event.entry.cancels]
        identifiers = [identifier for identifier in recorded if identifier not in cancelled]
        if identifiers:
            identifier = identifiers[number % len(identifiers)]
            self.metering.cancel("calls", identifier)
            self.events.append(
                RecordedEvent(HistoryEntry(self.metering.catch_up(), self.clock.now, identifier, cancels=True))
            )

    def revoke(self, number: int) -> None:
        """Revoke the cancellation of a meter event that is cancelled."""
        cancelled = sorted(cancelled_identifiers([event.entry for event in self.events]))
        if cancelled:
            identifier = cancelled[number % len(cancelled)]
            self.metering.revoke_cancel("calls", identifier, reason="cancelled by mistake")
            position = self.metering.catch_up()
            entry = HistoryEntry(position, self.clock.now, identifier, cancels=True, revokes=True)
            self.events.append(RecordedEvent(entry))

    def close(self, customer: str, bounds: Bounds, *, under_current_rules: bool = False) -> None:
        """Close a period; check the result if it is closed already, and the error if it overlaps another.

        A period that was reopened is closed under the rules of its last closing, or under the current ones.
        """
        rules = self.rules if under_current_rules else self.reopened.get((customer, bounds), self.rules)
        arguments = {"allow_empty": True, "rules": "current" if under_current_rules else "previous"}
        close = partial(self.metering.periods.close, "calls", customer, *bounds, **arguments)  # type: ignore[arg-type]
        closed_periods = [period for period in self.closed if period.customer == customer]
        first = next((period for period in closed_periods if period.bounds == bounds), None)
        if first is not None:
            assert close() == first.result
            return
        closed_ranges = [(period.bounds, period.counted_range) for period in closed_periods]
        counted = counted_range(bounds, rules.window, closed_ranges)
        if counted[0] >= counted[1]:
            with pytest.raises(InvalidTimeRange):
                close()
            return
        if any(period.bounds[0] < bounds[1] and bounds[0] < period.bounds[1] for period in closed_periods):
            with pytest.raises(PeriodOverlaps):
                close()
            return
        result = close(group_by=rules.group_by)
        assert result.counted_range == counted
        total = expected_total(self.events, rules, customer, counted, whole_windows=False)
        assert Fraction(result.quantity) == total
        groups = {group.dimensions["region"]: Fraction(group.quantity) for group in result.groups}
        assert groups == expected_groups(self.events, rules, customer, counted)
        self.closed.append(ClosedRecord(customer, bounds, counted, rules, len(self.events), result))

    def close_used(self, number: int, zone: str) -> None:
        """Close the day of a recorded meter event for its customer, if it is one of the days that are closed."""
        meter_events = [event for event in self.events if not event.entry.cancels]
        if meter_events:
            event = meter_events[number % len(meter_events)]
            for day in TILES[zone]:
                if day[0] <= event.entry.occurred_at < day[1]:
                    self.close(event.payload[self.rules.customer_key], day)

    def reopen(self, number: int) -> None:
        """Reopen a closed period."""
        if self.closed:
            closed_record = self.closed.pop(number % len(self.closed))
            self.metering.periods.reopen("calls", closed_record.customer, *closed_record.bounds, reason="why")
            self.reopened[closed_record.customer, closed_record.bounds] = closed_record.rules

    def change_rules(self, changes: Mapping[str, str | bool | None]) -> None:
        """Change the rules; check the error if a recorded meter event is incompatible with them."""
        rules = replace(self.rules, **changes)  # pyright: ignore[reportArgumentType]
        meter_events = [event for event in self.events if not event.entry.cancels]
        if rules == self.rules:
            return
        if any(not rules.is_compatible(event) for event in meter_events):
            with pytest.raises(IncompatibleRules):
                self.metering.rules.change("calls", rules.arguments, reason="why")
            return
        self.metering.rules.change("calls", rules.arguments, reason="why")
        self.rules, self.schedule = rules, [(EARLIEST, rules)]

    def change_rules_from(self, changes: Mapping[str, str | bool | None], start: datetime) -> None:
        """Change the newest rules for usage from a time on. All meter events must be compatible with them."""
        rules = replace(self.schedule[-1][1], **changes)  # pyright: ignore[reportArgumentType]
        schedule = [*(part for part in self.schedule if part[0] < start), (start, rules)]
        with suppress(InvalidParameter):  # nothing changes
            self.metering.rules.change("calls", rules.arguments, reason="why", effective_from=start)
            self.schedule = schedule

    def expected_total(self, customer: str, bounds: Bounds) -> Fraction:
        """Return the quantity of the windows that start in a range, under the rules over time; additive formulas."""
        ends = [*(start for start, _ in self.schedule[1:]), bounds[1]]
        return sum(
            (
                expected_total(
                    self.events, rules, customer, (max(start, bounds[0]), min(end, bounds[1])), whole_windows=True
                )
                for (start, rules), end in zip(self.schedule, ends, strict=True)
            ),
            Fraction(0),
        )


PAYLOADS = st.fixed_dictionaries(
    {"customer": st.sampled_from(NAMES), "region": st.sampled_from(("e", "w"))},
    optional={
        "org": st.sampled_from(NAMES),
        "value": st.integers(-9, 9).map(str),
        "units": st.sampled_from(("0", "0.5", "-3", "7", "7.0")),
        "kind": st.sampled_from(("test", "live")),
    },
)
COMPLETE_PAYLOADS = PAYLOADS.map(lambda payload: {"org": "acme", "value": "5", "units": "2"} | payload)
MINUTES = st.sampled_from([0, 60 * 26, 60 * 26 + 1, 60 * 26 + 30, 60 * 26 + 59]) | st.integers(0, 2 * 24 * 60)
MULTIPLIERS = (None, "1/3", "1000")
RULES = st.builds(
    Rules,
    st.sampled_from(FORMULAS),
    st.sampled_from(WINDOWS),
    by_region=st.booleans(),
    has_filter=st.booleans(),
    multiplier=st.sampled_from(MULTIPLIERS),
)
CHANGES: st.SearchStrategy[Mapping[str, str | bool | None]] = st.sampled_from(
    [
        *({"formula": formula} for formula in FORMULAS),
        *({"window": window} for window in WINDOWS),
        *({"value_key": key} for key in ("value", "units")),
        *({"customer_key": key} for key in ("customer", "org")),
        *({"has_filter": has_filter} for has_filter in (False, True)),
        *({"multiplier": multiplier} for multiplier in MULTIPLIERS),
    ]
)
PERIODS = st.tuples(st.sampled_from(NAMES), st.sampled_from([tile for tiles in TILES.values() for tile in tiles]))
NUMBERS = st.integers(0, 99)

RECORDS: st.SearchStrategy[Step] = st.tuples(COMPLETE_PAYLOADS, MINUTES).map(lambda use: lambda book: book.record(*use))
INCOMPLETE_RECORDS: st.SearchStrategy[Step] = st.tuples(PAYLOADS, MINUTES).map(
    lambda use: lambda book: book.record(*use)
)
CANCELS: st.SearchStrategy[Step] = NUMBERS.map(lambda number: lambda book: book.cancel(number))
REVOKES: st.SearchStrategy[Step] = NUMBERS.map(lambda number: lambda book: book.revoke(number))
CLOSES: st.SearchStrategy[Step] = st.tuples(PERIODS, st.integers(0, 4)).map(
    lambda use: lambda book: book.close(*use[0], under_current_rules=use[1] == 0)
)
CLOSES_USED: st.SearchStrategy[Step] = st.tuples(NUMBERS, st.sampled_from(ZONES)).map(
    lambda use: lambda book: book.close_used(*use)
)
REOPENS: st.SearchStrategy[Step] = NUMBERS.map(lambda number: lambda book: book.reopen(number))
RULE_CHANGES: st.SearchStrategy[Step] = CHANGES.map(lambda changes: lambda book: book.change_rules(changes))


def histories(*, max_size: int = 30) -> st.SearchStrategy[list[Step]]:
    """Return a strategy for histories with steps of every kind; most steps record meter events."""
    early = st.lists(RECORDS, min_size=4, max_size=max_size // 3)
    # After an incomplete payload most keys can't change any more, so some histories have complete payloads only.
    late_steps = [
        st.one_of(record_step, RECORDS, CANCELS, CANCELS, REVOKES, CLOSES, CLOSES_USED, REOPENS, RULE_CHANGES)
        for record_step in (RECORDS, INCOMPLETE_RECORDS)
    ]
    later = st.one_of([st.lists(step, min_size=max_size // 3, max_size=max_size) for step in late_steps])
    return st.tuples(early, CLOSES_USED, later).map(lambda parts: [*parts[0], parts[1], *parts[2]])


@contextmanager
def open_reference(rules: Rules) -> Generator[ReferenceLedger]:
    """Open a reference ledger with a new meter; its clock is after all periods."""
    clock = Clock(TIME_RANGE[1] + timedelta(days=1))
    with Metering.open("sqlite://", policy=LIFTED.model_copy(update={"grace_period": None}), clock=clock) as metering:
        yield ReferenceLedger(metering, clock, rules)


def run_steps(reference: ReferenceLedger, history: list[Step], after: Callable[[], None] | None = None) -> None:
    """Run the steps, one second after each other."""
    for step in history:
        reference.clock.now += timedelta(seconds=1)
        step(reference)
        if after is not None:
            after()
