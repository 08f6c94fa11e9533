"""A killed PostgreSQL server restarts with every acknowledged batch, complete and recorded once.

Each test kills at two moments; TALLYBOOK_TEST_KILL_MOMENTS sets another number.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from ..postgres import Server
from ..waiting import wait_until
from .conftest import Start, start_together
from .ledgers import batch_sizes, positions, projected_and_replayed_totals, read_numbers
from .test_generations import record_batches
from .test_positions import blocked_backends, close_gate, connect_to
from .usage import BATCH_SIZE, END, START, VALUE, batch, count_and_sum, open_ledger

KILL_COUNT = int(os.environ.get("TALLYBOOK_TEST_KILL_MOMENTS", "2"))
BATCHES = 60
PAGE = 20
SHUTDOWN_METHODS = (Server.kill, Server.stop_immediately)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Yield a server that may be killed."""
    with closing(Server()) as started_server:
        yield started_server


@pytest.mark.parametrize("moment", range(KILL_COUNT))
def test_a_killed_database_server_keeps_acknowledged_events(start: Start, server: Server, moment: int) -> None:
    """Each batch is stored completely or not at all, whether its writer retries or stops; a retry completes it."""
    rng = random.Random(4_000 + moment)
    url = server.database.fresh_url()
    open_ledger(url).close()
    process = start("record", url, "w", BATCHES)
    assert process.stdout is not None
    output_lines = [process.stdout.readline() for _ in range(rng.randrange(1, 40))]
    time.sleep(rng.random() * 0.02)  # the kill comes at any moment
    restart(server, SHUTDOWN_METHODS[moment % 2], rng.random())
    output_lines += process.stdout.readlines()
    assert read_numbers(process) == []
    acknowledged = len(output_lines) - 1
    stored_batches = batch_sizes(url)
    assert set(stored_batches) >= {f"w/{number:05d}" for number in range(acknowledged)}
    assert len(stored_batches) <= acknowledged + 1
    assert set(stored_batches.values()) == {BATCH_SIZE}
    assert positions(url) == list(range(1, len(stored_batches) * BATCH_SIZE + 2))
    with open_ledger(url) as metering:
        for number in range(BATCHES):
            outcomes = {receipt.outcome for receipt in metering.record_many(batch("w", number))}
            assert outcomes == {"duplicate" if f"w/{number:05d}" in stored_batches else "accepted"}
    count = BATCHES * BATCH_SIZE
    assert projected_and_replayed_totals(url) == ((count, count * VALUE),) * 2


@pytest.mark.parametrize("moment", range(KILL_COUNT))
def test_events_without_identifier_are_recorded_once_by_a_killed_server(
    start: Start, server: Server, moment: int
) -> None:
    """A retry inside a call never counts an event twice: only the interrupted batch may be stored in addition."""
    rng = random.Random(8_000 + moment)
    url = server.database.fresh_url()
    open_ledger(url).close()
    process = start("record_unnamed", url, BATCHES)
    assert process.stdout is not None
    output_lines = [process.stdout.readline() for _ in range(rng.randrange(1, 40))]
    time.sleep(rng.random() * 0.02)  # the kill comes at any moment
    restart(server, SHUTDOWN_METHODS[moment % 2], rng.random())
    output_lines += process.stdout.readlines()
    assert read_numbers(process) == []
    acknowledged = len(output_lines) - 1
    count = len(positions(url)) - 1
    assert count in {acknowledged * BATCH_SIZE, (acknowledged + (acknowledged < BATCHES)) * BATCH_SIZE}
    assert projected_and_replayed_totals(url) == ((count, count * VALUE),) * 2


