"""Worker processes: they answer, say when they can't, and end with who began them."""

import os
import select
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest
from tallybook.projections import workers
from tallybook.projections.workers import PROCESSES, Worker, WorkerLost, Workers, usable

PATIENCE_SECONDS = 60
BEGINS_ONE = """
import sys, time
from tallybook.projections.workers import Worker
worker = Worker()
worker.wait()
print(worker.call(__import__("os").getpid), flush=True)
time.sleep(60)
"""

FORKS = """
import os, sys
sys.path[:] = {path}
from tallybook.projections.workers import workers
def asked():
    with workers(1) as some:
        return some.call(os.getpid)
print(asked(), flush=True)
if os.fork() == 0:
    print(asked(), flush=True)
    sys.exit()
os.wait()
print(asked(), flush=True)
"""


def ready() -> Worker:
    """One that can be told something."""
    worker = Worker()
    worker.wait()
    return worker


def test_a_worker_calls_what_it_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    """In a process of its own, one call after another; what it prints is no answer."""
    worker = ready()
    assert worker.call(os.getpid) != os.getpid()
    assert worker.call(os.write, 1, b"said\n") == 5
    assert worker.call(sorted, b"ba" * 100_000) == [97] * 100_000 + [98] * 100_000
    worker.end()
    assert capfd.readouterr() == ("", "said\n")


def test_a_worker_does_the_next_before_its_last_answer_is_taken() -> None:
    """It needn't wait for who asked; and whoever asks gets an answer to what it asked, however many ask at once."""
    worker = ready()
    with ThreadPoolExecutor(5) as asking:
        with worker._is_answered:  # pyright: ignore[reportPrivateUsage] - as who hasn't taken an answer yet holds it
            next_one = asking.submit(worker.call, abs, -1)
            answers = worker._answers  # pyright: ignore[reportPrivateUsage]
            assert answers is not None
            assert select.select([answers], [], [], PATIENCE_SECONDS)[0]
            assert not next_one.done()
        assert next_one.result() == 1
        asked = {number: asking.submit(worker.call, bytes, number * 10_000) for number in range(100)}
        assert all(len(answer.result()) == number * 10_000 for number, answer in asked.items())
    worker.end()


def test_all_who_asked_a_worker_that_is_killed_are_told() -> None:
    """Also who asked for the next, which was sent already."""
    worker = ready()
    process = worker.call(os.getpid)
    with ThreadPoolExecutor(3) as asking:
        asked = [asking.submit(worker.call, time.sleep, PATIENCE_SECONDS)]
        while not worker._is_answered.locked():  # pyright: ignore[reportPrivateUsage]
            time.sleep(0.01)
        asked += [asking.submit(worker.call, abs, -1) for _ in range(2)]
        os.kill(process, signal.SIGKILL)
        assert [type(one.exception(PATIENCE_SECONDS)) for one in asked] == [WorkerLost] * 3
    worker.end()


@pytest.mark.parametrize("wrong", ["what is asked", "what is answered"])
def test_a_worker_is_lost_where_what_is_sent_cannot_be_read(wrong: str) -> None:
    """What is left in its pipes is nobody's: whoever asks next is told too, and gets no answer to something else."""
    worker = ready()
    asked = Unreadable(in_asking=wrong == "what is asked")
    with pytest.raises(WorkerLost, match="on its way"):
        worker.call(tuple, [b" " * 100_000, asked])
    with pytest.raises(WorkerLost):
        worker.call(abs, -1)
    worker.end()


class Unreadable:
    """Fails in the midst of being sent to a worker, or in the midst of being read from it."""

    def __init__(self, *, in_asking: bool) -> None:
        self.in_asking = in_asking

    def __reduce__(self) -> tuple[object, ...]:
        if self.in_asking:
            raise ValueError("on its way")
        return _answered_once, (os.getpid(),)


def _answered_once(asker: int) -> "Unreadable | Answered":
    return Answered(asker)


class Answered:
    """What a worker makes of it, and its asker can't read."""

    def __init__(self, asker: int) -> None:
        if os.getpid() == asker:
            raise ValueError("on its way")
        self.asker = asker

    def __reduce__(self) -> tuple[object, ...]:
        return Answered, (self.asker,)


def test_a_worker_that_ends_is_lost(capfd: pytest.CaptureFixture[str]) -> None:
    """Killed, or by an error of what it called, which it tells on its standard error."""
    killed, failed = ready(), ready()
    os.kill(killed.call(os.getpid), signal.SIGKILL)
    with pytest.raises(WorkerLost):
        killed.call(os.getpid)
    with pytest.raises(WorkerLost):
        failed.call(int, "none")
    for worker in (killed, failed):
        worker.end()
    assert "invalid literal" in capfd.readouterr().err


