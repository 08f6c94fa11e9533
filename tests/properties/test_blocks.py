"""However usage blocks are split and concatenated, each result equals the naive model."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import Metering
from tallybook.domain.counting import UsageRecord
from tallybook.domain.timestamps import to_microseconds
from tallybook.projections import apply_delta, blocks, unsorted_usage
from tallybook.projections.blocks import UsageBlock

from ..notation import Clock
from ..sampling import examples
from .coverage import first_examples, search, stop_if_covered
from .histories import (
    BEGINNING,
    Step,
    catch_up_every,
    meter_rules,
    meters_of,
    open_ledger,
    run_steps,
    steps,
    totals_of,
)
from .naive import HistoryEntry, compute_totals, effective
from .test_queries import ALL_TIME, expected_verdicts, verdicts

CUSTOMERS = ("acme", "beta")
DAY = timedelta(days=1)
MINUTES = st.integers(0, 30 * 4).map(lambda quarter: quarter * 15.0)
"""Thirty hours on three days; the first day has two of them."""
DENSE = steps(
    2,
    50,
    min_size=10,
    allowed_meters=meter_rules(windows=(None, "hour")),
    customers=CUSTOMERS,
    minutes=MINUTES,
)
RANGES = st.lists(
    st.tuples(MINUTES, MINUTES).map(lambda ends: tuple(BEGINNING + timedelta(minutes=end) for end in sorted(ends))),
    min_size=1,
    max_size=4,
)


class Limits(NamedTuple):
    """Numbers of records of short, split and longest blocks, and when usage is unsorted and how many bytes of it."""

    short: int
    long: int
    longest: int
    unsorted_days: int = 10
    records_per_day: int = 8
    unsorted_bytes: int = 20_000


LIMITS = st.sampled_from([
    Limits(1, 1, 2), Limits(2, 3, 4), Limits(3, 4, 9), Limits(64, 256, 1_000),
    Limits(1, 1, 2, 1, 100, 60), Limits(2, 3, 4, 2, 2, 200), Limits(3, 4, 9, 1, 4), Limits(64, 256, 1_000, 1, 100, 400),
])  # fmt: skip
PAGES = st.integers(1, 40)
CATCH_UP_INTERVALS = st.integers(1, 20)


@contextmanager
def open_with_limits(history: list[Step], limits: Limits, page_size: int) -> Generator[tuple[Metering, Clock]]:
    """Open a ledger with the meters of a history, these block size limits and this page size."""
    with pytest.MonkeyPatch.context() as patch, open_ledger(meters_of(history)) as (metering, clock):
        patch.setattr(apply_delta, "MIN_BLOCK_SIZE", limits.short)
        patch.setattr(blocks, "MIN_BLOCK_SIZE", limits.short)
        patch.setattr(blocks, "SPLIT_THRESHOLD", limits.long)
        patch.setattr(blocks, "MAX_BLOCK_SIZE", limits.longest)
        patch.setattr(unsorted_usage, "MIN_UNSORTED_DAYS", limits.unsorted_days)
        patch.setattr(unsorted_usage, "FEW_RECORDS_PER_DAY", limits.records_per_day)
        patch.setattr(unsorted_usage, "MAX_UNSORTED_BYTES", limits.unsorted_bytes)
        patch.setattr(unsorted_usage, "MAX_UNSORTED_BYTES_OF_METER", 3 * limits.unsorted_bytes)
        metering._projector.page_size = page_size  # pyright: ignore[reportPrivateUsage]
        yield metering, clock


@settings(max_examples=examples(25))
@given(DENSE, LIMITS, PAGES, CATCH_UP_INTERVALS, RANGES)
def test_any_range_and_window_equals_the_reference_model(
    history: list[Step],
    limits: Limits,
    page_size: int,
    interval: int,
    ranges: list[tuple[datetime, datetime]],
) -> None:
    """Ranges within a day and over midnight, and hours of a timezone with an offset of 45 minutes."""
    with open_with_limits(history, limits, page_size) as (metering, clock):
        entries = run_steps(metering, clock, history, after=catch_up_every(metering, interval))
        for meter in meters_of(history):
            counted = effective(entries, meter.name, meter.window)
            for between in ranges:
                for customer in (*CUSTOMERS, None):
                    assert totals_of(metering.total(meter.name, customer, *between)) == compute_totals(
                        counted, customer, *between, meter.window
                    )
                by_hour = metering.summaries(meter.name, None, *between, window="hour", timezone="Asia/Kathmandu")
                assert [totals_of(summary) for summary in by_hour] == [
                    compute_totals(
                        counted, None, max(summary.start, between[0]), min(summary.end, between[1]), meter.window
                    )
                    for summary in by_hour
                ]
                assert (
                    sum(summary.count for summary in by_hour)
                    == compute_totals(counted, None, *between, meter.window)[1]
                )


@settings(max_examples=examples(25))
@given(DENSE, LIMITS, PAGES, CATCH_UP_INTERVALS, RANGES)
def test_events_of_overlapping_blocks_are_ordered_by_time(
    history: list[Step],
    limits: Limits,
    page_size: int,
    interval: int,
    ranges: list[tuple[datetime, datetime]],
) -> None:
    """Events of the same time are in the order of recording; now, and as of an earlier position."""
    with open_with_limits(history, limits, page_size) as (metering, clock):
        entries = run_steps(metering, clock, history, after=catch_up_every(metering, interval))
        middle = len(meters_of(history)) + len(entries) // 2
        for meter in meters_of(history):
            listed = [event.identifier for event in metering.events(meter.name)]
            assert listed == [identifier for identifier, _ in expected_verdicts(entries, meter, None, ALL_TIME)]
            for between in ranges:
                for as_of in (None, middle):
                    visible = entries if as_of is None else [entry for entry in entries if entry.position <= as_of]
                    explained = metering.explain(meter.name, None, *between, as_of=as_of)
                    assert verdicts(explained) == expected_verdicts(visible, meter, None, between)


@settings(max_examples=examples(25))
@given(DENSE, LIMITS, PAGES, CATCH_UP_INTERVALS)
def test_blocks_match_their_usage_records(history: list[Step], limits: Limits, page_size: int, interval: int) -> None:
    """Each record is in one block, in ledger order; the header of a block matches its records."""
    with open_with_limits(history, limits, page_size) as (metering, clock):
        entries = run_steps(metering, clock, history, after=catch_up_every(metering, interval))
        stored = list(stored_blocks(metering))
        for block, records in stored:
            assert msgspec.structs.replace(block, encoded=None) == UsageBlock.from_usage(block.key, records)
        positions = [usage.position for _, records in stored for usage in records]
        assert sorted(positions) == [entry.position for entry in entries if not entry.cancels]


def stored_blocks(metering: Metering) -> Iterator[tuple[UsageBlock, list[UsageRecord]]]:
    """Yield all blocks with their records, meter by meter."""
    metering.catch_up()
    start, end = map(to_microseconds, (BEGINNING - 2 * DAY, BEGINNING + 9 * DAY))
    with metering._read_models.read_session() as rows:  # pyright: ignore[reportPrivateUsage]
        for meter in rows.meters().values():
            (folded,) = meter.folded
            bucket_seconds = 3_600 if folded.rules.event_time_window else 86_400
            blocks = [
                *rows.blocks_between(folded.meter_id, None, bucket_seconds, start, end),
                *rows.unsorted_blocks_between(folded.meter_id, None, start, end),
            ]
            yield from zip(blocks, rows.usage_in(folded.meter_id, blocks), strict=True)


def test_the_histories_cover_every_case() -> None:
    """Some have blocks that were split, concatenated, overlap, are cancelled completely, or cross a ragged edge."""
    expected_kinds = {
        "cut", "joined", "overlapping", "cancelled whole", "over an edge", "within", "of an hour", "unsorted",
    }  # fmt: skip
    seen_kinds: set[str] = set()

    @first_examples(600)
    @given(DENSE, LIMITS, PAGES, CATCH_UP_INTERVALS, RANGES)
    def collect(
        history: list[Step],
        limits: Limits,
        page_size: int,
        interval: int,
        ranges: list[tuple[datetime, datetime]],
    ) -> None:
        caught_up: list[int] = []

        def catch_up_and_note(said: list[HistoryEntry]) -> None:
            if len(said) % interval == 0:
                caught_up.append(metering.catch_up())

        with open_with_limits(history, limits, page_size) as (metering, clock):
            run_steps(metering, clock, history, after=catch_up_and_note)
            stored = list(stored_blocks(metering))
        neighbours = [
            (block, next_block) for (block, _), (next_block, _) in pairwise(stored) if block.key == next_block.key
        ]
        edges = [to_microseconds(edge) for between in ranges for edge in between]
        present = {
            "cut": bool(neighbours),
            "joined": any(
                records[0].position <= at < records[-1].position for _, records in stored for at in caught_up
            ),
            "overlapping": any(max(a.earliest, b.earliest) <= min(a.latest, b.latest) for a, b in neighbours),
            "cancelled whole": any(not run.totals.count for run, _ in stored),
            "over an edge": any(run.earliest < edge <= run.latest for run, _ in stored for edge in edges),
            "within": any(len(records) > 1 for _, records in stored),
            "unsorted": any(run.encoded is not None for run, _ in stored),
            "of an hour": any(run.key[1] % (86_400 * 10**6) for run, _ in stored),
        }
        seen_kinds.update(kind for kind, is_there in present.items() if is_there)
        stop_if_covered(seen_kinds, expected_kinds)

    search(collect)
    assert seen_kinds == expected_kinds
