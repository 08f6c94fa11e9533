"""Killed at any moment, a ledger opens, holds all that it acknowledged, in whole batches, and nothing twice.

Four moments a test; TALLYBOOK_KILL_MOMENTS sets another number.
"""

import os
import random
import time
from subprocess import Popen

import pytest

from .conftest import Start, go
from .ledgers import batch_sizes, delete_views, finished, positions, read_and_fresh_figures
from .test_positions import until
from .usage import BATCH, VALUE, batch, figures, opened

MOMENTS = int(os.environ.get("TALLYBOOK_KILL_MOMENTS", "4"))
PAGE = 100


def kill_after(process: "Popen[str]", lines: int, seconds: float) -> list[int]:
    """Kill with SIGKILL so long after so many lines; the numbers that were told, to the last whole line."""
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(lines)]
    time.sleep(seconds)
    process.kill()
    told += process.stdout.readlines()
    process.wait()
    return [int(line) for line in told if line.endswith("\n") and line != "ready\n"]


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_while_recording_it_keeps_what_it_acknowledged(start: Start, url: str, moment: int) -> None:
    """Every acknowledged batch is there, every batch is whole, and totals equal a fresh fold."""
    rng = random.Random(moment)
    opened(url).close()
    process = start("record", url, "w", 100_000)
    acknowledged = kill_after(process, rng.randrange(1, 40), rng.random() * 0.02)
    assert process.returncode == -9
    with opened(url) as metering:
        count = figures(metering)[0]
    sizes = batch_sizes(url)
    assert set(sizes) >= {f"w/{number:05d}" for number in acknowledged}
    assert len(sizes) <= len(acknowledged) + 1
    assert set(sizes.values()) <= {BATCH}
    assert positions(url) == list(range(1, count + 2))
    assert count == len(sizes) * BATCH
    assert read_and_fresh_figures(url) == ((count, count * VALUE),) * 2


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_and_started_again_it_ends_the_same(start: Start, url: str, moment: int) -> None:
    """What is sent again after a kill is recorded once: duplicates where it was there, accepted where it was not."""
    rng = random.Random(1_000 + moment)
    acknowledged = kill_after(start("record", url, "w", 100_000), rng.randrange(1, 20), rng.random() * 0.02)
    with opened(url) as metering:
        there = {int(name.removeprefix("w/")) for name in batch_sizes(url)}
        for number in range(len(acknowledged) + 5):
            outcomes = {receipt.outcome for receipt in metering.record_many(batch("w", number))}
            assert outcomes == {"duplicate" if number in there else "accepted"}
    count = (len(acknowledged) + 5) * BATCH
    assert read_and_fresh_figures(url) == ((count, count * VALUE),) * 2


def test_killed_while_catching_up_it_folds_nothing_twice(start: Start, url: str) -> None:
    """At each moment a fold is cut off the read models are those of a whole number of pages; and at the end they are
    those of a fresh fold."""
    rng = random.Random(2_000)
    with opened(url) as metering:
        for number in range(20):
            metering.record_many(batch("w", number, 500))
        metering.cancel("tokens", "w/00000/000")
    head = positions(url)[-1]
    killed = 0
    for moment in range(MOMENTS):
        delete_views(url)
        process = start("catch_up", url, PAGE)
        go(process)
        told = kill_after(process, rng.randrange(60), rng.random() * 0.01)
        killed += process.returncode == -9
        reached = told[-1] if told else 0
        again = start("catch_up", url, PAGE)
        go(again)
        pages = [page for (page,) in finished(again)]
        assert pages[0] in {min(reached + PAGE, head), min(reached + 2 * PAGE, head)}, f"moment {moment}"
        assert pages[-1] == head
        with opened(url) as metering:
            assert figures(metering) == (9_999, 9_999 * VALUE), f"moment {moment}"
            assert len(metering.events("tokens", customer="acme", limit=10_000)) == 10_000
    assert killed > MOMENTS / 2
    assert read_and_fresh_figures(url) == ((9_999, 9_999 * VALUE),) * 2


def test_killed_while_projecting_the_next_goes_on(start: Start, url: str) -> None:
    """A projector beside a writer is killed again and again; the last one comes to the end, with nobody asking."""
    rng = random.Random(7_000)
    opened(url).close()
    recording = start("record", url, "w", 100_000)
    with opened(url) as metering:
        for moment in range(MOMENTS):
            projecting = start("project", url)
            kill_after(projecting, 1, rng.random() * 0.2)
            assert projecting.returncode == -9
            assert metering.generations()[0].position <= positions(url)[-1], f"moment {moment}"
        kill_after(recording, 0, 0)
        head = positions(url)[-1]
        projecting = start("project", url)
        until(lambda: metering.generations()[0].position == head)
    projecting.communicate("stop\n", timeout=60)
    assert projecting.returncode == 0
    assert read_and_fresh_figures(url) == ((head - 1, (head - 1) * VALUE),) * 2
