"""Threads that record at the same moment share one transaction, and none of them notices the others."""

import random
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import count

import pytest
from tallybook.application import Metering, Outcome, Receipt
from tallybook.application.commands.group_commit import GroupCommit
from tallybook.application.storage.ports import RowRejected
from tallybook.domain.authorship import Author, acting_as
from tallybook.domain.errors import LedgerUnavailable, TallybookError

from ..waiting import wait_until

FIRST, OTHERS = "first", ["a", "b", "c"]


class Transactions:
    """Receives the events of each transaction. The first one waits until all other threads wait for it."""

    def __init__(self, on_group: Callable[[Sequence[object]], None] = lambda _: None) -> None:
        self.groups: list[Sequence[object]] = []
        self.authors: list[Author | None] = []
        self.commit = GroupCommit(self.record_many)
        self.on_group = on_group
        self.may_end = threading.Event()

    def record_many(self, meter_events: Sequence[object], *, authors: Sequence[Author | None] | None) -> list[Receipt]:
        """Return a receipt for each event."""
        self.groups.append(meter_events)
        self.authors += authors or ()
        if meter_events == [FIRST]:
            assert self.may_end.wait(10)
        self.on_group(meter_events)
        return [Receipt(str(event), len(self.groups), Outcome.ACCEPTED) for event in meter_events]

    def record_at_once(self) -> dict[str, Future[Receipt]]:
        """Record the first event, and the others while its transaction is in progress."""
        with ThreadPoolExecutor() as pool:
            futures = {FIRST: pool.submit(self._record_as, FIRST)}
            wait_until(lambda: len(self.groups) == 1)
            for number, event in enumerate(OTHERS, 1):
                futures[event] = pool.submit(self._record_as, event)
                wait_until(lambda expected=number: self.commit.waiting_count == expected)
            self.may_end.set()
        return futures

    def _record_as(self, event: str) -> Receipt:
        with acting_as(Author(f"author of {event}")):
            return self.commit.record(event)


def test_events_that_arrive_during_a_transaction_share_the_next_one() -> None:
    """Each thread gets the receipt of its own event."""
    transactions = Transactions()
    futures = transactions.record_at_once()
    assert transactions.groups == [[FIRST], OTHERS]
    assert {event: future.result().identifier for event, future in futures.items()} == {
        event: event for event in (FIRST, *OTHERS)
    }


def test_each_event_of_a_transaction_has_the_author_of_its_thread() -> None:
    """Not that of the thread which records it."""
    transactions = Transactions()
    transactions.record_at_once()
    assert [author and author.by for author in transactions.authors] == [
        f"author of {event}" for event in (FIRST, *OTHERS)
    ]


def test_an_event_that_causes_an_error_fails_alone() -> None:
    """One that the database rejects. The others are recorded one by one."""
    error = RowRejected("no")

    def reject(events: Sequence[object]) -> None:
        if "b" in events:
            raise error

    transactions = Transactions(reject)
    futures = transactions.record_at_once()
    assert transactions.groups == [[FIRST], OTHERS, ["a"], ["b"], ["c"]]
    assert {event for event, future in futures.items() if future.exception() is None} == {FIRST, "a", "c"}
    assert futures["b"].exception() is error


def test_an_unavailable_ledger_fails_all_at_once() -> None:
    """They aren't tried one by one: each would wait until the timeout."""

    def fail(events: Sequence[object]) -> None:
        if events == OTHERS:
            raise LedgerUnavailable("no connection")

    transactions = Transactions(fail)
    futures = transactions.record_at_once()
    assert transactions.groups == [[FIRST], OTHERS]
    assert {event for event, future in futures.items() if future.exception() is None} == {FIRST}


def test_an_interrupted_thread_does_not_stop_the_others() -> None:
    """Ctrl-C ends the thread that records; the others of its transaction learn that they may be recorded."""

    def interrupt(events: Sequence[object]) -> None:
        if events == OTHERS:
            raise KeyboardInterrupt

    transactions = Transactions(interrupt)
    futures = transactions.record_at_once()
    errors = [futures[event].exception() for event in OTHERS]
    assert sorted(type(error).__name__ for error in errors) == ["KeyboardInterrupt", *["LedgerUnavailable"] * 2]
    assert next(str(error) for error in errors if isinstance(error, TallybookError)).endswith("the same identifier.")
    assert transactions.commit.record("later").identifier == "later"


