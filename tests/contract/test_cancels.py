"""Cancellations of many events in one bucket, which the read models store in several usage blocks."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest
from tallybook.application.storage.sql_reader import SqlReadModelReader
from tallybook.projections.blocks import BucketKey, UsageBlock
from tallybook.projections.projector import Projector

from .histories import END, START, query_results, record_history
from .persistent_stores import PersistentStore
from .stores import NOW, Store

EVENTS = 2_500


def test_many_cancellations_in_one_hour_are_marked_in_bulk(store: Store) -> None:
    """If every eighth of thousands of folded events of one hour is cancelled, the others still count."""
    events = [
        {
            "event_name": "calls",
            "payload": {"stripe_customer_id": "acme", "value": str(number)},
            "identifier": str(number),
        }
        for number in range(EVENTS)
    ]
    with store.metering() as metering:
        metering.meters.configure("calls")
        metering.record_many(events)
        period = NOW - timedelta(hours=2), NOW + timedelta(hours=2)
        assert metering.total("calls", "acme", *period).sum == sum(range(EVENTS))
        for number in range(0, EVENTS, 8):
            metering.cancel("calls", str(number))
        total = metering.total("calls", "acme", *period)
    remaining = [number for number in range(EVENTS) if number % 8]
    assert (total.count, total.sum) == (len(remaining), sum(remaining))


@pytest.mark.parametrize(("page_size", "max_cancellations"), [(10_000, 5_000), (10_000, 7), (50, 5_000)])
def test_cancellations_and_revocations_are_folded_in_pages_of_any_size(
    persistent_store: PersistentStore, page_size: int, max_cancellations: int
) -> None:
    """An event can be cancelled, counted again and cancelled again, in the page of its recording or in later ones."""
    store = persistent_store
    with store.metering() as metering:
        record_history(metering, 120)
        for number in range(0, 120, 2):
            event = metering.event(f"use-{number:05d}")
            metering.cancel(event.event_name, event.identifier)
            if number % 4 == 0:
                metering.revoke_cancel(event.event_name, event.identifier, reason="a test")
            if number % 8 == 0:
                metering.cancel(event.event_name, event.identifier)
        expected = query_results(metering)
        assert metering.verify().is_equal
    store.reset_read_models()
    with store.metering() as metering, store.components() as (ledger, read_models):
        Projector(ledger, read_models, page_size, max_cancellations=max_cancellations).catch_up()
        assert query_results(metering) == expected
        for name, (totals, *_) in expected.items():
            assert metering.replay_totals(name, START, END) == totals


def test_a_page_of_cancellations_takes_a_fixed_number_of_statements(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their blocks are read and written together, however many events of a bucket are cancelled."""
    reads: list[int] = []
    blocks_of = SqlReadModelReader.blocks_of

    def counted_blocks_of(reader: SqlReadModelReader, meter_id: int, keys: Sequence[BucketKey]) -> Iterator[UsageBlock]:
        reads.append(len(keys))
        return blocks_of(reader, meter_id, keys)

    payload = {"stripe_customer_id": "acme", "value": "1"}
    with store.metering() as metering:
        metering.meters.configure("calls")
        metering.record_many(
            [{"event_name": "calls", "payload": payload, "identifier": str(number)} for number in range(200)]
        )
        metering.catch_up()
        for number in range(100):
            metering.cancel("calls", str(number))
        monkeypatch.setattr(SqlReadModelReader, "blocks_of", counted_blocks_of)
        metering.catch_up()
    assert reads == [1, 1]  # to mark the events, and to recompute their bucket
