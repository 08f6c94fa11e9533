"""The offsets of a partition with many small batches: old ones are deleted, and the lag is read without the others."""

from collections.abc import Iterable
from datetime import timedelta

import pytest
from tallybook.application import Metering
from tallybook.application.storage.key_value import KeyValueEntry, KeyValueStore
from tallybook.application.topics.offset_log import OffsetLog, PartitionOffset, read_lags
from tallybook.application.topics.results import ConsumedMessages, RejectedMessage

from .broker import NOW

BATCHES = 2_500
"""More than two pages of the deletion."""
OLD = NOW - timedelta(days=40)


@pytest.fixture
def key_values(metering: Metering) -> KeyValueStore:
    """The entries of a SQLite ledger."""
    return metering.key_value_store()


def batches(log: OffsetLog, partition: int) -> Iterable[KeyValueEntry]:
    """Yield the entries of old batches with one message each, and of a last one that is new."""
    start = PartitionOffset(topic=log.topic, group=log.group, partition=partition)
    for number in range(BATCHES):
        end = start.after(number + 1, ConsumedMessages(accepted=1), 0, 0)
        yield log.entry(start, end, NOW if number == BATCHES - 1 else OLD)
        start = end


def rejected(number: int) -> RejectedMessage:
    return RejectedMessage("usage", "tallybook", 0, number, None, OLD, None, "no_meter", "There is no meter.", "{}")


def test_all_old_entries_are_deleted_at_once(key_values: KeyValueStore) -> None:
    """Also those of a quiet topic, whose batches have one message each. Those of other topics stay."""
    log, other = OffsetLog(key_values, "usage", "tallybook"), OffsetLog(key_values, "other", "tallybook")
    key_values.apply(insert=[*batches(log, 0), *batches(log, 1), *batches(other, 0)])
    key_values.apply(insert=[log.rejected_entry(rejected(number), number) for number in range(BATCHES)])
    log.delete_old([0, 1], NOW)
    assert len(key_values.scan("topic_offset", limit=10 * BATCHES)) == BATCHES + 2
    assert key_values.scan("topic_rejected", limit=1) == []
    assert [log.read(partition) for partition in (0, 1)] == [
        PartitionOffset(topic="usage", group="tallybook", partition=partition, next_offset=BATCHES, accepted=BATCHES)
        for partition in (0, 1)
    ]


def test_the_lag_is_read_from_the_newest_entries(key_values: KeyValueStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each partition one is read, whatever their number."""
    logs = OffsetLog(key_values, "usage", "tallybook"), OffsetLog(key_values, "other", "tallybook")
    for log in logs:
        key_values.apply(insert=[*batches(log, 0), *batches(log, 1)])
        log.set_ends({0: BATCHES, 1: BATCHES + 7}, NOW)
    scanned: list[KeyValueEntry] = []
    scan = type(key_values).scan

    def counting_scan(*arguments: object, **options: object) -> list[KeyValueEntry]:
        entries = scan(*arguments, **options)  # pyright: ignore[reportArgumentType]
        scanned.extend(entries)
        return entries

    monkeypatch.setattr(type(key_values), "scan", counting_scan)
    assert [(lag.topic, lag.partition, lag.next_offset, lag.lag) for lag in read_lags(key_values)] == [
        ("other", 0, BATCHES, 0),
        ("other", 1, BATCHES, 7),
        ("usage", 0, BATCHES, 0),
        ("usage", 1, BATCHES, 7),
    ]
    assert len(scanned) == 8
