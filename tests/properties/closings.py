"""Random histories of one meter with closed periods, kept beside the ledger in a plain book of all that was done."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import strategies as st
from tallybook.application import ClosedPeriod, Metering
from tallybook.domain import BillingCycle
from tallybook.domain.errors import PeriodOverlaps, RulesCannotRead

from ..notation import Clock
from .histories import BEGINNING, FORMULAS, LIFTED, WINDOWS
from .naive import Said, effective, figures

NAMES = ("acme", "beta")
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu")
RANGE = BEGINNING, BEGINNING + timedelta(days=2)
TILES = {zone: list(BillingCycle("day", zone).between(*RANGE)) for zone in ZONES}


@dataclass(frozen=True)
class Rules:
    """The rules of a meter, and how a payload is read by them, the plain way."""

    formula: str
    window: str | None = None
    customer_key: str = "customer"
    value_key: str = "value"
    by_region: bool = False

    @property
    def arguments(self) -> dict[str, object]:
        """The rules as the ledger takes them."""
        dimensions = ("region",) if self.by_region else ()
        return {
            "formula": self.formula,
            "event_time_window": self.window,
            "customer_key": self.customer_key,
            "value_key": self.value_key,
            "dimension_keys": dimensions,
        }

    def read(self, kept: list["Kept"]) -> list[Said]:
        """What was done as these rules read it; what they can't read is not there."""
        return [
            replace(
                one.said,
                customer=one.payload[self.customer_key],
                value=one.payload.get(self.value_key),
                dimensions=(one.payload["region"],) if self.by_region else (),
            )
            if not one.said.cancels
            else one.said
            for one in kept
            if one.said.cancels or self.can_read(one)
        ]

    def can_read(self, use: "Kept") -> bool:
        """Whether the payload of a use has what these rules need."""
        return self.customer_key in use.payload and (self.formula == "count" or self.value_key in use.payload)


@dataclass(frozen=True)
class Kept:
    """A use or a cancel that the ledger took, and the payload of the use."""

    said: Said
    payload: dict[str, str] = field(default_factory=dict[str, str])


Stands = tuple[str, Fraction]
"""The verdict of an event, and what it adds to the figure."""

Bounds = tuple[datetime, datetime]


def stands(kept: list[Kept], rules: Rules, customer: str, bounds: Bounds) -> dict[str, Stands]:
    """How each event of a customer's period stands, by its identifier."""
    said = rules.read(kept)
    cancelled = {one.identifier for one in said if one.cancels}
    counting = effective(said, "", rules.window)
    within = [one for one in counting if one.customer == customer and bounds[0] <= one.occurred_at < bounds[1]]
    adds = {
        one.identifier: {
            "sum": Fraction(one.value or 0),
            "count": Fraction(1),
            "last": Fraction(one.value or 0) if one is within[-1] else Fraction(0),
        }[rules.formula]
        for one in within
    }
    return {
        one.identifier: ("counted", adds[one.identifier])
        if one.identifier in adds
        else ("cancelled" if one.identifier in cancelled else "overwritten", Fraction(0))
        for one in said
        if not one.cancels and one.customer == customer and bounds[0] <= one.occurred_at < bounds[1]
    }


def quantity(kept: list[Kept], rules: Rules, customer: str | None, bounds: Bounds) -> Fraction:
    """What a customer's period comes to, counted the plain way."""
    total, count, last = figures(effective(rules.read(kept), "", rules.window), customer, *bounds)
    return {"sum": total, "count": Fraction(count), "last": last or Fraction(0)}[rules.formula]


@dataclass(frozen=True)
class Closing:
    """A period as it was closed: under which rules, and knowing what."""

    customer: str
    bounds: Bounds
    rules: Rules
    known: int
    answered: ClosedPeriod


Step = Callable[["Book"], None]


