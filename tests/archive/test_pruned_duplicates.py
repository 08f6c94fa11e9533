"""Usage that is sent again after it was pruned: what is new is recorded before its archive is read, on each store."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from tallybook.application import KeyValueEntry, MeterEventsRejected, Metering, Outcome, Receipt
from tallybook.domain.errors import DuplicateMeterEvent

from ..contract.persistent_stores import PostgresSchema
from ..waiting import wait_until
from .blocked_archive import BlockedArchive
from .pruning import LIFTED, History

OLD = ["old-1", "old-2", "old-3"]


def event(identifier: str, value: str = "1", **changed: object) -> dict[str, object]:
    """Return a meter event."""
    payload = {"customer": "acme", "value": value}
    return {"event_name": "tokens", "payload": payload, "identifier": identifier, **changed}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def metering(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metering]:
    """Return a ledger of each store with pruned usage."""
    folder = tmp_path_factory.mktemp("pruned")
    url = f"sqlite:///{folder}/usage.db"
    if request.param == "postgresql":
        url = PostgresSchema.create(request.getfixturevalue("postgres")).url
    with Metering.open(url, policy=LIFTED) as opened:
        opened.meters.configure("tokens", customer_key="customer")
        opened.record_many(map(event, OLD))
        opened.catch_up()
        history = History(folder)
        history.archive_all(opened)
        assert history.prune(opened).events == len(OLD)
        yield opened


@pytest.fixture
def archive(metering: Metering) -> Iterator[BlockedArchive]:
    """Block the archive."""
    recorder = metering.imports.ledger.ledger_recorder
    original = recorder.archived_events
    blocked = BlockedArchive(metering)
    yield blocked
    blocked.release()
    recorder.archived_events = original


def outcomes(receipts: Sequence[Receipt]) -> list[str]:
    """Return the outcomes of receipts."""
    return [receipt.outcome.value for receipt in receipts]


def test_threads_with_old_identifiers_hold_up_no_other_thread(metering: Metering, archive: BlockedArchive) -> None:
    """While one batch and one single event wait for the archive, their new events and those of others are recorded."""
    too_old = event("old-3", timestamp=datetime.now(UTC) - timedelta(days=400))
    with ThreadPoolExecutor() as pool:
        single = pool.submit(metering.record, "tokens", {"customer": "acme", "value": "9"}, identifier="old-1")
        batch = pool.submit(
            metering.record_many,
            [event("new-1"), event("old-2"), event("old-2", "9"), event("old-2", "x"), event("new-1"), too_old],
        )
        archive.wait_until_reached(threads=2)
        assert metering.record("tokens", {"customer": "acme", "value": "1"}, identifier="new-2").outcome == "accepted"
        assert outcomes(metering.record_many([event("new-3"), event("new-2")])) == ["accepted", "duplicate"]
        wait_until(lambda: metering.imports.ledger.find_meter_events(["new-1"]))
        assert not single.done()
        assert not batch.done()
        archive.release()
        receipts = batch.result()
        conflict = single.exception()
    assert outcomes(receipts) == ["accepted", "duplicate", "conflict", "conflict", "duplicate", "conflict"]
    assert [receipt.identifier for receipt in receipts] == ["new-1", *["old-2"] * 3, "new-1", "old-3"]
    assert receipts[1].position == metering.event("old-2").position
    assert isinstance(conflict, DuplicateMeterEvent)
    assert "'old-1' is taken by an event with other content" in conflict.message


def test_entries_of_a_batch_are_stored_with_final_outcomes(metering: Metering, archive: BlockedArchive) -> None:
    """A program that stores what became of a batch with it waits for the archive, without a transaction meanwhile."""
    attached: list[list[str]] = []

    def attach(receipts: Sequence[Receipt], _: datetime) -> Sequence[KeyValueEntry]:
        attached.append(outcomes(receipts))
        return ()

    with ThreadPoolExecutor() as pool:
        batch = pool.submit(metering.record_many, [event("new-4"), event("old-1"), event("old-1", "9")], attach=attach)
        archive.wait_until_reached()
        assert metering.record_many([event("new-5")]).accepted == 1
        assert attached == []
        archive.release()
        assert outcomes(batch.result()) == attached[-1] == ["accepted", "duplicate", "conflict"]


def test_a_strict_batch_raises_for_a_conflict_with_a_pruned_event(metering: Metering) -> None:
    """After its new events are recorded."""
    with pytest.raises(
        MeterEventsRejected, match=r"1 of 2 meter events were not recorded; the first is number 0"
    ) as rejected:
        metering.record_many([event("old-1", "9"), event("new-6")], strict=True)
    assert [receipt.outcome for receipt in rejected.value.receipts] == [Outcome.CONFLICT, Outcome.ACCEPTED]
