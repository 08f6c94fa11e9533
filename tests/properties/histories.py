"""Random histories of a ledger: meter events and cancellations in any order."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from hypothesis import strategies as st
from tallybook.application import AcceptancePolicy, Metering, Outcome, Receipt, TallybookError, Total

from ..notation import Clock
from .naive import HistoryEntry, ReferenceTotals

BEGINNING = datetime(2026, 3, 27, 22, tzinfo=UTC)  # two days before a DST change in Berlin
LIFTED = AcceptancePolicy(max_age=None, max_ahead=None, cancel_window=None, max_digits=None)
FORMULAS = ("sum", "count", "last")
WINDOWS = (None, "hour", "day")
CUSTOMERS = ("acme", "beta", "core")
REGIONS = ("eu", "us")


@dataclass(frozen=True)
class MeterRules:
    """The rules of a meter."""

    name: str
    formula: str
    window: str | None
    by_region: bool


METERS = tuple(
    MeterRules(f"{formula}-{window}-{'region' if by_region else 'plain'}", formula, window, by_region)
    for formula in FORMULAS
    for window in WINDOWS
    for by_region in (False, True)
)


@dataclass(frozen=True)
class Step:
    """A call: record a meter event, or cancel the event of an identifier."""

    meter: MeterRules
    identifier: str
    customer: str = ""
    minutes: float = 0
    value: str | None = None
    region: str = "eu"
    cancels: bool = False
    pause_seconds: int = 0

    @property
    def payload(self) -> dict[str, str]:
        """The payload as reported."""
        payload = {"customer": self.customer} | ({} if self.value is None else {"value": self.value})
        return payload | ({"region": self.region} if self.meter.by_region else {})

    @property
    def occurred_at(self) -> datetime:
        """When the use happened."""
        return BEGINNING + timedelta(minutes=self.minutes)

    @property
    def event_input(self) -> dict[str, object]:
        """The report as handed in."""
        return {
            "event_name": self.meter.name,
            "payload": self.payload,
            "identifier": self.identifier,
            "timestamp": self.occurred_at,
        }


# Few moments, so that many are equal, many in one hour, and some on the edges of hours, days and months.
MINUTES = st.one_of(
    st.sampled_from([0.0, 1.0, 59.999999, 60.0, 119.0, 120.0, 1560.0, 1559.9, 2999.0, 3000.0, 4440.0]),
    st.integers(0, 6 * 24 * 60).map(float),
)
VALUES = st.one_of(
    st.integers(-20, 20).map(str),
    st.sampled_from(["0.1", "0.2", "-0.3", "0", "-0", "9" * 40, "-" + "9" * 40, "0." + "0" * 30 + "1", "1.50"]),
)


@st.composite
def steps(
    draw: st.DrawFn,
    meters: int = 3,
    max_size: int = 25,
    *,
    min_size: int = 1,
    allowed_meters: Sequence[MeterRules] = METERS,
    customers: Sequence[str] = CUSTOMERS,
    minutes: st.SearchStrategy[float] = MINUTES,
) -> list[Step]:
    """Draw a history of a few meters: new, repeated, conflicting and late meter events, and cancellations."""
    chosen = draw(st.lists(st.sampled_from(allowed_meters), min_size=1, max_size=meters, unique=True))
    identifiers = st.integers(0, max_size).map(str)

    def step() -> Step:
        meter = draw(st.sampled_from(chosen))
        values = st.none() | VALUES if meter.formula == "count" else VALUES
        return Step(
            meter,
            draw(identifiers),
            draw(st.sampled_from(customers)),
            draw(minutes),
            draw(values),
            draw(st.sampled_from(REGIONS)),
            cancels=draw(st.integers(0, 4)) == 0,
            pause_seconds=draw(st.sampled_from([0, 0, 1, 3_600])),
        )

    history = [step() for _ in range(draw(st.integers(min_size, max_size)))]
    repeated = draw(st.lists(st.sampled_from(history), max_size=3))
    return history + repeated


@contextmanager
def open_ledger(url: str = "sqlite://") -> Generator[tuple[Metering, Clock]]:
    """Open a ledger with all meters, and its clock."""
    clock = Clock(BEGINNING)
    with Metering.open(url, policy=LIFTED, clock=clock) as metering:
        for meter in METERS:
            configure(metering, meter)
        yield metering, clock


def configure(metering: Metering, meter: MeterRules) -> None:
    """Configure a meter by its rules."""
    metering.meters.configure(
        meter.name,
        formula=meter.formula,
        event_time_window=meter.window,
        customer_key="customer",
        dimension_keys=("region",) if meter.by_region else (),
    )


def run_steps(
    metering: Metering, clock: Clock, history: list[Step], after: Callable[[list[HistoryEntry]], None] | None = None
) -> list[HistoryEntry]:
    """Run the steps one by one; return the entries that the ledger must have stored.

    `after` is called after each stored entry.
    """
    entries: list[HistoryEntry] = []
    for step in history:
        clock.now += timedelta(seconds=step.pause_seconds)
        position = len(METERS) + len(entries) + 1
        if step.cancels:
            entry = _cancel(metering, step, entries, position, clock.now)
        else:
            entry = _record(metering, step, entries, position, clock.now)
        if entry is not None:
            entries.append(entry)
            if after is not None:
                after(entries)
    return entries


def catch_up_every(metering: Metering, interval: int) -> Callable[[list[HistoryEntry]], None]:
    """Return a function that catches up after every `interval` entries, so that later pages extend earlier rows."""

    def catch_up(entries: list[HistoryEntry]) -> None:
        if len(entries) % interval == 0:
            metering.catch_up()

    return catch_up


def _cancel(
    metering: Metering, step: Step, entries: list[HistoryEntry], position: int, now: datetime
) -> HistoryEntry | None:
    recorded = [entry for entry in entries if entry.identifier == step.identifier]
    try:
        metering.cancel(step.meter.name, step.identifier)
    except TallybookError:
        assert not recorded or recorded[0].meter != step.meter.name
        return None
    assert recorded[0].meter == step.meter.name
    return None if len(recorded) > 1 else HistoryEntry(position, now, step.identifier, cancels=True)


def _record(
    metering: Metering, step: Step, entries: list[HistoryEntry], position: int, now: datetime
) -> HistoryEntry | None:
    (receipt,) = metering.record_many([step.event_input])
    entry = entry_of(step, position, now)
    before = next((past_entry for past_entry in entries if past_entry.identifier == step.identifier), None)
    assert receipt.outcome is expected_outcome(entry, before)
    assert receipt.position == (position if before is None else before.position)
    return entry if before is None else None


def entry_of(step: Step, position: int, now: datetime) -> HistoryEntry:
    """Return the entry of a step's meter event at a position."""
    dimensions = (step.region,) if step.meter.by_region else ()
    return HistoryEntry(
        position, now, step.identifier, step.meter.name, step.customer, step.occurred_at, step.value, dimensions
    )


def expected_outcome(entry: HistoryEntry, existing: HistoryEntry | None) -> Outcome:
    """Return the outcome of recording `entry` if `existing` has the same identifier."""
    if existing is None:
        return Outcome.ACCEPTED
    same = (entry.meter, entry.customer, entry.occurred_at, entry.value, entry.dimensions) == (
        existing.meter, existing.customer, existing.occurred_at, existing.value, existing.dimensions,
    )  # fmt: skip
    return Outcome.DUPLICATE if same else Outcome.CONFLICT


def totals_of(total: Total) -> ReferenceTotals:
    """Return a total in the form of the naive model."""
    return Fraction(total.sum), total.count, None if total.last is None else Fraction(total.last)


def outcomes(receipts: list[Receipt]) -> list[Outcome]:
    """Return the outcomes of receipts."""
    return [receipt.outcome for receipt in receipts]
