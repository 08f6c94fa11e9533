"""The fold by columns: what it folds, it folds as the loop over the events does."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.domain.errors import ProjectionStopped
from tallybook.domain.event_time_window import EventTimeWindow
from tallybook.domain.formulas import Formula
from tallybook.domain.meter_event import MeterEventData
from tallybook.domain.rules import Rules
from tallybook.projections import fold
from tallybook.projections.buckets import DAY_MICROSECONDS
from tallybook.projections.fold import fold_page
from tallybook.projections.fold_columns import fold_columns
from tallybook.projections.models import FoldedRules, ProjectedMeter, RulesRevision
from tallybook.projections.page_usage import PageUsage
from tallybook.projections.stored_events import DecodedEvent, EventChunk, OtherData

DAY = datetime(2026, 10, 1, tzinfo=UTC)
PLAIN = Rules(customer_key="c", value_key="v")


def meter(name: str, *rules: tuple[int, Rules], first_id: int = 1, source: str | None = None) -> ProjectedMeter:
    folded = tuple(FoldedRules(first_id + number, start, part) for number, (start, part) in enumerate(rules))
    return ProjectedMeter(name, folded, (RulesRevision(1, rules[0][1], 1, 0),), source)


ALWAYS = -(10**18)
METERS: Mapping[str, ProjectedMeter] = {
    "calls": meter("calls", (ALWAYS, PLAIN)),
    "daily": meter("daily", (ALWAYS, PLAIN.model_copy(update={"event_time_window": EventTimeWindow.DAY})), first_id=2),
    "hourly": meter(
        "hourly", (ALWAYS, PLAIN.model_copy(update={"event_time_window": EventTimeWindow.HOUR})), first_id=3
    ),
    "regions": meter("regions", (ALWAYS, PLAIN.model_copy(update={"optional_dimension_keys": ("r",)})), first_id=4),
    "users": meter("users", (ALWAYS, PLAIN.model_copy(update={"formula": Formula.UNIQUE_COUNT})), first_id=5),
    "changed": meter("changed", (ALWAYS, PLAIN), (0, PLAIN.model_copy(update={"value_key": "r"})), first_id=6),
    "sourced": meter("sourced", (ALWAYS, PLAIN), first_id=8),
    "derived": meter("derived", (ALWAYS, PLAIN), first_id=9, source="sourced"),
    "mixed": meter("mixed", (ALWAYS, PLAIN), first_id=10),
    "by_region": meter(
        "by_region", (ALWAYS, PLAIN.model_copy(update={"optional_dimension_keys": ("r",)})), first_id=11, source="mixed"
    ),
}


def usage(
    name: str = "calls", payload: Mapping[str, str] | None = None, *, recorded: int = 0, occurred: int = 0
) -> MeterEventData:
    """Return a meter event that was recorded, and occurred, so many seconds after the start of a day."""
    recorded_at, occurred_at = DAY + timedelta(seconds=recorded), DAY + timedelta(seconds=occurred)
    return MeterEventData(recorded_at, name, dict(payload or {"c": "acme", "v": "1"}), occurred_at)


def chunk_of(*events: DecodedEvent, first: int = 5) -> EventChunk:
    return EventChunk(range(first, first + len(events)), events)


def usage_of(page: PageUsage) -> dict[int, Any]:
    return {part.folded.meter_id: dict(part.rows) for meter_usage in page.changed for part in meter_usage.parts}


NAIVE = MeterEventData(DAY, "calls", {"c": "acme", "v": "1"}, DAY.replace(tzinfo=None))
RECORDED_NAIVE = MeterEventData(DAY.replace(tzinfo=None), "calls", {"c": "acme", "v": "1"}, DAY)


class CustomerIds(dict[str, int]):
    """Numbers customers in order of appearance."""

    def __missing__(self, customer: str) -> int:
        customer_id = self[customer] = len(self)
        return customer_id


def result(chunks: Sequence[EventChunk]) -> object:
    """Return the usage and the marks of a page, or the event that stops it."""
    customers = CustomerIds()
    try:
        page = fold_page(chunks, METERS, customers, {})
    except ProjectionStopped as error:
        return error.position, str(error)
    rows_by_part = usage_of(page)
    rows = [row for rows in rows_by_part.values() for rows_of_customer in rows.values() for row in rows_of_customer]
    assert page.days == {row.occurred_at // DAY_MICROSECONDS for row in rows}
    return rows_by_part, customers, page.marks.marks, page.marks.latest


def is_folded(*events: DecodedEvent) -> bool:
    """Return whether events are folded by columns. If not, nothing may have changed."""
    page, customers = PageUsage(METERS), CustomerIds()
    folded = fold_columns(chunk_of(*events), page, customers)
    assert folded or not (page.changed or customers or page.marks.marks)
    return folded


VALID = [{"c": customer, "v": value} for customer in ("acme", "globex", "initech") for value in ("1", "-0.50", "7")]
INVALID = [{"c": "acme", "v": "1e3"}, {"c": "", "v": "1"}, {"c": "a\0b", "v": "1"}, {"c": "acme"}, {"v": "1"}]
PAYLOADS = st.sampled_from([*VALID * 5, {"c": "acme", "v": "2", "r": "eu"}, *INVALID])


@st.composite
def alike(draw: st.DrawFn) -> list[DecodedEvent]:
    """Draw usage of one meter and batch, mostly on one day."""
    name, recorded = draw(st.sampled_from([*METERS, "unknown"])), draw(st.integers(-2, 2))
    first, payloads = draw(st.sampled_from([0, 3_599, 86_398, -2])), draw(st.lists(PAYLOADS, min_size=1, max_size=6))
    return [usage(name, payload, recorded=recorded, occurred=first + number) for number, payload in enumerate(payloads)]


@st.composite
def others(draw: st.DrawFn) -> list[DecodedEvent]:
    """Draw an event that affects no usage, or that can't be folded."""
    return [draw(st.sampled_from([OtherData(DAY), OtherData(DAY + timedelta(seconds=1)), NAIVE, RECORDED_NAIVE]))]


