"""Generations among several threads and processes, and killed at any moment."""

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from subprocess import Popen

import pytest
from tallybook.application import Metering, TallybookError, Total

from .conftest import Start, go
from .ledgers import file_of, finished, live_rows, positions
from .test_killed import kill_after
from .test_threads import run_together
from .usage import BATCH, END, START, VALUE, batch, figures, opened

MOMENTS = int(os.environ.get("TALLYBOOK_KILL_MOMENTS", "3"))
PAGE = 50
COUNTED = {"tokens": {"formula": "count"}}


def recorded(url: str, batches: int = 10) -> Metering:
    """A ledger with batches of 100."""
    metering = opened(url)
    for number in range(batches):
        metering.record_many(batch("w", number, 100))
    metering.cancel("tokens", "w/00000/000")
    return metering


def test_killed_while_rebuilding_it_leaves_the_live_generation_and_goes_on(start: Start, url: str) -> None:
    """At each moment a rebuild is cut off the live rows are as they were; the same call goes on where it was, and the
    lock of who was killed is free at once."""
    rng = random.Random(3_000)
    with recorded(url) as metering:
        before = figures(metering)
        rows = live_rows(url)
        head = positions(url)[-1]
        killed = 0
        for moment in range(MOMENTS):
            process = start("rebuild", url, PAGE)
            go(process)
            kill_after(process, rng.randrange(20), rng.random() * 0.01)
            killed += process.returncode == -9
            assert live_rows(url) == rows, f"moment {moment}"
            assert figures(metering) == before
            built = metering.generations()[-1]
            reached = built.position if built.state == "building" else None
            again = start("rebuild", url, PAGE)
            go(again)
            pages = [page for (page,) in finished(again)]
            assert pages == [min(page + PAGE, head) for page in range(reached or 0, head, PAGE)], f"moment {moment}"
            assert [one.state for one in metering.generations()] == ["live"] + ["ready"] * (2 if reached is None else 1)
            for one in metering.generations()[1:]:
                metering.drop_generation(one.number)
        assert killed > MOMENTS / 2
        candidate = metering.rebuild(rules=COUNTED).number
        metering.promote(candidate, reason="by use")
        assert metering.total("tokens", None, START, END).value == before[0]
        assert metering.verify().is_equal


def test_of_two_rebuilds_at_once_the_second_is_told_who_is_at_it(start: Start, url: str) -> None:
    """In another process too; once that one is killed, the next begins at once, and recording never waits."""
    with recorded(url) as metering:
        first = start("rebuild", url, 1, 5)
        go(first)
        assert first.stdout is not None
        first.stdout.readline()
        with pytest.raises(TallybookError, match=f"process {first.pid} on .* is rebuilding, since 20") as refused:
            metering.rebuild()
        assert refused.value.code == "rebuild_running"
        assert first.poll() is None
        metering.record_many(batch("x", 0))
        assert figures(metering)[0] == 999 + BATCH
        first.kill()
        first.wait()
        assert metering.rebuild(rules=COUNTED).number == 2


def test_killed_before_the_switch_the_next_program_follows_the_rules(start: Start, url: str) -> None:
    """The ledger has the new rules already, so every answer of whoever is there is under them."""
    with recorded(url) as metering:
        candidate = metering.rebuild(rules=COUNTED).number
        process = start("promote", url, candidate)
        process.wait(timeout=60)
        assert process.returncode == -9
        assert [one.state for one in metering.generations()] == ["live", "ready"]
        assert metering.meter("tokens").revision == 2
        assert metering.total("tokens", None, START, END).value == 999
        assert [one.state for one in metering.generations()] == ["retired", "live"]
        assert metering.verify().is_equal


def test_eight_readers_see_one_generation_or_the_other(url_for_threads: str) -> None:
    """While one is promoted, gone back from and promoted again, each answer is wholly of one of the two."""
    with recorded(url_for_threads, 3) as metering:

        def ask() -> tuple[list[Total], str]:
            explained = metering.explain("tokens", None, START, END)
            return metering.totals("tokens", START, END), f"{explained.formula} {explained.total.value}"

        before = ask()
        candidate = metering.rebuild(rules=COUNTED | {"tokens": {"formula": "count", "customer_key": "value"}}).number
        metering.promote(candidate, reason="by use")
        after = ask()
        metering.promote(1, reason="back")
        assert ask() == before
        assert after[0][0].customer == str(VALUE)
        over: list[bool] = []
        heard: list[tuple[list[Total], str]] = []

        def read() -> None:
            while not over:
                heard.append(ask())

        def promote() -> None:
            try:
                for turn in range(6):
                    metering.promote((candidate, 1)[turn % 2], reason="again")
            finally:
                over.append(True)

        run_together([promote, *[read] * 8])
        assert {len(one) for one, _ in heard} == {1}
        for totals, explained in heard:
            assert totals in (before[0], after[0])
            assert explained in (before[1], after[1])
        assert metering.verify().is_equal


def test_rules_change_while_another_process_records_without_pause(start: Start, url: str) -> None:
    """Every promotion comes to its end, and nothing that was acknowledged is lost, or unreadable."""
    with recorded(url, 3) as metering:
        writer = start("record", url, "busy", 100_000)
        assert writer.stdout is not None
        for turn in range(4):
            writer.stdout.readline()
            candidate = metering.rebuild(rules={"tokens": {"formula": ("count", "sum")[turn % 2]}}).number
            metering.diff(candidate)
            metering.promote(candidate, reason="a test")
            assert metering.verify().is_equal
        acknowledged = stopped(writer)
        usages = len(positions(url)) - 1 - 4 - 1
        assert usages >= 300 + BATCH * acknowledged
        assert figures(metering) == (usages - 1, (usages - 1) * VALUE)
        assert metering.meter("tokens").revision == 5
        assert metering.verify().is_equal


def stopped(process: "Popen[str]") -> int:
    """Kill a writer; how many batches it said were acknowledged."""
    assert process.stdout is not None
    process.kill()
    last = [line for line in process.stdout.readlines() if line.endswith("\n")][-1]
    process.wait()
    return int(last) + 1


def test_read_models_of_the_version_before_are_made_anew(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without a word: they are disposable, and the ledger has everything."""
    with recorded(sqlite_url) as metering:
        before = figures(metering)
    file = Path(f"{file_of(sqlite_url)}.views")
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE usage (meter, customer, usages)")
        connection.execute("CREATE TABLE tracking (application_name TEXT PRIMARY KEY, notification_id INTEGER)")
        connection.execute("INSERT INTO tracking VALUES ('views', 5)")
        connection.execute(f"PRAGMA application_id = {0x54414C56}")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    with opened(sqlite_url) as metering:
        assert figures(metering) == before
        assert metering.verify().is_equal
    assert caplog.records == []
