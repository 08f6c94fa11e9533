"""A pruning while other processes record, send again what is pruned, and rebuild their read models."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from tallybook.application import Metering
from tallybook.application.archive import pruning

from ..contract.histories import END, START, configure
from ..contract.persistent_stores import PersistentStore
from ..notation import Clock
from .pruning import LIFTED, History, pruned_positions

EVENT_COUNT = 200
BOUNDS = START, END


def test_others_go_on(store: PersistentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event counts once, each retry is a duplicate, and all roots stay."""
    monkeypatch.setattr(pruning, "ROWS_PER_TRANSACTION", 5)
    history, clock, new = History(tmp_path), Clock(END), iter(range(1_000_000))

    def record() -> None:
        numbers = [*range(0, EVENT_COUNT, 20), EVENT_COUNT + next(new)]
        outcomes = [receipt.outcome for receipt in recorder.record_many(map(event, numbers))]
        assert outcomes == ["duplicate"] * (len(numbers) - 1) + ["accepted"]

    def rebuild() -> None:
        reader._read_models.reset()  # pyright: ignore[reportPrivateUsage]
        explained = reader.explain("tokens", "acme", *BOUNDS)
        assert explained.total.count == len(explained.events) >= EVENT_COUNT

    def open_ledger() -> Metering:
        return Metering.open(store.url, policy=LIFTED, clock=clock)

    with open_ledger() as metering, open_ledger() as recorder, open_ledger() as reader:
        configure(metering)
        metering.record_many(map(event, range(EVENT_COUNT)))
        history.archive_all(metering)
        with repeated(record, rebuild):
            assert history.prune(metering, keep=timedelta(0)).events == EVENT_COUNT
        assert len(pruned_positions(store)) == EVENT_COUNT
        assert metering.verify().is_equal
        assert metering.total("tokens", "acme", *BOUNDS).count == EVENT_COUNT + next(new)
        assert metering.checkpoints.verify(history.checkpoints).difference is None


def event(number: int) -> dict[str, object]:
    """Return a meter event."""
    payload = {"customer": "acme", "value": str(number)}
    return {"event_name": "tokens", "payload": payload, "identifier": f"use-{number}", "timestamp": START}


@contextmanager
def repeated(*operations: Callable[[], object]) -> Generator[None]:
    """Repeat each of these operations in a thread until the block ends, and raise their errors."""
    stop = Event()

    def repeat(operation: Callable[[], object]) -> None:
        while not stop.is_set():
            operation()

    with ThreadPoolExecutor() as executor:
        running = [executor.submit(repeat, operation) for operation in operations]
        try:
            yield
        finally:
            stop.set()
    for one in running:
        one.result()
