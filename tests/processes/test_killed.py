"""A ledger opens after a kill at any moment, with every acknowledged batch, complete and recorded once.

Each test kills at two moments; TALLYBOOK_TEST_KILL_MOMENTS sets another number.
"""

import os
import random
import time
from subprocess import Popen

import pytest

from ..waiting import wait_until
from .conftest import Start, start_together
from .ledgers import batch_sizes, delete_read_models, positions, projected_and_replayed_totals, read_numbers
from .usage import BATCH_SIZE, VALUE, batch, count_and_sum, open_ledger

KILL_COUNT = int(os.environ.get("TALLYBOOK_TEST_KILL_MOMENTS", "2"))
PAGE = 100
MAX_PAGES = 15
"""Of 100 pages: a process that has folded them waits until it is killed."""


def kill_after(process: "Popen[str]", lines: int, seconds: float) -> list[int]:
    """Send SIGKILL some seconds after a number of lines; return the numbers of all complete lines."""
    assert process.stdout is not None
    output_lines = [process.stdout.readline() for _ in range(lines)]
    time.sleep(seconds)  # the kill comes at any moment
    process.kill()
    output_lines += process.stdout.readlines()
    process.wait()
    return [int(line) for line in output_lines if line.endswith("\n") and line != "ready\n"]


@pytest.mark.parametrize("moment", range(KILL_COUNT))
def test_a_killed_recorder_keeps_acknowledged_events(start: Start, url: str, moment: int) -> None:
    """Every acknowledged batch is stored, every batch is complete, and totals equal a replay."""
    rng = random.Random(moment)
    open_ledger(url).close()
    process = start("record", url, "w", 100_000)
    acknowledged = kill_after(process, rng.randrange(1, 40), rng.random() * 0.02)
    assert process.returncode == -9
    with open_ledger(url) as metering:
        count = count_and_sum(metering)[0]
    sizes = batch_sizes(url)
    assert set(sizes) >= {f"w/{number:05d}" for number in acknowledged}
    assert len(sizes) <= len(acknowledged) + 1
    assert set(sizes.values()) <= {BATCH_SIZE}
    assert positions(url) == list(range(1, count + 2))
    assert count == len(sizes) * BATCH_SIZE
    assert projected_and_replayed_totals(url) == ((count, count * VALUE),) * 2


@pytest.mark.parametrize("moment", range(KILL_COUNT))
def test_a_restarted_recorder_ends_with_the_same_events(start: Start, url: str, moment: int) -> None:
    """Batches sent again after a kill are recorded once: stored events are duplicates, others are accepted."""
    rng = random.Random(1_000 + moment)
    acknowledged = kill_after(start("record", url, "w", 100_000), rng.randrange(1, 20), rng.random() * 0.02)
    with open_ledger(url) as metering:
        stored_batches = {int(name.removeprefix("w/")) for name in batch_sizes(url)}
        for number in range(len(acknowledged) + 5):
            outcomes = {receipt.outcome for receipt in metering.record_many(batch("w", number))}
            assert outcomes == {"duplicate" if number in stored_batches else "accepted"}
    count = (len(acknowledged) + 5) * BATCH_SIZE
    assert projected_and_replayed_totals(url) == ((count, count * VALUE),) * 2


def test_a_killed_catch_up_folds_no_event_twice(start: Start, url: str) -> None:
    """A killed catch-up folds no event twice: it stores complete pages only, and the last totals equal a replay."""
    rng = random.Random(2_000)
    with open_ledger(url) as metering:
        for number in range(20):
            metering.record_many(batch("w", number, 500))
        metering.cancel("tokens", "w/00000/000")
    head = positions(url)[-1]
    for moment in range(KILL_COUNT):
        delete_read_models(url)
        process = start("catch_up", url, PAGE, MAX_PAGES)
        start_together(process)
        reported = kill_after(process, rng.randrange(MAX_PAGES), rng.random() * 0.005)
        assert process.returncode == -9
        reached = reported[-1] if reported else 0
        restarted = start("catch_up", url, PAGE)
        start_together(restarted)
        pages = [page for (page,) in read_numbers(restarted)]
        assert pages[0] in {reached + PAGE, reached + 2 * PAGE}, f"moment {moment}"
        assert pages[-1] == head
        with open_ledger(url) as metering:
            assert count_and_sum(metering) == (9_999, 9_999 * VALUE), f"moment {moment}"
            assert len(metering.events("tokens", customer="acme", limit=10_000)) == 10_000
    assert projected_and_replayed_totals(url) == ((9_999, 9_999 * VALUE),) * 2


def test_after_a_killed_projection_the_next_continues(start: Start, url: str) -> None:
    """A projection is killed repeatedly while a writer records; the last one reaches the head without a query."""
    rng = random.Random(7_000)
    open_ledger(url).close()
    recording = start("record", url, "w", 100_000)
    with open_ledger(url) as metering:
        for moment in range(KILL_COUNT):
            projecting = start("project", url)
            kill_after(projecting, 1, rng.random() * 0.2)
            assert projecting.returncode == -9
            assert metering.generations.list()[0].position <= positions(url)[-1], f"moment {moment}"
        kill_after(recording, 0, 0)
        head = positions(url)[-1]
        projecting = start("project", url)
        wait_until(lambda: metering.generations.list()[0].position == head)
    projecting.communicate("stop\n", timeout=60)
    assert projecting.returncode == 0
    assert projected_and_replayed_totals(url) == ((head - 1, (head - 1) * VALUE),) * 2