def test_a_thread_that_is_interrupted_while_it_waits_records_nothing() -> None:
    """Its event isn't recorded by another thread afterwards."""
    transactions = Transactions()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def interrupt_once_it_waits() -> None:
        wait_until(lambda: transactions.commit.waiting_count == 1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    earlier_handler = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with ThreadPoolExecutor() as pool:
            first = pool.submit(transactions.commit.record, FIRST)
            wait_until(lambda: len(transactions.groups) == 1)
            pool.submit(interrupt_once_it_waits)
            with pytest.raises(KeyboardInterrupt):
                transactions.commit.record("interrupted")
            transactions.may_end.set()
            assert first.result().identifier == FIRST
    finally:
        signal.signal(signal.SIGUSR1, earlier_handler)
    assert transactions.commit.record("later").identifier == "later"
    assert transactions.groups == [[FIRST], ["later"]]


def test_interrupts_at_any_moment_lose_and_double_nothing() -> None:
    """The main thread is interrupted again and again; the others record on, and each acknowledged event is recorded."""
    recorded: list[object] = []
    acknowledged: list[str] = []
    stop = threading.Event()

    def record_many(meter_events: Sequence[object], *, authors: object) -> list[Receipt]:
        recorded.extend(meter_events)
        return [Receipt(str(event), 1, Outcome.ACCEPTED) for event in meter_events]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    commit = GroupCommit(record_many)

    def record_until_stopped(name: str, limit: int | None = None) -> None:
        for number in count() if limit is None else range(limit):
            if stop.is_set():
                return
            with suppress(LedgerUnavailable):  # the main thread was interrupted while it recorded this event
                acknowledged.append(commit.record(f"{name}-{number}").identifier or "")

    earlier_handler = signal.signal(signal.SIGALRM, interrupt)
    rng = random.Random(1)
    try:
        with ThreadPoolExecutor() as pool:
            threads = [pool.submit(record_until_stopped, name) for name in "abc"]
            for number in range(200):
                with suppress(KeyboardInterrupt):
                    signal.setitimer(signal.ITIMER_REAL, 0.00005 + rng.random() * 0.001)
                    record_until_stopped(f"main-{number}", 5_000)  # an interrupt in a destructor is ignored
                    signal.setitimer(signal.ITIMER_REAL, 0)
            stop.set()
            for thread in threads:
                thread.result()
    finally:
        signal.signal(signal.SIGALRM, earlier_handler)
    commit.record("last")  # removes an event that was withdrawn at the end
    assert len(set(recorded)) == len(recorded) > 200
    assert set(acknowledged) <= set(recorded)
    assert commit.waiting_count == 0


def test_a_signal_handler_records_in_the_middle_of_a_transaction() -> None:
    """It runs in the thread that records, so it can't wait for it."""
    recorded: list[Receipt] = []

    def handle_signal(events: Sequence[object]) -> None:
        if events == ["outer"]:
            recorded.append(transactions.commit.record("inner"))

    transactions = Transactions(handle_signal)
    assert transactions.commit.record("outer").identifier == "outer"
    assert [receipt.identifier for receipt in recorded] == ["inner"]


def test_many_threads_record_each_event_once(metering: Metering) -> None:
    """Also identifiers that several of them record, and events that are rejected."""
    metering.meters.configure("tokens", customer_key="customer")

    def record(number: int) -> str:
        value = "1" if number % 10 else "not a number"
        try:
            payload = {"customer": "acme", "value": value}
            return metering.record("tokens", payload, identifier=f"use-{number % 150}").outcome
        except TallybookError as error:
            return error.code

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(record, range(300)))
    assert {outcome: outcomes.count(outcome) for outcome in outcomes} == {
        "accepted": 135, "duplicate": 135, "payload_invalid_value": 30,
    }  # fmt: skip
    assert len(metering.events("tokens")) == 135
