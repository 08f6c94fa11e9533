"""Killed at any moment, a PostgreSQL server comes back with all that was acknowledged, in whole batches, nothing twice.

Three moments a test; TALLYBOOK_KILL_MOMENTS sets another number.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from ..postgres import Server
from .conftest import Start, go
from .ledgers import batch_sizes, finished, positions, read_and_fresh_figures
from .test_generations import recorded
from .test_positions import close_gate, connected, held_up_by, until
from .usage import BATCH, END, START, VALUE, batch, figures, opened

MOMENTS = int(os.environ.get("TALLYBOOK_KILL_MOMENTS", "3"))
BATCHES = 60
PAGE = 20
ENDS = (Server.kill, Server.stop_immediately)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that may be killed."""
    with closing(Server()) as started:
        yield started


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_killed_server_keeps_what_was_acknowledged(start: Start, server: Server, moment: int) -> None:
    """Whether a writer goes on or gives up, each batch is there wholly or not at all; what is sent again settles it."""
    rng = random.Random(4_000 + moment)
    url = server.database.fresh_url()
    opened(url).close()
    process = start("record", url, "w", BATCHES)
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(rng.randrange(1, 40))]
    time.sleep(rng.random() * 0.02)
    end_and_start(server, ENDS[moment % 2], rng.random())
    told += process.stdout.readlines()
    assert finished(process) == []
    acknowledged = len(told) - 1
    there = batch_sizes(url)
    assert set(there) >= {f"w/{number:05d}" for number in range(acknowledged)}
    assert len(there) <= acknowledged + 1
    assert set(there.values()) == {BATCH}
    assert positions(url) == list(range(1, len(there) * BATCH + 2))
    with opened(url) as metering:
        for number in range(BATCHES):
            outcomes = {receipt.outcome for receipt in metering.record_many(batch("w", number))}
            assert outcomes == {"duplicate" if f"w/{number:05d}" in there else "accepted"}
    count = BATCHES * BATCH
    assert read_and_fresh_figures(url) == ((count, count * VALUE),) * 2


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_what_has_no_identifier_is_recorded_once_by_a_killed_server(start: Start, server: Server, moment: int) -> None:
    """Trying again inside a call never counts a use twice: at most the one batch that was cut off is there unasked."""
    rng = random.Random(8_000 + moment)
    url = server.database.fresh_url()
    opened(url).close()
    process = start("record_unnamed", url, BATCHES)
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(rng.randrange(1, 40))]
    time.sleep(rng.random() * 0.02)
    end_and_start(server, ENDS[moment % 2], rng.random())
    told += process.stdout.readlines()
    assert finished(process) == []
    acknowledged = len(told) - 1
    count = len(positions(url)) - 1
    assert count in {acknowledged * BATCH, (acknowledged + (acknowledged < BATCHES)) * BATCH}
    assert read_and_fresh_figures(url) == ((count, count * VALUE),) * 2


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_projection_comes_to_the_end_of_the_ledger_of_a_killed_server(
    start: Start, server: Server, moment: int
) -> None:
    """With nobody asking; what it folds before and after is what a fresh fold makes."""
    rng = random.Random(5_000 + moment)
    url = server.database.fresh_url()
    opened(url).close()
    projecting = start("project", url)
    recording = start("record", url, "w", BATCHES)
    assert recording.stdout is not None
    for _ in range(rng.randrange(1, 40)):
        recording.stdout.readline()
    end_and_start(server, ENDS[moment % 2], rng.random())
    finished(recording)
    count = len(batch_sizes(url)) * BATCH
    if projecting.poll() is not None:  # it gave the server up
        projecting = start("project", url)
    with opened(url) as metering:
        until(lambda: metering.generations()[0].position == count + 1)
    projecting.communicate("stop\n", timeout=60)
    assert projecting.returncode == 0
    assert read_and_fresh_figures(url) == ((count, count * VALUE),) * 2


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_rebuild_goes_on_after_its_server_was_killed(start: Start, server: Server, moment: int) -> None:
    """Started again, where it was not finished, it comes to its end, and nothing differs from a fresh fold."""
    rng = random.Random(6_000 + moment)
    url = server.database.fresh_url()
    with recorded(url) as metering:
        before = figures(metering)
    process = start("rebuild", url, PAGE, 0.005)
    go(process)
    assert process.stdout is not None
    for _ in range(rng.randrange(1, 40)):
        process.stdout.readline()
    time.sleep(rng.random() * 0.02)
    end_and_start(server, ENDS[moment % 2], rng.random())
    finished(process)
    again = start("rebuild", url, PAGE)
    go(again)
    finished(again)
    with opened(url) as metering:
        assert {one.state for one in metering.generations()} == {"live", "ready"}
        assert figures(metering) == before
        metering.promote(metering.generations()[-1].number, reason="a test")
        assert metering.total("tokens", None, START, END).value == before[0]
        assert metering.verify().is_equal


def test_a_batch_that_the_server_lost_is_not_taken_for_another_that_it_has(start: Start, server: Server) -> None:
    """A server that is killed before a transaction is on disk gives the number of that transaction to another one.

    A writer that asks whether its own was committed must not be told of that one.
    """
    url = server.database.fresh_url()
    opened(url).close()
    with closing(connected(server.database, url)) as gate:
        close_gate(gate)
        process = start("record", url, "slow", 1, 3)
        until(lambda: held_up_by(gate.info.backend_pid, gate) != [])
        process.send_signal(signal.SIGSTOP)
        server.kill()
    server.start()
    with opened(url) as metering:
        for number in range(3):
            metering.record_many(batch("other", number, 3))
    process.send_signal(signal.SIGCONT)
    acknowledged = finished(process)
    assert len(batch_sizes(url)) == 3 + len(acknowledged)
    assert read_and_fresh_figures(url) == ((9 + 3 * len(acknowledged), (9 + 3 * len(acknowledged)) * VALUE),) * 2


def test_a_batch_that_the_server_has_is_found_though_its_answer_was_lost(start: Start, server: Server) -> None:
    """It was committed, and waited for a standby that isn't there, when the server was killed: it isn't sent twice."""
    url = server.database.fresh_url()
    opened(url).close()
    with closing(server.database.connect()) as watch:
        watch.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        watch.execute("SELECT pg_reload_conf()")
        process = start("record_unnamed", url, 1)
        until(lambda: watch.execute("SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'").fetchall() != [])
        server.kill()
    server.start()
    with closing(server.database.connect()) as watch:
        watch.execute("ALTER SYSTEM RESET synchronous_standby_names")
        watch.execute("SELECT pg_reload_conf()")
    assert finished(process) == [[0]]
    assert positions(url) == list(range(1, BATCH + 2))


def end_and_start(server: Server, end: Callable[[Server], None], pause_seconds: float) -> None:
    """End a server in one way or the other, and start it again after a pause."""
    end(server)
    time.sleep(pause_seconds)
    server.start()
