"""Leaves are hashed by a worker process with the lowest priority, with the same results as in this process."""

import os
from pathlib import Path

import pytest
from tallybook.application import Metering
from tallybook.application.checkpoints.hash_worker import MIN_EVENTS, hash_blocks, low_priority_hasher
from tallybook.application.checkpoints.service import CheckpointService
from tallybook.application.checkpoints.signing_keys import PrivateKey
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.read_models.worker_pool import Worker

from .histories import record_history
from .persistent_stores import PersistentStore


class StartedWorkers(list[Worker]):
    """Starts workers, and has those that it started."""

    def start(self) -> Worker:
        """Return a new worker."""
        self.append(Worker())
        return self[-1]


def ledger_of(metering: Metering) -> Ledger:
    """Return the ledger of a Metering."""
    return metering._ledger  # pyright: ignore[reportPrivateUsage]


def test_a_worker_returns_the_hashes_of_this_process(persistent_store: PersistentStore) -> None:
    """Of full blocks and the rest, and also if a position is missing. If it is killed, this process goes on."""
    workers = StartedWorkers()
    with persistent_store.metering() as metering:
        record_history(metering)
        ledger = ledger_of(metering)
        expected = hash_blocks(ledger, 9, 21, 4), hash_blocks(ledger, 1, ledger.head() + 2, 4)
        assert (len(expected[0].roots), len(expected[0].leaves)) == (3, 13 * 32)
        assert expected[1].unexpected == (ledger.head() + 1, "missing")
        with low_priority_hasher(workers.start, ledger) as hash_in_worker:
            assert (hash_in_worker(9, 21, 4), hash_in_worker(1, ledger.head() + 2, 4)) == expected
            (worker,) = workers
            assert worker.is_running
            worker.terminate()
            assert hash_in_worker(9, 21, 4) == expected[0]
    assert len(workers) == 1


@pytest.mark.skipif(not hasattr(os, "getpriority"), reason="processes have no priorities here")
def test_a_worker_has_the_lowest_priority() -> None:
    """It takes time only when no other process wants it, and ends with the block."""
    workers = StartedWorkers()
    with Metering.open("sqlite://") as metering:
        ledger = ledger_of(metering)
        with low_priority_hasher(workers.start, ledger) as hash_in_worker:
            hash_in_worker(1, 0, 4)
            (worker,) = workers
            assert worker.call(os.getpriority, os.PRIO_PROCESS, 0) == 19
    assert not worker.is_running


def test_only_many_events_are_hashed_by_a_worker(tmp_path: Path) -> None:
    """Fewer are hashed before a worker has started."""
    workers, key = StartedWorkers(), tmp_path / "key.pem"
    PrivateKey.generate(key, "tallybook")
    with Metering.open(f"sqlite:///{tmp_path / 'usage.db'}") as metering:
        checkpoints = CheckpointService(ledger_of(metering), metering.clock, workers.start)
        metering.meters.configure("tokens")
        assert checkpoints.publish(key, low_priority=True).new_events == 1
        payload = {"stripe_customer_id": "acme", "value": "1"}
        metering.record_many([{"event_name": "tokens", "payload": payload}] * MIN_EVENTS)
        assert workers == []
        published = checkpoints.publish(key, [tmp_path / "copy"], low_priority=True)
        assert (published.new_events, len(workers)) == (MIN_EVENTS, 1)
        metering.checkpoints.verify_published(key, [tmp_path / "copy"])
        assert (tmp_path / "copy.leaves").stat().st_size == 32 * (MIN_EVENTS + 1)
