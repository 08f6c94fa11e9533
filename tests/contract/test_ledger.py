"""The contract of the ledger: one total order, written whole batches at a time, for ever."""

import threading

import pytest
from eventsourcing.persistence import IntegrityError
from tallybook.application import Metering, Outcome
from tallybook.application.ledger import Ledger
from tallybook.domain import Meter, Rules

from .histories import START, a_use, configure, record_history
from .stores import NOW, Store


def test_positions_are_1_to_n_without_gaps_in_the_order_of_recording(metering: Metering, store: Store) -> None:
    """The ledger is one total order: positions 1..n, and a receipt tells the place of its event."""
    receipts = record_history(metering)
    ledger = store.ledger()
    events = ledger.page(0, 10_000)
    held = ledger.recordings(position for receipt in receipts if (position := receipt.position) is not None)
    ledger.close()
    assert [position for position, _, _ in events] == list(range(1, len(events) + 1))
    assert [held[receipt.position or 0][0] for receipt in receipts] == [receipt.identifier for receipt in receipts]
    assert [receipt.position for receipt in receipts] == sorted(receipt.position or 0 for receipt in receipts)


def test_the_head_is_the_position_of_the_newest_event(ledger: Ledger) -> None:
    """The head of an empty ledger is 0; after that it is the last position."""
    assert ledger.head() == 0
    ledger.append_uses({f"use-{number}": a_use(number) for number in range(5)})
    assert ledger.head() == 5


def test_a_page_holds_the_events_after_a_position_in_order(ledger: Ledger) -> None:
    """Pages tile the ledger: each begins after the position that the one before it ended with."""
    ledger.append_uses({f"use-{number}": a_use(number) for number in range(10)})
    pages = [ledger.page(after, 4) for after in (0, 4, 8, 10)]
    assert [[position for position, _, _ in page] for page in pages] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10], []]
    assert [event for page in pages for event in page] == list(ledger.page(0, 100))


@pytest.mark.parametrize("many", [0, 1, 49, 50, 51, 100, 149])
def test_a_batch_of_any_size_is_stored_in_order(ledger: Ledger, many: int) -> None:
    """Each use is at the position that is told, under its own identifier; however the store splits up the batch."""
    ledger.append_uses({"first": a_use()})
    uses = {f"use-{number}": a_use(number) for number in range(many)}
    positions = ledger.append_uses(uses)
    assert list(positions.items()) == list(zip(uses, range(2, many + 2), strict=True))
    held = ledger.recordings(positions.values())
    assert [held[position] for position in positions.values()] == list(uses.items())
    assert ledger.head() == many + 1


def test_events_of_several_streams_are_stored_in_order(ledger: Ledger) -> None:
    """Other versions and topics in one transaction are at positions one after another, as they were given."""
    one, other = (Meter.configure(name, name, Rules(), at=NOW) for name in ("one", "other"))
    one.rename("One", at=NOW)
    other.deactivate(at=NOW)
    ledger.append([*one.collect_events(), *other.collect_events()])
    assert [(position, topic) for position, topic, _ in ledger.page(0, 10)] == [
        (1, "Configured"), (2, "Renamed"), (3, "Configured"), (4, "Deactivated"),
    ]  # fmt: skip
    assert (ledger.meter("one").display_name, ledger.meter("other").is_active) == ("One", False)


def test_a_batch_with_one_taken_identifier_leaves_nothing(ledger: Ledger) -> None:
    """Append is all or nothing: one conflict anywhere in a batch raises IntegrityError and stores none of it."""
    ledger.append_uses({"taken": a_use()})
    before = ledger.page(0, 100)
    for many, place in ((6, 0), (6, 3), (6, 6), (120, 0), (120, 49), (120, 50), (120, 75), (120, 120)):
        batch = [f"new-{number}" for number in range(many)]
        batch.insert(place, "taken")
        with pytest.raises(IntegrityError):
            ledger.append_uses({identifier: a_use() for identifier in batch})
        assert ledger.page(0, 100) == before
    assert ledger.append_uses({"new-0": a_use()})["new-0"] == 2


def test_two_writers_of_one_version_of_a_meter_do_not_both_succeed(ledger: Ledger) -> None:
    """A stream's version can be written once, so a decision made on what is no longer so is refused."""
    meter = Meter.configure("tokens", "tokens", Rules(), at=NOW)
    ledger.append(meter.collect_events())
    one, other = ledger.meter("tokens"), ledger.meter("tokens")
    one.rename("One", at=NOW)
    other.rename("Other", at=NOW)
    ledger.append(one.collect_events())
    with pytest.raises(IntegrityError):
        ledger.append(other.collect_events())
    assert (ledger.meter("tokens").display_name, ledger.head()) == ("One", 2)


def test_an_identifier_is_taken_for_ever(metering: Metering) -> None:
    """The same content again is a duplicate at the first position, other content a conflict; nothing is written."""
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


def test_threads_that_write_at_once_share_one_order(store: Store) -> None:
    """However many writers there are, every batch gets positions of its own, and together they leave no gap."""
    with store.metering() as metering:
        configure(metering)
        positions: list[int] = []
        failures: list[BaseException] = []

        def write(writer: int) -> None:
            try:
                for batch in range(10):
                    uses = [
                        {
                            "event_name": "tokens",
                            "identifier": f"{writer}-{batch}-{number}",
                            "timestamp": START,
                            "payload": {"customer": "acme", "value": "1"},
                        }
                        for number in range(5)
                    ]
                    taken = [receipt.position or 0 for receipt in metering.record_many(uses)]
                    assert taken == list(range(taken[0], taken[0] + 5))
                    positions.extend(taken)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert sorted(positions) == list(range(4, 204))
