"""Worker processes: they return results, report errors, and end with their parent process."""

import os
import select
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest
from tallybook.application.python_process import MAX_PROCESSES_SETTING
from tallybook.application.read_models import worker_pool
from tallybook.application.read_models.worker_pool import (
    Worker,
    WorkerLost,
    WorkerPool,
    available_workers,
)

TIMEOUT_SECONDS = 60
START_WORKER_PROGRAM = """
import sys, time
from tallybook.application.read_models.worker_pool import Worker
worker = Worker()
worker.wait_until_ready()
print(worker.call(__import__("os").getpid), flush=True)
time.sleep(60)
"""

FORK_PROGRAM = """
import os, sys
sys.path[:] = {path}
from tallybook.application.read_models.worker_pool import worker_pool
def call_worker():
    with worker_pool(1) as pool:
        return pool.call(os.getpid)
print(call_worker(), flush=True)
if os.fork() == 0:
    print(call_worker(), flush=True)
    sys.exit()
os.wait()
print(call_worker(), flush=True)
"""


def ready_worker() -> Worker:
    """Return a worker that accepts calls."""
    worker = Worker()
    worker.wait_until_ready()
    return worker


def test_a_worker_calls_the_requested_function(capfd: pytest.CaptureFixture[str]) -> None:
    """The worker is another process, runs calls in order, and its output isn't taken for a result."""
    worker = ready_worker()
    assert worker.call(os.getpid) != os.getpid()
    assert worker.call(os.write, 1, b"said\n") == 5
    assert worker.call(sorted, b"ba" * 100_000) == [97] * 100_000 + [98] * 100_000
    worker.terminate()
    assert capfd.readouterr() == ("", "said\n")


def test_a_worker_starts_the_next_call_before_its_last_result_is_read() -> None:
    """It doesn't wait for its caller, and each of many concurrent callers gets its own result."""
    worker = ready_worker()
    with ThreadPoolExecutor(5) as executor:
        with worker._response_lock:  # pyright: ignore[reportPrivateUsage] - held by a caller that hasn't read its result
            next_one = executor.submit(worker.call, abs, -1)
            result_queue = worker._responses  # pyright: ignore[reportPrivateUsage]
            assert result_queue is not None
            assert select.select([result_queue], [], [], TIMEOUT_SECONDS)[0]
            assert not next_one.done()
        assert next_one.result() == 1
        futures = {number: executor.submit(worker.call, bytes, number * 10_000) for number in range(100)}
        assert all(len(future.result()) == number * 10_000 for number, future in futures.items())
    worker.terminate()


def test_all_callers_of_a_killed_worker_get_an_error() -> None:
    """Callers whose call was sent ahead get it too."""
    worker = ready_worker()
    process = worker.call(os.getpid)
    with ThreadPoolExecutor(3) as executor:
        futures = [executor.submit(worker.call, time.sleep, TIMEOUT_SECONDS)]
        while not worker._response_lock.locked():  # pyright: ignore[reportPrivateUsage]
            time.sleep(0.01)
        futures += [executor.submit(worker.call, abs, -1) for _ in range(2)]
        os.kill(process, signal.SIGKILL)
        assert [type(future.exception(TIMEOUT_SECONDS)) for future in futures] == [WorkerLost] * 3
    worker.terminate()


@pytest.mark.parametrize("problem", ["request", "response"])
def test_a_worker_is_lost_if_a_message_cannot_be_decoded(problem: str) -> None:
    """The rest of its pipes belongs to no call: later callers get an error, never the result of another call."""
    worker = ready_worker()
    value = Unpicklable(in_argument=problem == "request")
    with pytest.raises(WorkerLost, match="on its way"):
        worker.call(tuple, [b" " * 100_000, value])
    with pytest.raises(WorkerLost):
        worker.call(abs, -1)
    worker.terminate()


class Unpicklable:
    """An argument or result that fails while it is pickled or unpickled."""

    def __init__(self, *, in_argument: bool) -> None:
        self.in_argument = in_argument

    def __reduce__(self) -> tuple[object, ...]:
        if self.in_argument:
            raise ValueError("on its way")
        return _picklable_once, (os.getpid(),)


def _picklable_once(argument: int) -> "Unpicklable | PicklableOnce":
    return PicklableOnce(argument)


class PicklableOnce:
    """A result that the worker can pickle and the caller can't unpickle."""

    def __init__(self, argument: int) -> None:
        if os.getpid() == argument:
            raise ValueError("on its way")
        self.caller_pid = argument

    def __reduce__(self) -> tuple[object, ...]:
        return PicklableOnce, (self.caller_pid,)


def test_a_worker_that_ends_is_lost(capfd: pytest.CaptureFixture[str]) -> None:
    """It is killed, or the called function raises an error, which is written to standard error."""
    killed, failed = ready_worker(), ready_worker()
    os.kill(killed.call(os.getpid), signal.SIGKILL)
    with pytest.raises(WorkerLost):
        killed.call(os.getpid)
    with pytest.raises(WorkerLost):
        failed.call(int, "none")
    for worker in (killed, failed):
        worker.terminate()
    assert "invalid literal" in capfd.readouterr().err