def fold_none(*_: object) -> bool:
    return False


@given(st.lists(alike() | others(), min_size=1, max_size=5), st.integers(1, 300), st.integers(1, 20))
def test_events_are_folded_as_one_by_one(parts: list[list[DecodedEvent]], first: int, size: int) -> None:
    """Usage of several meters, batches and days, of which some is invalid, in chunks of any size."""
    events = [event for part in parts for event in part]
    chunks = [chunk_of(*events[start : start + size], first=first + start) for start in range(0, len(events), size)]
    folded = result(chunks)
    with patch.object(fold, "fold_columns", fold_none):
        assert folded == result(chunks)


@pytest.mark.parametrize("name", ["calls", "daily", "hourly", "sourced"])
def test_usage_of_one_batch_and_meter_is_folded(name: str) -> None:
    """Also at equal times, on several days, in any order of time, and by each meter that counts it."""
    assert is_folded(usage(name))
    assert is_folded(usage(name), usage(name, {"c": "globex", "v": "-2.5"}, occurred=86_400), usage(name, occurred=5))


@pytest.mark.parametrize(
    "events",
    [
        [usage("regions")],
        [usage("users")],
        [usage("changed")],
        [usage("mixed")],
        [usage("unknown")],
        [usage(), usage(recorded=1)],
        [usage(), usage(recorded=1), usage()],
        [usage(), usage("sourced"), usage()],
        [NAIVE],
        [RECORDED_NAIVE],
        [usage(), NAIVE],
        [NAIVE, usage()],
        [usage(), OtherData(DAY)],
        [OtherData(DAY), usage()],
        [usage(), OtherData(DAY), usage()],
        [usage(), usage(payload={"c": "acme"})],
        [usage(), usage(payload={"v": "1"})],
        [usage(), usage(payload={"c": "", "v": "1"})],
        [usage(), usage(payload={"c": "a\0", "v": "1"})],
        [usage(), usage(payload={"c": "acme", "v": "1e3"})],
    ],
)
def test_other_events_are_left_to_the_loop(events: list[DecodedEvent]) -> None:
    """Other rules, several meters or batches, other events, and a payload or a time that is invalid."""
    assert not is_folded(*events)


@pytest.mark.parametrize(
    ("batches", "expected"), [((3,), [3]), ((3, 2), [3, 2]), ((1, 1), [1, 1]), ((3, 2, 1), [6]), ((1, 1, 1), [3])]
)
def test_a_chunk_is_divided_between_two_batches(batches: tuple[int, ...], expected: list[int]) -> None:
    """Of three batches it isn't: each event of a ledger may have been recorded by itself."""
    sizes: list[int] = []

    def count_events(chunk: EventChunk, *others: Any) -> bool:
        sizes.append(len(chunk.events))
        return fold_columns(chunk, *others)

    events = [usage(recorded=number) for number, size in enumerate(batches) for _ in range(size)]
    with patch.object(fold, "fold_columns", count_events):
        page = fold_page([chunk_of(*events)], METERS, CustomerIds(), {})
    assert sizes == expected
    assert [row.position for rows in usage_of(page)[1].values() for row in rows] == list(range(5, 5 + sum(batches)))
