"""The contract of the ledger: an append-only total order in which each batch is stored atomically."""

import threading

import pytest
from eventsourcing.persistence import IntegrityError
from tallybook.application import Metering, Outcome
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.ledger.stream_pages import events_by_prefix
from tallybook.domain import Meter, Rules

from .histories import START, configure, meter_event_data, record_history
from .stores import NOW, Store


def test_positions_are_1_to_n_without_gaps_in_the_order_of_recording(metering: Metering, store: Store) -> None:
    """Positions are 1..n, and each receipt has the position of its event."""
    receipts = record_history(metering)
    ledger = store.ledger()
    events = ledger.read_page(0, 10_000)
    stored_events = ledger.meter_events_at(
        position for receipt in receipts if (position := receipt.position) is not None
    )
    ledger.close()
    assert [position for position, _, _ in events] == list(range(1, len(events) + 1))
    assert [stored_events[receipt.position or 0][0] for receipt in receipts] == [
        receipt.identifier for receipt in receipts
    ]
    assert [receipt.position for receipt in receipts] == sorted(receipt.position or 0 for receipt in receipts)


def test_the_head_is_the_position_of_the_newest_event(ledger: Ledger) -> None:
    """The head is the last position, or 0 if the ledger is empty."""
    assert ledger.head() == 0
    ledger.append_meter_events({f"use-{number}": meter_event_data(number) for number in range(5)})
    assert ledger.head() == 5


def test_a_page_contains_the_events_after_a_position_in_order(ledger: Ledger) -> None:
    """Consecutive pages contain each event once: a page starts after the last position of the previous page."""
    ledger.append_meter_events({f"use-{number}": meter_event_data(number) for number in range(10)})
    pages = [ledger.read_page(after, 4) for after in (0, 4, 8, 10)]
    assert [[position for position, _, _ in page] for page in pages] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10], []]
    assert [event for page in pages for event in page] == list(ledger.read_page(0, 100))


@pytest.mark.parametrize("page_size", [1, 2, 3, 5, 6, 7])
def test_streams_with_a_prefix_are_read_in_pages_of_any_size(ledger: Ledger, page_size: int) -> None:
    """Each event once, by stream and version, also if a stream has several pages; not those of other streams."""
    ledger.append_meter_events({name: meter_event_data() for name in ("use", "z")})
    meters = [Meter.configure(name, name, Rules(), at=NOW) for name in ("other", "one")]
    for meter in meters:
        meter.rename("New", at=NOW)
        meter.deactivate(at=NOW)
        ledger.append(meter.collect_events())
    events = events_by_prefix(ledger.ledger_recorder, "meter/", page_size)
    assert [event.id for event in events] == [6, 7, 8, 3, 4, 5]


@pytest.mark.parametrize("event_count", [0, 1, 49, 50, 51, 100, 149])
def test_a_batch_of_any_size_is_stored_in_order(ledger: Ledger, event_count: int) -> None:
    """Each meter event is at the returned position, even if the store needs several statements for the batch."""
    ledger.append_meter_events({"first": meter_event_data()})
    events = {f"use-{number}": meter_event_data(number) for number in range(event_count)}
    positions = ledger.append_meter_events(events)
    assert list(positions.items()) == list(zip(events, range(2, event_count + 2), strict=True))
    stored_events = ledger.meter_events_at(positions.values())
    assert [stored_events[position] for position in positions.values()] == list(events.items())
    assert ledger.head() == event_count + 1


def test_events_of_several_streams_are_stored_in_order(ledger: Ledger) -> None:
    """Events of several streams and topics in one transaction have consecutive positions in the given order."""
    meter, other_meter = (Meter.configure(name, name, Rules(), at=NOW) for name in ("one", "other"))
    meter.rename("One", at=NOW)
    other_meter.deactivate(at=NOW)
    ledger.append([*meter.collect_events(), *other_meter.collect_events()])
    assert [(position, topic) for position, topic, _ in ledger.read_page(0, 10)] == [
        (1, "Configured"), (2, "Renamed"), (3, "Configured"), (4, "Deactivated"),
    ]  # fmt: skip
    assert (ledger.meter("one").display_name, ledger.meter("other").is_active) == ("One", False)


def test_a_batch_with_a_duplicate_identifier_stores_nothing(ledger: Ledger) -> None:
    """An append is atomic: a conflict anywhere in a batch raises IntegrityError, and nothing is stored."""
    ledger.append_meter_events({"taken": meter_event_data()})
    before = ledger.read_page(0, 100)
    for event_count, index in ((6, 0), (6, 3), (6, 6), (120, 0), (120, 49), (120, 50), (120, 75), (120, 120)):
        batch = [f"new-{number}" for number in range(event_count)]
        batch.insert(index, "taken")
        with pytest.raises(IntegrityError):
            ledger.append_meter_events({identifier: meter_event_data() for identifier in batch})
        assert ledger.read_page(0, 100) == before
    assert ledger.append_meter_events({"new-0": meter_event_data()})["new-0"] == 2


def test_concurrent_writers_of_one_meter_version_do_not_both_succeed(ledger: Ledger) -> None:
    """A version of a stream can be written only once, so a decision on an outdated state is rejected."""
    meter = Meter.configure("tokens", "tokens", Rules(), at=NOW)
    ledger.append(meter.collect_events())
    first_meter, second_meter = ledger.meter("tokens"), ledger.meter("tokens")
    first_meter.rename("One", at=NOW)
    second_meter.rename("Other", at=NOW)
    ledger.append(first_meter.collect_events())
    with pytest.raises(IntegrityError):
        ledger.append(second_meter.collect_events())
    assert (ledger.meter("tokens").display_name, ledger.head()) == ("One", 2)


def test_an_identifier_stays_reserved_forever(metering: Metering) -> None:
    """The same content is a duplicate at the first position, different content a conflict; nothing is written."""
    configure(metering)
    first = {
        "event_name": "tokens",
        "identifier": "a",
        "timestamp": START,
        "payload": {"customer": "acme", "value": "1"},
    }
    other = {**first, "payload": {"customer": "acme", "value": "2"}}
    receipts = metering.record_many([first, first, other])
    receipts += metering.record_many([other, first])
    assert [receipt.outcome for receipt in receipts] == [
        Outcome.ACCEPTED,
        Outcome.DUPLICATE,
        Outcome.CONFLICT,
        Outcome.CONFLICT,
        Outcome.DUPLICATE,
    ]
    assert {receipt.position for receipt in receipts} == {4}
    assert metering.catch_up() == 4


def test_concurrent_threads_write_in_one_order(store: Store) -> None:
    """The batches of concurrent writers have consecutive positions without gaps or overlaps."""
    with store.metering() as metering:
        configure(metering)
        positions: list[int] = []
        failures: list[BaseException] = []

        def write(writer: int) -> None:
            try:
                for batch in range(10):
                    events = [
                        {
                            "event_name": "tokens",
                            "identifier": f"{writer}-{batch}-{number}",
                            "timestamp": START,
                            "payload": {"customer": "acme", "value": "1"},
                        }
                        for number in range(5)
                    ]
                    new_positions = [receipt.position or 0 for receipt in metering.record_many(events)]
                    assert new_positions == list(range(new_positions[0], new_positions[0] + 5))
                    positions.extend(new_positions)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert sorted(positions) == list(range(4, 204))
