"""A server forks its workers: each worker opens the ledger itself, and no process breaks another's connections."""

from contextlib import closing

from ..postgres import Database
from ..waiting import wait_until
from .conftest import Start
from .ledgers import positions, projected_and_replayed_totals, read_numbers
from .usage import BATCH_SIZE, VALUE, batch, count_and_sum, open_ledger

COUNT_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'leaking'"


def test_forked_workers_record_alongside_their_parent(start: Start, url: str) -> None:
    """The events of parent and children are counted, and the parent's connections still work."""
    statuses, (count, total) = read_numbers(start("fork", url, 4, 5))
    assert statuses == [0] * 4
    assert (count, total) == (23 * BATCH_SIZE, 23 * BATCH_SIZE * VALUE)
    assert positions(url) == list(range(1, count + 2))
    assert projected_and_replayed_totals(url) == ((count, total),) * 2


def test_a_forked_child_must_open_the_ledger_itself(start: Start, url_for_threads: str) -> None:
    """A child can neither use nor close its parent's connections; the parent's ledger still works, in memory too."""
    status, output = read_numbers(start("use_after_fork", url_for_threads))
    assert status == [0]
    assert output == [2 * BATCH_SIZE, 2 * BATCH_SIZE * VALUE]


def test_a_child_that_opens_the_ledger_itself_loses_nothing_when_its_parent_closes_it(start: Start, url: str) -> None:
    """On SQLite, the parent would remove the write-ahead log of a child that has inherited its locks."""
    status, output = read_numbers(start("outlive_parent", url))
    assert status == [0]
    assert output == [3 * BATCH_SIZE, 3 * BATCH_SIZE * VALUE]


def test_a_worker_of_a_worker_can_open_an_idle_ledger(start: Start, url: str) -> None:
    """Services become daemons with two forks."""
    statuses, output = read_numbers(start("fork_twice", url))
    assert statuses == [0]
    assert output == [3 * BATCH_SIZE, 3 * BATCH_SIZE * VALUE]


def test_a_child_of_a_fork_during_a_transaction_cannot_open_the_ledger(start: Start, sqlite_url: str) -> None:
    """SQLite would take no locks in the child. The child leaves the log of a crashed process alone when it exits."""
    status, output = read_numbers(start("fork_during_transaction", sqlite_url))
    assert status == [0]
    assert output == [3 * BATCH_SIZE, 3 * BATCH_SIZE * VALUE]


def test_a_closed_ledger_leaves_no_connections(postgres: Database) -> None:
    """An open ledger has connections; after `close` none is left."""
    url = postgres.fresh_url().replace("schema=", "application_name=leaking&schema=")
    with closing(postgres.connect()) as connection:
        with open_ledger(url) as metering:
            metering.record_many(batch("w", 0))
            candidate = metering.generations.rebuild(rules={"tokens": {"formula": "count"}}).number
            metering.generations.promote(candidate, reason="a test")
            assert metering.verify().is_equal
            assert count_and_sum(metering) == (BATCH_SIZE, BATCH_SIZE * VALUE)
            assert connection.execute(COUNT_CONNECTIONS).fetchone() != (0,)
        wait_until(lambda: connection.execute(COUNT_CONNECTIONS).fetchone() == (0,))