def test_workers_that_are_ended_answer_nobody() -> None:
    """Also whoever still waits is told, and their processes are gone."""
    some = Workers(2)
    assert some.submit(lambda: some.call(os.getpid)).result() != os.getpid()
    begun = {some.call(os.getpid) for _ in range(20)}
    waiting = some.submit(lambda: some.call(time.sleep, PATIENCE_SECONDS))
    while not waiting.running():
        time.sleep(0.01)
    some.end()
    with pytest.raises(WorkerLost):
        waiting.result()
    with pytest.raises(WorkerLost):
        some.call(os.getpid)
    with pytest.raises(WorkerLost):
        some.submit(os.getpid)
    for process in begun:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_workers_that_have_not_begun_yet_end_too() -> None:
    """Nobody waits for them."""
    began = time.monotonic()
    Workers(3).end()
    assert time.monotonic() - began < PATIENCE_SECONDS / 2


def test_workers_are_kept_for_the_next_who_asks_for_as_many() -> None:
    """The same ones; others where these were lost, or another number is wanted."""
    with workers.workers(1) as first:
        process = first.call(os.getpid)
        with workers.workers(1) as meanwhile:
            assert meanwhile is not first
    with workers.workers(1) as again:
        assert again is first
        assert again.call(os.getpid) == process
        again.lost(WorkerLost("as a test"))
    with workers.workers(1) as after:
        assert after is not first
    with workers.workers(2) as two:
        assert two is not after
        assert after.are_over
    workers.end_kept()
    assert two.are_over


def test_a_kept_worker_that_has_ended_is_not_waited_for() -> None:
    """Others take its place."""
    with workers.workers(1) as first:
        os.kill(first.call(os.getpid), signal.SIGKILL)
    while first.are_sound:
        time.sleep(0.01)
    with workers.workers(1) as after:
        assert after is not first
        assert after.call(abs, -1) == 1
    workers.end_kept()


@pytest.mark.parametrize("wrong", ["a hook forbids it", "no such program", "it ends at once"])
def test_where_no_worker_can_be_begun_who_asks_is_told(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever."""

    def forbidden(*_: object, **__: object) -> None:
        raise RuntimeError("no processes here")

    if wrong == "a hook forbids it":
        monkeypatch.setattr(subprocess, "Popen", forbidden)
    else:
        monkeypatch.setattr(sys, "executable", "/nowhere/python" if wrong == "no such program" else "/bin/true")
    some = Workers(1)
    with pytest.raises((WorkerLost, CancelledError)):
        some.submit(lambda: some.call(os.getpid)).result(PATIENCE_SECONDS)
    with pytest.raises(WorkerLost):
        some.call(os.getpid)


def test_what_is_printed_before_a_worker_is_ready_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what isn't a path in the way of it."""
    (tmp_path / "sitecustomize.py").write_text("print('coverage'); print('started')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path, "\0"])
    some = Workers(1)
    assert some.call(abs, -1) == 1
    some.end()


def test_workers_that_nobody_asks_for_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while."""
    monkeypatch.setattr(workers, "KEPT_SECONDS", 0.1)
    with workers.workers(1) as some:
        some.call(os.getpid)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not some.are_over and time.monotonic() < deadline:
        time.sleep(0.01)
    assert some.are_over


def test_a_program_that_forks_leaves_them_to_the_one_that_began_them() -> None:
    """The other begins its own, and neither is left when both have ended."""
    script = FORKS.format(path=sys.path)
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    ours, theirs, ours_after = (int(line) for line in done.stdout.split())
    assert ours == ours_after != theirs


def test_a_worker_ends_where_its_program_is_killed() -> None:
    """Its input ends; nothing is left of it."""
    with subprocess.Popen([sys.executable, "-c", BEGINS_ONE], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        worker = int(program.stdout.readline())
        os.kill(worker, 0)
        program.kill()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not Path(f"/proc/{worker}").exists()


@pytest.mark.parametrize(
    ("cores", "set_to", "executable", "number"),
    [
        (1, "", "/usr/bin/python3", 0),
        (2, "", "/usr/bin/python3", 1),
        (64, "", "/usr/bin/python3.11", 3),
        (64, "8", "/usr/bin/python3", 7),
        (64, "1", "/usr/bin/python3", 0),
        (64, "0", "/usr/bin/python3", 0),
        (1, "2", "/usr/bin/python3", 1),
        (64, "many", "/usr/bin/python3", 3),
        (64, "", "/usr/bin/uwsgi", 0),
        (64, "", "", 0),
    ],
)
def test_how_many_may_be_begun(
    monkeypatch: pytest.MonkeyPatch, cores: int, set_to: str, executable: str, number: int
) -> None:
    """One for each core but that of the program itself, or as many as are set; none where Python can't be begun."""

    def affinity(_: int) -> range:
        return range(cores)

    monkeypatch.setattr(os, "sched_getaffinity", affinity)
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setenv(PROCESSES, set_to)
    assert usable() == number