class Book:
    """A ledger of one meter, and all that it took, as plain lists."""

    def __init__(self, metering: Metering, clock: Clock, rules: Rules) -> None:
        self.metering = metering
        self.clock = clock
        self.rules = rules
        self.kept: list[Kept] = []
        self.closings: list[Closing] = []
        metering.configure_meter("calls", **rules.arguments)  # pyright: ignore[reportArgumentType]

    def record(self, payload: dict[str, str], minutes: int) -> None:
        """Report a use; what the rules of the moment can't read is refused."""
        occurred_at, identifier = BEGINNING + timedelta(minutes=minutes), f"e{len(self.kept)}"
        (receipt,) = self.metering.record_many(
            [{"event_name": "calls", "payload": payload, "identifier": identifier, "timestamp": occurred_at}]
        )
        if receipt.position is not None:
            self.kept.append(Kept(Said(receipt.position, self.clock.now, identifier, "", "", occurred_at), payload))

    def cancel(self, number: int) -> None:
        """Cancel one of the uses that there are, once."""
        cancelled = {one.said.identifier for one in self.kept if one.said.cancels}
        uses = [one.said.identifier for one in self.kept if one.said.identifier not in cancelled]
        if uses:
            identifier = uses[number % len(uses)]
            self.metering.cancel("calls", identifier)
            self.kept.append(Kept(Said(self.metering.catch_up(), self.clock.now, identifier, cancels=True)))

    def close(self, customer: str, bounds: Bounds) -> None:
        """Close a period; a second time the first answer is given, and one that overlaps another is refused."""
        standing = [one for one in self.closings if one.customer == customer]
        first = next((one for one in standing if one.bounds == bounds), None)
        if first is not None:
            assert self.metering.close_period("calls", customer, *bounds) == first.answered
            return
        if any(one.bounds[0] < bounds[1] and bounds[0] < one.bounds[1] for one in standing):
            with pytest.raises(PeriodOverlaps):
                self.metering.close_period("calls", customer, *bounds)
            return
        answered = self.metering.close_period("calls", customer, *bounds)
        assert Fraction(answered.quantity) == quantity(self.kept, self.rules, customer, bounds)
        self.closings.append(Closing(customer, bounds, self.rules, len(self.kept), answered))

    def reopen(self, number: int) -> None:
        """Reopen one of the periods that are closed."""
        if self.closings:
            closing = self.closings.pop(number % len(self.closings))
            self.metering.reopen_period("calls", closing.customer, *closing.bounds, reason="why")

    def change_rules(self, changes: Mapping[str, str | None]) -> None:
        """Count by other rules, unless there is something that these can't read."""
        rules = replace(self.rules, **changes)  # pyright: ignore[reportArgumentType]
        uses = [one for one in self.kept if not one.said.cancels]
        if rules == self.rules:
            return
        if any(not rules.can_read(one) for one in uses):
            with pytest.raises(RulesCannotRead):
                self.metering.change_rules("calls", rules.arguments, reason="why")
            return
        self.metering.change_rules("calls", rules.arguments, reason="why")
        self.rules = rules


PAYLOADS = st.fixed_dictionaries(
    {"customer": st.sampled_from(NAMES), "region": st.sampled_from(("e", "w"))},
    optional={
        "org": st.sampled_from(NAMES),
        "value": st.integers(-9, 9).map(str),
        "units": st.sampled_from(("0", "0.5", "-3", "7")),
    },
)
WHOLE_PAYLOADS = PAYLOADS.map(lambda payload: {"org": "acme", "value": "5", "units": "2"} | payload)
MINUTES = st.sampled_from([0, 60 * 26, 60 * 26 + 1, 60 * 26 + 30, 60 * 26 + 59]) | st.integers(0, 2 * 24 * 60)
RULES = st.builds(Rules, st.sampled_from(FORMULAS), st.sampled_from(WINDOWS), by_region=st.booleans())
CHANGES: st.SearchStrategy[Mapping[str, str | None]] = st.sampled_from(
    [
        *({"formula": formula} for formula in FORMULAS),
        *({"window": window} for window in WINDOWS),
        *({"value_key": key} for key in ("value", "units")),
        *({"customer_key": key} for key in ("customer", "org")),
    ]
)
PERIODS = st.tuples(st.sampled_from(NAMES), st.sampled_from([tile for tiles in TILES.values() for tile in tiles]))
NUMBERS = st.integers(0, 99)

RECORDS: st.SearchStrategy[Step] = st.tuples(WHOLE_PAYLOADS, MINUTES).map(lambda use: lambda book: book.record(*use))
IN_PART: st.SearchStrategy[Step] = st.tuples(PAYLOADS, MINUTES).map(lambda use: lambda book: book.record(*use))
CANCELS: st.SearchStrategy[Step] = NUMBERS.map(lambda number: lambda book: book.cancel(number))
CLOSES: st.SearchStrategy[Step] = PERIODS.map(lambda period: lambda book: book.close(*period))
REOPENS: st.SearchStrategy[Step] = NUMBERS.map(lambda number: lambda book: book.reopen(number))
RULE_CHANGES: st.SearchStrategy[Step] = CHANGES.map(lambda changes: lambda book: book.change_rules(changes))


def histories(*, most: int = 30) -> st.SearchStrategy[list[Step]]:
    """Steps of every sort; most are reports."""
    early = st.lists(RECORDS, min_size=4, max_size=most // 3)
    # Once something is reported in part, most keys can't be changed any more: some histories are without.
    late = [
        st.one_of(use, RECORDS, CANCELS, CANCELS, CLOSES, CLOSES, REOPENS, RULE_CHANGES) for use in (RECORDS, IN_PART)
    ]
    later = st.one_of([st.lists(step, min_size=most // 3, max_size=most) for step in late])
    return st.tuples(early, CLOSES, later).map(lambda parts: [*parts[0], parts[1], *parts[2]])


@contextmanager
def book_of(rules: Rules) -> Generator[Book]:
    """A book of a new meter, long after the periods."""
    clock = Clock(RANGE[1] + timedelta(days=1))
    with Metering.open("sqlite://", policy=LIFTED.model_copy(update={"grace": None}), clock=clock) as metering:
        yield Book(metering, clock, rules)


def tell(book: Book, history: list[Step], after: Callable[[], None] | None = None) -> None:
    """Do each step, a second after the one before."""
    for step in history:
        book.clock.now += timedelta(seconds=1)
        step(book)
        if after is not None:
            after()
