"""Random histories of a ledger: meter events, cancellations and revocations in any order."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from hypothesis import strategies as st
from tallybook.application import AcceptancePolicy, Metering, Outcome, Receipt, TallybookError, Total

from ..notation import Clock
from .naive import HistoryEntry, ReferenceTotals, cancelled_identifiers

BEGINNING = datetime(2026, 3, 27, 22, tzinfo=UTC)  # two days before a DST change in Berlin
LIFTED = AcceptancePolicy(max_age=None, max_ahead=None, cancel_window=None, max_digits=None)
FORMULAS = ("sum", "count", "last", "max", "min", "avg", "unique_count")
WINDOWS = (None, "hour", "day")
CUSTOMERS = ("acme", "beta", "core")
REGIONS = ("eu", "us")
FILTER = {"not": {"key": "kind", "equals": "test"}}


@dataclass(frozen=True)
class MeterRules:
    """The rules of a meter. Its region is a required dimension, an optional one (`region?`), or none.

    With a filter, it counts no events of the kind `test`.
    """

    formula: str
    window: str | None = None
    region: str | None = None
    has_filter: bool = False
    multiplier: str | None = None

    @property
    def name(self) -> str:
        """The event name of the meter."""
        words = (self.formula, self.window, self.region, "filter" if self.has_filter else None, self.multiplier)
        return "-".join(word for word in words if word)

    @property
    def arguments(self) -> dict[str, object]:
        """The rules as arguments of `metering.meters.configure`."""
        return {
            "formula": self.formula,
            "event_time_window": self.window,
            "customer_key": "customer",
            "dimension_keys": ("region",) if self.region == "region" else (),
            "optional_dimension_keys": ("region",) if self.region == "region?" else (),
            "filter": FILTER if self.has_filter else None,
            "multiplier": self.multiplier,
        }


def meter_rules(*, windows: Sequence[str | None] = WINDOWS) -> st.SearchStrategy[MeterRules]:
    """Return a strategy for rules of every formula: plain ones, and ones with a region, a filter or a multiplier."""
    formulas, event_time_windows = st.sampled_from(FORMULAS), st.sampled_from(windows)
    return st.one_of(
        st.builds(MeterRules, formulas, event_time_windows),
        st.builds(MeterRules, formulas, event_time_windows, st.sampled_from(["region", "region?"])),
        st.builds(
            MeterRules,
            formulas,
            event_time_windows,
            st.sampled_from([None, "region", "region?"]),
            st.sampled_from([True, True, False]),
            st.sampled_from([None, "1/3", "1000"]),
        ),
    )


@dataclass(frozen=True)
class Step:
    """A call: record a meter event, cancel the event of an identifier, or revoke the newest cancellation."""

    meter: MeterRules
    identifier: str
    customer: str = ""
    minutes: float = 0
    value: str | None = None
    region: str | None = "eu"
    is_test: bool = False
    cancels: bool = False
    revokes: bool = False
    pause_seconds: int = 0

    @property
    def payload(self) -> dict[str, str]:
        """The payload as reported."""
        payload = {
            "customer": self.customer,
            "value": self.value,
            "region": None if self.meter.region is None else self.region,
            "kind": "test" if self.is_test else None,
        }
        return {key: value for key, value in payload.items() if value is not None}

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


METER_RULES = meter_rules()
# Few moments, so that many are equal, many in one hour, and some on the edges of hours, days and months.
MINUTES = st.one_of(
    st.sampled_from([0.0, 1.0, 59.999999, 60.0, 119.0, 120.0, 1560.0, 1559.9, 2999.0, 3000.0, 4440.0]),
    st.integers(0, 6 * 24 * 60).map(float),
)
VALUES = st.one_of(
    st.integers(-20, 20).map(str),
    st.sampled_from(["0.1", "0.2", "-0.3", "0", "-0", "9" * 40, "-" + "9" * 40, "0." + "0" * 30 + "1", "1.50"]),
    st.sampled_from(["5", "5.0", "5.00", "-5.0", "0.0000000", "0.00000010", "0.0000001"]),
)
TEXTS = st.sampled_from(["u1", "u2", "U1", "1", "1.0", "", "é"])


@st.composite
def steps(
    draw: st.DrawFn,
    meters: int = 3,
    max_size: int = 25,
    *,
    min_size: int = 1,
    allowed_meters: st.SearchStrategy[MeterRules] = METER_RULES,
    customers: Sequence[str] = CUSTOMERS,
    minutes: st.SearchStrategy[float] = MINUTES,
) -> list[Step]:
    """Draw a history of a few meters: new, repeated, conflicting and late meter events, and cancellations."""
    chosen = draw(st.lists(allowed_meters, min_size=1, max_size=meters, unique=True))
    identifiers = st.integers(0, max_size).map(str)

    def step() -> Step:
        meter = draw(st.sampled_from(chosen))
        is_test = meter.has_filter and draw(st.booleans())
        values = TEXTS if meter.formula == "unique_count" else VALUES
        regions = REGIONS if meter.region == "region" and not is_test else (None, *REGIONS)
        return Step(
            meter,
            draw(identifiers),
            draw(st.sampled_from(customers)),
            draw(minutes),
            draw(st.none() | values if meter.formula == "count" or is_test else values),
            draw(st.sampled_from(regions)),
            is_test,
            cancels=(kind := draw(st.integers(0, 9))) < 3,
            revokes=kind == 2,
            pause_seconds=draw(st.sampled_from([0, 0, 1, 3_600])),
        )

    history = [step() for _ in range(draw(st.integers(min_size, max_size)))]
    repeated = draw(st.lists(st.sampled_from(history), max_size=3))
    return history + repeated


def meters_of(history: Sequence[Step]) -> list[MeterRules]:
    """Return the meters of a history."""
    return list(dict.fromkeys(step.meter for step in history))


@contextmanager
def open_ledger(meters: Sequence[MeterRules], url: str = "sqlite://") -> Generator[tuple[Metering, Clock]]:
    """Open a ledger with these meters, and its clock."""
    clock = Clock(BEGINNING)
    with Metering.open(url, policy=LIFTED, clock=clock) as metering:
        for meter in meters:
            metering.meters.configure(meter.name, **meter.arguments)  # pyright: ignore[reportArgumentType]
        yield metering, clock


def run_steps(
    metering: Metering, clock: Clock, history: list[Step], after: Callable[[list[HistoryEntry]], None] | None = None
) -> list[HistoryEntry]:
    """Run the steps one by one; return the entries that the ledger must have stored after the meters of the history.

    `after` is called after each stored entry.
    """
    entries: list[HistoryEntry] = []
    meter_count = len(meters_of(history))
    for step in history:
        clock.now += timedelta(seconds=step.pause_seconds)
        position = meter_count + len(entries) + 1
        if step.revokes:
            entry = _revoke(metering, step, entries, position, clock.now)
        elif step.cancels:
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
    if step.identifier in cancelled_identifiers(entries):
        return None
    return HistoryEntry(position, now, step.identifier, cancels=True)


def _revoke(
    metering: Metering, step: Step, entries: list[HistoryEntry], position: int, now: datetime
) -> HistoryEntry | None:
    """Revoke the newest cancellation in effect; without one, the call changes nothing."""
    cancelled = cancelled_identifiers(entries)
    newest = [entry.identifier for entry in entries if entry.identifier in cancelled and entry.cancels]
    identifier = newest[-1] if newest else step.identifier
    meter = next((entry.meter for entry in entries if entry.identifier == identifier), step.meter.name)
    try:
        metering.revoke_cancel(meter, identifier, reason="cancelled by mistake")
    except TallybookError:
        assert not any(entry.identifier == identifier and entry.cancels for entry in entries)
        return None
    return HistoryEntry(position, now, identifier, cancels=True, revokes=True) if newest else None


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
    dimensions = () if step.meter.region is None else (step.region,)
    entry = HistoryEntry(
        position, now, step.identifier, step.meter.name, step.customer, step.occurred_at, step.value, dimensions,
        payload=step.payload,
    )  # fmt: skip
    if step.is_test:
        return replace(entry, value=None, is_filtered=True)
    return replace(entry, value=None, unique_value=step.value) if step.meter.formula == "unique_count" else entry


def expected_outcome(entry: HistoryEntry, existing: HistoryEntry | None) -> Outcome:
    """Return the outcome of recording `entry` if `existing` has the same identifier."""
    if existing is None:
        return Outcome.ACCEPTED
    same = (entry.meter, entry.payload, entry.occurred_at) == (existing.meter, existing.payload, existing.occurred_at)
    return Outcome.DUPLICATE if same else Outcome.CONFLICT


def totals_of(total: Total) -> ReferenceTotals:
    """Return a total in the form of the naive model."""
    last, smallest, largest = (
        None if value is None else Fraction(value) for value in (total.last, total.min, total.max)
    )
    return ReferenceTotals(Fraction(total.sum), total.count, last, smallest, largest)


def outcomes(receipts: list[Receipt]) -> list[Outcome]:
    """Return the outcomes of receipts."""
    return [receipt.outcome for receipt in receipts]
