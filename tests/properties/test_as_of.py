"""As of a position or a moment, a ledger answers what it answered then."""

from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import Metering, Total

from .histories import BEGINNING, CUSTOMERS, METERS, Step, of, opened, steps, tell
from .naive import Said, effective, figures
from .test_answers import RANGES, WHOLE, told

Answers = dict[str, list[Total]]


def answers(
    metering: Metering, history: list[Step], between: tuple[datetime, datetime], as_of: datetime | int | None
) -> Answers:
    """The answers of every sort about the meters of a history."""
    found: Answers = {}
    for meter in told(history):
        name = meter.name
        found[name] = [
            *metering.totals(name, *between, as_of=as_of),
            *(metering.total(name, customer, *between, as_of=as_of) for customer in (*CUSTOMERS, None)),
            *metering.summaries(name, None, *between, window="hour", timezone="Asia/Kathmandu", as_of=as_of),
            *metering.summaries(name, None, *between, window="hour", as_of=as_of),
            *metering.summaries(name, "acme", *between, window="day", timezone="Europe/Berlin", as_of=as_of),
            metering.explain(name, None, *between, as_of=as_of).total,
        ]
    return found


@settings(max_examples=25)
@given(steps(most=15), RANGES)
def test_as_of_each_position_is_what_was_answered_there(
    history: list[Step], between: tuple[datetime, datetime]
) -> None:
    """All that was answered while the ledger grew is answered again, as of the position it had."""
    then: dict[int, tuple[Answers, list[object]]] = {}
    with opened() as (metering, clock):

        def remember(said: list[Said]) -> None:
            listed: list[object] = [one for meter in told(history) for one in metering.events(meter.name)]
            then[said[-1].position] = (answers(metering, history, between, None), listed)

        tell(metering, clock, history, after=remember)
        for position, (answered, listed) in then.items():
            assert answers(metering, history, between, position) == answered
            again: list[object] = [
                one for meter in told(history) for one in metering.events(meter.name, as_of=position)
            ]
            assert again == listed


@given(steps(), st.integers(-1, 30))
def test_as_of_a_moment_is_what_was_recorded_up_to_it(history: list[Step], hours: int) -> None:
    """Recorded up to and including the moment; a cancel recorded later has not happened."""
    with opened() as (metering, clock):
        said = tell(metering, clock, history)
        for moment in (BEGINNING + timedelta(hours=hours), clock.now, clock.now - timedelta(microseconds=1)):
            known = [one for one in said if one.recorded_at <= moment]
            for meter in told(history):
                uses = effective(known, meter.name, meter.window)
                total = metering.total(meter.name, None, *WHOLE, as_of=moment)
                assert of(total) == figures(uses, None, *WHOLE)


@settings(max_examples=25)
@given(steps())
def test_as_of_the_head_is_now(history: list[Step]) -> None:
    """What is read from usage rows as of the head is what is read from buckets now."""
    with opened() as (metering, clock):
        said = tell(metering, clock, history)
        head = len(METERS) + len(said)
        for between in (WHOLE, (BEGINNING, BEGINNING + timedelta(hours=30))):
            assert answers(metering, history, between, head) == answers(metering, history, between, None)
            assert answers(metering, history, between, clock.now) == answers(metering, history, between, None)
