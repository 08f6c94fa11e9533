"""Entries of the key-value store for tests, and meter events to store them with."""

import threading
from collections.abc import Sequence
from datetime import datetime

from tallybook.application import KeyValueEntry, Receipt

from .histories import START


def entry(key: str, at: int = 0, body: bytes = b"", kind: str = "response") -> KeyValueEntry:
    """Return an entry."""
    return KeyValueEntry(kind, key, at, body)


def event_input(identifier: str, value: str = "1") -> dict[str, object]:
    """Return a meter event of the meter `tokens`."""
    payload = {"customer": "acme", "value": value}
    return {"event_name": "tokens", "identifier": identifier, "timestamp": START, "payload": payload}


def keys(rows: Sequence[KeyValueEntry]) -> list[str]:
    """Return the keys of the rows in order."""
    return [row.key for row in rows]


def run_in_threads(tasks: Sequence[object]) -> None:
    """Run the tasks concurrently, each in its own thread, and raise the first error."""
    failures: list[BaseException] = []
    barrier = threading.Barrier(len(tasks))

    def run_task(task: object) -> None:
        try:
            barrier.wait()
            assert callable(task)
            task()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run_task, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class AttachedEntry:
    """An attach callback that stores the receipts of a batch and records its calls."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.calls: list[tuple[Sequence[Receipt], datetime]] = []

    def __call__(self, receipts: Sequence[Receipt], now: datetime) -> Sequence[KeyValueEntry]:
        self.calls.append((receipts, now))
        return [
            entry(
                self.key,
                body=repr([(r.identifier, r.position, str(r.outcome)) for r in receipts]).encode(),
            )
        ]


def attach_entry(key: str = "key") -> AttachedEntry:
    """Return an attach callback that stores the receipts of a batch under a key, as the HTTP server does."""
    return AttachedEntry(key)