def test_terminated_workers_return_no_result() -> None:
    """Waiting callers get an error, and the processes are gone."""
    pool = WorkerPool(2)
    assert pool.submit(lambda: pool.call(os.getpid)).result() != os.getpid()
    pids = {pool.call(os.getpid) for _ in range(20)}
    waiting = pool.submit(lambda: pool.call(time.sleep, TIMEOUT_SECONDS))
    while not waiting.running():
        time.sleep(0.01)
    pool.terminate()
    with pytest.raises(WorkerLost):
        waiting.result()
    with pytest.raises(WorkerLost):
        pool.call(os.getpid)
    with pytest.raises(WorkerLost):
        pool.submit(os.getpid)
    for process in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_workers_that_have_not_started_yet_are_terminated_too() -> None:
    """Terminating doesn't wait for their start."""
    started_at = time.monotonic()
    WorkerPool(3).terminate()
    assert time.monotonic() - started_at < TIMEOUT_SECONDS / 2


def test_an_idle_pool_is_reused_for_the_same_size() -> None:
    """The same pool, unless it was lost or has another size."""
    with worker_pool.worker_pool(1) as first:
        process = first.call(os.getpid)
        with worker_pool.worker_pool(1) as second_pool:
            assert second_pool is not first
    with worker_pool.worker_pool(1) as third_pool:
        assert third_pool is first
        assert third_pool.call(os.getpid) == process
        third_pool.mark_lost(WorkerLost("as a test"))
    with worker_pool.worker_pool(1) as after:
        assert after is not first
    with worker_pool.worker_pool(2) as two:
        assert two is not after
        assert after.is_closed
    worker_pool.shutdown_idle_workers()
    assert two.is_closed


def test_an_idle_worker_that_exited_is_not_waited_for() -> None:
    """A new pool replaces it."""
    with worker_pool.worker_pool(1) as first:
        os.kill(first.call(os.getpid), signal.SIGKILL)
    while first.is_healthy:
        time.sleep(0.01)
    with worker_pool.worker_pool(1) as after:
        assert after is not first
        assert after.call(abs, -1) == 1
    worker_pool.shutdown_idle_workers()


@pytest.mark.parametrize("problem", ["a hook forbids it", "no such program", "it ends at once"])
def test_an_error_is_raised_if_no_worker_can_be_started(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No caller waits forever."""

    def forbidden(*_: object, **__: object) -> None:
        raise RuntimeError("no processes here")

    if problem == "a hook forbids it":
        monkeypatch.setattr(subprocess, "Popen", forbidden)
    else:
        monkeypatch.setattr(sys, "executable", "/nowhere/python" if problem == "no such program" else "/bin/true")
    pool = WorkerPool(1)
    with pytest.raises((WorkerLost, CancelledError)):
        pool.submit(lambda: pool.call(os.getpid)).result(TIMEOUT_SECONDS)
    with pytest.raises(WorkerLost):
        pool.call(os.getpid)


def test_output_before_a_worker_is_ready_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invalid entries of sys.path are ignored too."""
    (tmp_path / "sitecustomize.py").write_text("print('coverage'); print('started')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path, "\0"])
    pool = WorkerPool(1)
    assert pool.call(abs, -1) == 1
    pool.terminate()


def test_idle_workers_are_terminated(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the idle timeout."""
    monkeypatch.setattr(worker_pool, "IDLE_TIMEOUT_SECONDS", 0.1)
    with worker_pool.worker_pool(1) as pool:
        pool.call(os.getpid)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not pool.is_closed and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pool.is_closed


def test_a_forked_child_leaves_workers_to_its_parent() -> None:
    """The child starts its own workers, and none are left after both have ended."""
    script = FORK_PROGRAM.format(path=sys.path)
    command = [sys.executable, "-W", "error", "-c", script]
    completed = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    assert (completed.returncode, completed.stderr) == (0, "")
    ours, theirs, ours_after = (int(line) for line in completed.stdout.split())
    assert ours == ours_after != theirs


def test_a_worker_exits_if_its_parent_is_killed() -> None:
    """Its standard input ends, and the process exits."""
    with subprocess.Popen([sys.executable, "-c", START_WORKER_PROGRAM], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        worker = int(program.stdout.readline())
        os.kill(worker, 0)
        program.kill()
        deadline = time.monotonic() + TIMEOUT_SECONDS
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
def test_how_many_workers_may_be_started(
    monkeypatch: pytest.MonkeyPatch, cores: int, set_to: str, executable: str, number: int
) -> None:
    """One for each core but one, or as configured; none if Python can't be started."""

    def affinity(_: int) -> range:
        return range(cores)

    monkeypatch.setattr(os, "sched_getaffinity", affinity)
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setenv(MAX_PROCESSES_SETTING, set_to)
    assert available_workers() == number
