"""Explanations of any number of meter events, read while they are iterated."""

import tracemalloc
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from tallybook.application import ExplainedEvent, Explanation, Metering, MeterNotFound

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)


def record_hours(metering: Metering, count: int, **rules: Any) -> None:
    """Record one meter event an hour of two customers in turn, the value of each its number."""
    metering.meters.configure("tokens", customer_key="customer", value_key="tokens", **rules)  # type: ignore[arg-type]
    metering.record_many(
        [
            {
                "event_name": "tokens",
                "payload": {"customer": "acme" if number % 2 else "zeta", "tokens": str(number)},
                "identifier": f"e{number}",
                "timestamp": START + timedelta(seconds=number),
            }
            for number in range(count)
        ]
    )


def streamed(metering: Metering, customer: str | None, as_of: int | None = None) -> Explanation:
    """Return a streamed explanation as an Explanation."""
    with metering.open_explanation("tokens", customer, START, END, as_of=as_of) as stream:
        events = tuple(stream.events)
        assert stream.event_count == len(events)
        return Explanation(
            stream.total,
            stream.formula,
            stream.event_time_window,
            stream.revision,
            stream.position,
            stream.digest,
            stream.dimension_keys,
            events,
        )


@pytest.mark.parametrize("rules", [{}, {"formula": "count"}, {"formula": "last", "event_time_window": "hour"}])
@pytest.mark.parametrize("customer", [None, "acme", "unknown"])
def test_a_stream_has_the_events_of_an_explanation(
    metering: Metering, rules: dict[str, str], customer: str | None
) -> None:
    """This holds over several batches, with cancellations and superseded events, and as of a position."""
    record_hours(metering, 2_500, **rules)
    for identifier in ("e7", "e2401"):
        metering.cancel("tokens", identifier, reason="wrong")
    explanation = metering.explain("tokens", customer, START, END)
    assert streamed(metering, customer) == explanation
    assert sum(event.contribution for event in explanation.events) == explanation.total.value
    assert len(explanation.events) == {None: 2_500, "acme": 1_250, "unknown": 0}[customer]
    as_of = metering.explain("tokens", customer, START, END, as_of=1_000)
    assert streamed(metering, customer, 1_000) == as_of


def test_progress_is_reported_while_the_total_is_computed(metering: Metering) -> None:
    """The unit of progress is meter events."""
    record_hours(metering, 2_500)
    counts: list[int] = []
    with metering.open_explanation("tokens", None, START, END, progress=counts.append):
        assert counts == [1_000, 2_000, 2_500]


def test_events_recorded_meanwhile_are_not_part_of_the_stream(metering: Metering) -> None:
    """The events add up to the total, even if other events are recorded while they are read."""
    record_hours(metering, 2_500)
    with metering.open_explanation("tokens", None, START, END) as stream:
        first: ExplainedEvent = next(stream.events)
        metering.record("tokens", {"customer": "acme", "tokens": "5"}, timestamp=END - timedelta(hours=1))
        metering.cancel("tokens", "e2000")
        contributions = [first.contribution, *(event.contribution for event in stream.events)]
    assert (len(contributions), sum(contributions)) == (2_500, stream.total.value)


@pytest.mark.parametrize("count", [5, 2_500])
@pytest.mark.parametrize("read_inside", [0, 1, 2_500])
def test_no_events_are_read_after_the_block(metering: Metering, count: int, read_inside: int) -> None:
    """They would come from a newer state than the total."""
    record_hours(metering, count)
    with metering.open_explanation("tokens", None, START, END) as stream:
        assert len(list(islice(stream.events, read_inside))) == min(read_inside, count)
    metering.record("tokens", {"customer": "acme", "tokens": "5"}, timestamp=END - timedelta(hours=1))
    with pytest.raises(RuntimeError, match="inside the block"):
        next(stream.events)


def test_an_error_is_raised_when_the_block_is_entered(metering: Metering) -> None:
    """The error is the one that `explain` raises."""
    with pytest.raises(MeterNotFound), metering.open_explanation("nothing", None, START, END):
        pass


@pytest.mark.slow
def test_memory_is_flat(metering: Metering) -> None:
    """Ten times as many meter events need no more memory."""
    peaks: list[int] = []
    record_hours(metering, 20_000)
    for seconds in (2_000, 20_000):
        tracemalloc.start()
        with metering.open_explanation("tokens", None, START, START + timedelta(seconds=seconds)) as stream:
            assert sum(1 for _ in stream.events) == seconds
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]