@pytest.mark.parametrize("moment", range(KILL_COUNT))
def test_a_projection_reaches_the_head_after_a_server_crash(start: Start, server: Server, moment: int) -> None:
    """It needs no query, and its rows before and after the crash equal those of a replay."""
    rng = random.Random(5_000 + moment)
    url = server.database.fresh_url()
    open_ledger(url).close()
    projecting = start("project", url)
    recording = start("record", url, "w", BATCHES)
    assert recording.stdout is not None
    for _ in range(rng.randrange(1, 40)):
        recording.stdout.readline()
    restart(server, SHUTDOWN_METHODS[moment % 2], rng.random())
    read_numbers(recording)
    count = len(batch_sizes(url)) * BATCH_SIZE
    if projecting.poll() is not None:  # the projection stopped after a connection error
        projecting = start("project", url)
    with open_ledger(url) as metering:
        wait_until(lambda: metering.generations.list()[0].position == count + 1)
    projecting.communicate("stop\n", timeout=60)
    assert projecting.returncode == 0
    assert projected_and_replayed_totals(url) == ((count, count * VALUE),) * 2


@pytest.mark.parametrize("moment", range(KILL_COUNT))
def test_a_rebuild_resumes_after_a_server_crash(start: Start, server: Server, moment: int) -> None:
    """An unfinished rebuild that is started again completes, and its rows equal those of a replay."""
    rng = random.Random(6_000 + moment)
    url = server.database.fresh_url()
    with record_batches(url) as metering:
        before = count_and_sum(metering)
    process = start("rebuild", url, PAGE, "", 0.005)
    start_together(process)
    assert process.stdout is not None
    for _ in range(rng.randrange(1, 40)):
        process.stdout.readline()
    time.sleep(rng.random() * 0.02)  # the kill comes at any moment
    restart(server, SHUTDOWN_METHODS[moment % 2], rng.random())
    read_numbers(process)
    restarted = start("rebuild", url, PAGE)
    start_together(restarted)
    read_numbers(restarted)
    with open_ledger(url) as metering:
        assert {generation.state for generation in metering.generations.list()} == {"live", "ready"}
        assert count_and_sum(metering) == before
        metering.generations.promote(metering.generations.list()[-1].number, reason="a test")
        assert metering.total("tokens", None, START, END).value == before[0]
        assert metering.verify().is_equal


def test_a_lost_batch_is_not_mistaken_for_a_stored_one(start: Start, server: Server) -> None:
    """A server that dies before a transaction is on disk assigns the transaction's number again.

    A writer that checks whether its own transaction was committed must not find the new one.
    """
    url = server.database.fresh_url()
    open_ledger(url).close()
    with closing(connect_to(server.database, url)) as gate:
        close_gate(gate)
        process = start("record", url, "slow", 1, 3)
        wait_until(lambda: blocked_backends(gate.info.backend_pid, gate) != [])
        process.send_signal(signal.SIGSTOP)
        server.kill()
    server.start()
    with open_ledger(url) as metering:
        for number in range(3):
            metering.record_many(batch("other", number, 3))
    process.send_signal(signal.SIGCONT)
    acknowledged = read_numbers(process)
    assert len(batch_sizes(url)) == 3 + len(acknowledged)
    assert projected_and_replayed_totals(url) == ((9 + 3 * len(acknowledged), (9 + 3 * len(acknowledged)) * VALUE),) * 2


def test_a_stored_batch_is_found_if_its_acknowledgement_was_lost(start: Start, server: Server) -> None:
    """The batch was committed, and waited for a missing standby, when the server was killed: it isn't sent again."""
    url = server.database.fresh_url()
    open_ledger(url).close()
    with closing(server.database.connect()) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        connection.execute("SELECT pg_reload_conf()")
        process = start("record_unnamed", url, 1)
        wait_until(
            lambda: connection.execute("SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'").fetchall() != []
        )
        server.kill()
    server.start()
    with closing(server.database.connect()) as connection:
        connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
        connection.execute("SELECT pg_reload_conf()")
    assert read_numbers(process) == [[0]]
    assert positions(url) == list(range(1, BATCH_SIZE + 2))


def restart(server: Server, end: Callable[[Server], None], pause_seconds: float) -> None:
    """Stop a server with `end`, and start it again after a pause."""
    end(server)
    time.sleep(pause_seconds)  # clients find no server for a while
    server.start()
