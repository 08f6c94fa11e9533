"""Random histories of a ledger: what somebody might report and cancel, in any order."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from hypothesis import strategies as st
from tallybook.application import AcceptancePolicy, Metering, Outcome, Receipt, TallybookError, Total

from ..notation import Clock
from .naive import Figures, Said

BEGINNING = datetime(2026, 3, 27, 22, tzinfo=UTC)  # Berlin's clocks change two days later
LIFTED = AcceptancePolicy(max_age=None, max_ahead=None, cancel_window=None, max_digits=None)
FORMULAS = ("sum", "count", "last")
WINDOWS = (None, "hour", "day")
CUSTOMERS = ("acme", "beta", "core")
REGIONS = ("eu", "us")


@dataclass(frozen=True)
class MeterRules:
    """The rules of a meter, as configured and as counted."""

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
    """Something that a caller does: report a use, or cancel the event of an identifier."""

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
    def report(self) -> dict[str, object]:
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
    most: int = 25,
    *,
    least: int = 1,
    among: Sequence[MeterRules] = METERS,
    customers: Sequence[str] = CUSTOMERS,
    minutes: st.SearchStrategy[float] = MINUTES,
) -> list[Step]:
    """A history of a few meters: reports, retries, conflicts and cancels, late ones among them."""
    chosen = draw(st.lists(st.sampled_from(among), min_size=1, max_size=meters, unique=True))
    identifiers = st.integers(0, most).map(str)

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

    history = [step() for _ in range(draw(st.integers(least, most)))]
    again = draw(st.lists(st.sampled_from(history), max_size=3))
    return history + again


@contextmanager
def opened(url: str = "sqlite://") -> Generator[tuple[Metering, Clock]]:
    """A ledger with all the meters, and its clock."""
    clock = Clock(BEGINNING)
    with Metering.open(url, policy=LIFTED, clock=clock) as metering:
        for meter in METERS:
            configure(metering, meter)
        yield metering, clock


def configure(metering: Metering, meter: MeterRules) -> None:
    """Configure a meter by its rules."""
    metering.configure_meter(
        meter.name,
        formula=meter.formula,
        event_time_window=meter.window,
        customer_key="customer",
        dimension_keys=("region",) if meter.by_region else (),
    )


def tell(
    metering: Metering, clock: Clock, history: list[Step], after: Callable[[list[Said]], None] | None = None
) -> list[Said]:
    """Do each step, one by one; give what the ledger must have kept of them.

    `after` is called whenever something was kept.
    """
    said: list[Said] = []
    for step in history:
        clock.now += timedelta(seconds=step.pause_seconds)
        position = len(METERS) + len(said) + 1
        if step.cancels:
            kept = _cancel(metering, step, said, position, clock.now)
        else:
            kept = _record(metering, step, said, position, clock.now)
        if kept is not None:
            said.append(kept)
            if after is not None:
                after(said)
    return said


def asking(metering: Metering, every: int) -> Callable[[list[Said]], None]:
    """Let the read models catch up now and then, so that what is counted later is added to what was."""

    def ask(said: list[Said]) -> None:
        if len(said) % every == 0:
            metering.catch_up()

    return ask


def _cancel(metering: Metering, step: Step, said: list[Said], position: int, now: datetime) -> Said | None:
    recorded = [one for one in said if one.identifier == step.identifier]
    try:
        metering.cancel(step.meter.name, step.identifier)
    except TallybookError:
        assert not recorded or recorded[0].meter != step.meter.name
        return None
    assert recorded[0].meter == step.meter.name
    return None if len(recorded) > 1 else Said(position, now, step.identifier, cancels=True)


def _record(metering: Metering, step: Step, said: list[Said], position: int, now: datetime) -> Said | None:
    (receipt,) = metering.record_many([step.report])
    use = used(step, position, now)
    before = next((one for one in said if one.identifier == step.identifier), None)
    assert receipt.outcome is expected_outcome(use, before)
    assert receipt.position == (position if before is None else before.position)
    return use if before is None else None


def used(step: Step, position: int, now: datetime) -> Said:
    """The use of a step, as it is kept at a position."""
    dimensions = (step.region,) if step.meter.by_region else ()
    return Said(
        position, now, step.identifier, step.meter.name, step.customer, step.occurred_at, step.value, dimensions
    )


def expected_outcome(use: Said, before: Said | None) -> Outcome:
    """What a report must be answered where `before` holds its identifier."""
    if before is None:
        return Outcome.ACCEPTED
    same = (use.meter, use.customer, use.occurred_at, use.value, use.dimensions) == (
        before.meter, before.customer, before.occurred_at, before.value, before.dimensions,
    )  # fmt: skip
    return Outcome.DUPLICATE if same else Outcome.CONFLICT


def of(total: Total) -> Figures:
    """The figures of an answer, as the naive model gives them."""
    return Fraction(total.sum), total.count, None if total.last is None else Fraction(total.last)


def outcomes(receipts: list[Receipt]) -> list[Outcome]:
    """The outcomes of receipts."""
    return [receipt.outcome for receipt in receipts]
