"""Several threads and processes use generations, and processes are killed at any moment."""

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from subprocess import Popen

import pytest
from tallybook.application import Metering, TallybookError, TotalList

from ..sampling import IS_LONG
from .conftest import Start, start_together
from .ledgers import ledger_file, live_rows, positions, read_numbers
from .test_killed import kill_after
from .test_threads import run_together
from .usage import BATCH_SIZE, END, START, VALUE, batch, count_and_sum, open_ledger

ROUNDS = 4 if IS_LONG else 2
KILL_COUNT = int(os.environ.get("TALLYBOOK_TEST_KILL_MOMENTS", "2"))
PAGE = 50
MAX_PAGES = 10
"""Of 20 pages: a process that has folded them waits until it is killed."""
COUNTED = {"tokens": {"formula": "count"}}


def record_batches(url: str, batches: int = 10) -> Metering:
    """Return a ledger with batches of 100."""
    metering = open_ledger(url)
    for number in range(batches):
        metering.record_many(batch("w", number, 100))
    metering.cancel("tokens", "w/00000/000")
    return metering


def test_a_killed_rebuild_leaves_the_live_generation_and_resumes(start: Start, url: str) -> None:
    """A killed rebuild leaves the live rows unchanged, and the same call resumes it. The lock of the killed process is
    released at once."""
    rng = random.Random(3_000)
    with record_batches(url) as metering:
        before = count_and_sum(metering)
        rows = live_rows(url)
        head = positions(url)[-1]
        for moment in range(KILL_COUNT):
            process = start("rebuild", url, PAGE, MAX_PAGES)
            start_together(process)
            kill_after(process, rng.randrange(MAX_PAGES), rng.random() * 0.005)
            assert process.returncode == -9
            assert live_rows(url) == rows, f"moment {moment}"
            assert count_and_sum(metering) == before
            built = metering.generations.list()[-1]
            reached = built.position if built.state == "building" else 0  # it was killed before it began
            resumed = start("rebuild", url, PAGE)
            start_together(resumed)
            pages = [page for (page,) in read_numbers(resumed)]
            assert pages == [min(page + PAGE, head) for page in range(reached, head, PAGE)], f"moment {moment}"
            assert [generation.state for generation in metering.generations.list()] == ["live", "ready"]
            metering.generations.drop(metering.generations.list()[1].number)
        candidate = metering.generations.rebuild(rules=COUNTED).number
        metering.generations.promote(candidate, reason="by use")
        assert metering.total("tokens", None, START, END).value == before[0]
        assert metering.verify().is_equal


def test_the_second_of_two_rebuilds_learns_which_process_holds_the_lock(start: Start, url: str) -> None:
    """The error names the process. Once it is killed, the next rebuild starts at once; recording never waits."""
    with record_batches(url) as metering:
        first = start("rebuild", url, 1, 1)
        start_together(first)
        assert first.stdout is not None
        first.stdout.readline()
        with pytest.raises(TallybookError, match=f"process {first.pid} on .* is rebuilding, since 20") as exc_info:
            metering.generations.rebuild()
        assert exc_info.value.code == "rebuild_in_progress"
        assert first.poll() is None
        metering.record_many(batch("x", 0))
        assert count_and_sum(metering)[0] == 999 + BATCH_SIZE
        first.kill()
        first.wait()
        assert metering.generations.rebuild(rules=COUNTED).number == 2


def test_after_a_kill_before_the_switch_the_next_process_switches(start: Start, url: str) -> None:
    """The ledger has the new rules already, so every process answers by them."""
    with record_batches(url) as metering:
        candidate = metering.generations.rebuild(rules=COUNTED).number
        process = start("promote", url, candidate)
        process.wait(timeout=60)
        assert process.returncode == -9
        assert [generation.state for generation in metering.generations.list()] == ["live", "ready"]
        assert metering.meters.get("tokens").revision == 2
        assert metering.total("tokens", None, START, END).value == 999
        assert [generation.state for generation in metering.generations.list()] == ["retired", "live"]
        assert metering.verify().is_equal


def test_eight_readers_see_one_generation_or_the_other(url_for_threads: str) -> None:
    """During repeated promotions each result comes from one of the two generations, never from both."""
    with record_batches(url_for_threads, 3) as metering:

        def query() -> tuple[TotalList, str]:
            explained = metering.explain("tokens", None, START, END)
            return metering.totals("tokens", START, END), f"{explained.formula} {explained.total.value}"

        before = query()
        candidate = metering.generations.rebuild(
            rules=COUNTED | {"tokens": {"formula": "count", "customer_key": "value"}}
        ).number
        metering.generations.promote(candidate, reason="by use")
        after = query()
        metering.generations.promote(1, reason="back")
        assert query() == before
        assert after[0][0].customer == str(VALUE)
        over: list[bool] = []
        results: list[tuple[TotalList, str]] = []

        def read() -> None:
            while not over:
                results.append(query())

        def promote() -> None:
            try:
                for round_number in range(6):
                    metering.generations.promote((candidate, 1)[round_number % 2], reason="again")
            finally:
                over.append(True)

        run_together([promote, *[read] * 8])
        assert {len(total_list) for total_list, _ in results} == {1}
        for totals, explained in results:
            assert totals in (before[0], after[0])
            assert explained in (before[1], after[1])
        assert metering.verify().is_equal


def test_rules_change_while_another_process_records_without_pause(start: Start, url: str) -> None:
    """Every promotion completes, and no acknowledged event is lost or unreadable."""
    with record_batches(url, 3) as metering:
        writer = start("record", url, "busy", 100_000)
        assert writer.stdout is not None
        for round_number in range(ROUNDS):
            writer.stdout.readline()
            candidate = metering.generations.rebuild(
                rules={"tokens": {"formula": ("count", "sum")[round_number % 2]}}
            ).number
            metering.generations.diff(candidate)
            metering.generations.promote(candidate, reason="a test")
            assert metering.verify().is_equal
        acknowledged = kill_writer(writer)
        event_count = len(positions(url)) - 1 - ROUNDS - 1
        assert event_count >= 300 + BATCH_SIZE * acknowledged
        assert count_and_sum(metering) == (event_count - 1, (event_count - 1) * VALUE)
        assert metering.meters.get("tokens").revision == 1 + ROUNDS
        assert metering.verify().is_equal


def kill_writer(process: "Popen[str]") -> int:
    """Kill a writer; return the number of batches that it reported as acknowledged."""
    assert process.stdout is not None
    process.kill()
    last = [line for line in process.stdout.readlines() if line.endswith("\n")][-1]
    process.wait()
    return int(last) + 1


def test_read_models_of_the_previous_version_are_rebuilt(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """No error is raised: read models are disposable, and the ledger has everything."""
    with record_batches(sqlite_url) as metering:
        before = count_and_sum(metering)
    file = Path(f"{ledger_file(sqlite_url)}.read-models")
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE usage (meter, customer, usages)")
        connection.execute("CREATE TABLE tracking (application_name TEXT PRIMARY KEY, notification_id INTEGER)")
        connection.execute("INSERT INTO tracking VALUES ('views', 5)")
        connection.execute(f"PRAGMA application_id = {0x54414C56}")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    with open_ledger(sqlite_url) as metering:
        assert count_and_sum(metering) == before
        assert metering.verify().is_equal
    assert caplog.records == []
