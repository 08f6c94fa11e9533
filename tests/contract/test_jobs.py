"""Jobs run at their interval in one process at a time, and each process on the ledger sees how they ran."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from tallybook.application import (
    InvalidParameter,
    Job,
    JobFailure,
    JobNotFound,
    JobRun,
    JobStatus,
    LedgerUnavailable,
    Metering,
)
from tallybook.application.clock import utc_now
from tallybook.application.jobs.running_job import is_due
from tallybook.application.jobs.scheduler import Scheduler
from tallybook.application.jobs.store import JobError, JobState, JobStore
from tallybook.application.jobs.views import JobView
from tallybook.domain.timestamps import to_microseconds

from ..waiting import wait_until
from .persistent_stores import PersistentStore

SOON, LATER = timedelta(milliseconds=10), timedelta(hours=1)
POLL_SECONDS = 0.01


@contextmanager
def running(metering: Metering, *jobs: Job) -> Generator[None]:
    """Run jobs in a thread."""
    stop = threading.Event()
    thread = threading.Thread(target=metering.jobs.run, args=(jobs, stop), kwargs={"poll_seconds": POLL_SECONDS})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def counting(name: str, interval: timedelta | None = SOON) -> tuple[Job, list[JobRun]]:
    """Return a job, and the list of its runs."""
    runs: list[JobRun] = []

    def run(run: JobRun) -> dict[str, int]:
        runs.append(run)
        return {"number": len(runs)}

    return Job(name, interval, run), runs


def unfinished(seconds_ago: float) -> JobState:
    """Return the state of a run whose process was last seen some time ago."""
    at = to_microseconds(utc_now() - timedelta(seconds=seconds_ago))
    next_run_at = at + to_microseconds(utc_now())
    return JobState(interval_seconds=3_600, started_at=at, heartbeat_at=at, next_run_at=next_run_at, runner="p", runs=1)


@pytest.mark.parametrize(
    ("interval_seconds", "error", "now", "status", "has_next_run"),
    [
        (60, None, 2, JobStatus.WAITING, True),
        (60, None, 10**9, JobStatus.OVERDUE, True),
        (None, None, 2, JobStatus.WAITING, False),
        (None, None, 10**9, JobStatus.OVERDUE, False),
        (None, JobError("code", "message"), 2, JobStatus.FAILED, True),
    ],
)
def test_a_continuous_job_has_a_next_run_only_after_a_failure(
    interval_seconds: float | None, error: JobError | None, now: int, status: JobStatus, *, has_next_run: bool
) -> None:
    """It is tried again then; otherwise there is no time at which it runs."""
    state = JobState(interval_seconds=interval_seconds, started_at=1, ended_at=2, next_run_at=3, error=error)
    view = JobView.from_state("job", state, None, now)
    assert (view.status, view.next_run_at is not None) == (status, has_next_run)


def test_a_job_runs_at_its_interval(metering: Metering) -> None:
    """Its state says when, where, and with which result."""
    often, runs = counting("often")
    rarely, rare_runs = counting("rarely", LATER)
    with running(metering, often, rarely):
        wait_until(lambda: len(runs) >= 3)
        wait_until(lambda: metering.jobs.get("rarely").status is JobStatus.WAITING)
    assert len(rare_runs) == 1
    job = metering.jobs.get("rarely")
    assert (job.interval_seconds, job.runs, job.failures, job.result, job.error) == (3600, 1, 0, {"number": 1}, None)
    assert job.started_at is not None
    assert job.ended_at is not None
    assert job.started_at <= job.ended_at == job.succeeded_at
    assert job.next_run_at == job.started_at + LATER
    assert job.runner is not None
    assert "process" in job.runner
    assert [view.name for view in metering.jobs.list()] == ["often", "rarely"]
    assert metering.jobs.get("often").runs == len(runs)


def test_a_job_never_overlaps_itself(persistent_store: PersistentStore) -> None:
    """Two openings of the ledger run the same jobs as two processes would."""
    active, peak, runs = [0], [0], [0]
    lock = threading.Lock()

    def run(run: JobRun) -> None:
        with lock:
            active[0] += 1
            peak[0], runs[0] = max(peak[0], active[0]), runs[0] + 1
        run.stop.wait(0.02)
        with lock:
            active[0] -= 1

    job = Job("once", SOON, run, retry=SOON)
    with persistent_store.open() as one, persistent_store.open() as other, running(one, job), running(other, job):
        wait_until(lambda: runs[0] >= 6)
    with persistent_store.open() as metering:
        assert (peak[0], metering.jobs.get("once").runs) == (1, runs[0])


def test_a_continuous_job_recovers_from_its_error(metering: Metering) -> None:
    """The error is shown until it has run again for as long as between two heartbeats."""
    errors, stop = [LedgerUnavailable("It is gone.", field="url")], threading.Event()

    def run(run: JobRun) -> None:
        if errors:
            raise errors.pop()
        run.stop.wait()

    job = Job("always", None, run, retry=SOON)
    store = JobStore(metering.key_value_store())
    scheduler = Scheduler(store, [job], utc_now, poll_seconds=POLL_SECONDS, heartbeat_seconds=0.2)
    thread = threading.Thread(target=scheduler.run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: metering.jobs.list() and metering.jobs.get("always").error is not None)
        wait_until(lambda: metering.jobs.get("always").error is None)
        job_view = metering.jobs.get("always")
        assert (job_view.status, job_view.runs, job_view.failures) == (JobStatus.RUNNING, 2, 1)
    finally:
        stop.set()
        thread.join()


def test_an_error_is_stored_and_the_job_is_tried_again(metering: Metering, caplog: pytest.LogCaptureFixture) -> None:
    """Other jobs go on."""
    errors: list[Exception] = [RuntimeError("odd"), LedgerUnavailable("The disk is gone.", field="url")]

    def run(_: JobRun) -> None:
        if errors:
            raise errors.pop()

    def fail(_: JobRun) -> None:
        raise LedgerUnavailable("It stays away.", field="url")

    good, runs = counting("good")
    with running(metering, Job("bad", LATER, run, retry=SOON), Job("worse", SOON, fail, retry=LATER), good):
        wait_until(lambda: metering.jobs.list() and metering.jobs.get("bad").succeeded_at)
        wait_until(lambda: metering.jobs.get("worse").failures >= 2)
        count = len(runs)
        wait_until(lambda: len(runs) > count)
    job = metering.jobs.get("bad")
    assert (job.runs, job.failures, job.error, job.status) == (3, 2, None, JobStatus.WAITING)
    assert "ledger_unavailable: The disk is gone." in caplog.text
    assert "RuntimeError: odd" in caplog.text
    job = metering.jobs.get("worse")
    assert (job.status, job.succeeded_at) == (JobStatus.FAILED, None)
    assert job.error == JobFailure("ledger_unavailable", "It stays away.", "url")


def test_a_paused_job_stops_and_is_not_started(metering: Metering) -> None:
    """A continuous job is told to stop, and starts again when it is resumed."""
    starts: list[JobRun] = []

    def run(run: JobRun) -> None:
        starts.append(run)
        run.stop.wait()

    with running(metering, Job("endless", None, run)):
        wait_until(lambda: metering.jobs.list() and metering.jobs.get("endless").status is JobStatus.RUNNING)
        assert metering.jobs.pause("endless", by="ann").paused_by == "ann"
        wait_until(lambda: metering.jobs.get("endless").status is JobStatus.PAUSED)
        first_pause = metering.jobs.get("endless")
        assert metering.jobs.pause("endless", by="bob").paused_by == "ann"
        other, runs = counting("other")
        with running(metering, other):
            wait_until(lambda: len(runs) >= 5)
        assert len(starts) == 1
        assert first_pause.next_run_at is None
        metering.jobs.resume("endless")
        wait_until(lambda: len(starts) == 2)
    assert starts[1].stop.is_set()


def test_an_interrupted_run_is_taken_over_at_once(metering: Metering) -> None:
    """Until then it is shown as interrupted, and a job without a process as overdue."""
    store = JobStore(metering.key_value_store())
    store.write("killed", unfinished(120))
    store.write("alive", unfinished(5))
    store.write("gone", JobState(interval_seconds=60, next_run_at=0))
    assert [job.status for job in metering.jobs.list()] == ["running", "overdue", "interrupted"]
    killed, runs = counting("killed", LATER)
    with running(metering, killed):
        wait_until(lambda: runs)
        wait_until(lambda: metering.jobs.get("killed").status is JobStatus.WAITING)
    assert metering.jobs.get("killed").runs == 2
    metering.jobs.forget("gone")
    with pytest.raises(JobNotFound, match="'gone'"):
        metering.jobs.get("gone")


def test_a_stopped_run_is_not_done(metering: Metering) -> None:
    """It goes on with the next start, however long the interval is."""
    reached = threading.Event()

    def run(run: JobRun) -> None:
        while True:
            run.progress(1, 2)
            reached.set()

    with running(metering, Job("long", LATER, run)):
        reached.wait()
    job = metering.jobs.get("long")
    assert (job.succeeded_at, job.error, job.result) == (None, None, {"done": 1, "total": 2})
    again, runs = counting("long", LATER)
    with running(metering, again):
        wait_until(lambda: runs)


def test_an_essential_job_ends_all(metering: Metering) -> None:
    """The other jobs are stopped, and the error is raised."""

    def fail(_: JobRun) -> None:
        raise LedgerUnavailable("Gone.")

    def wait(run: JobRun) -> None:
        run.stop.wait()

    endless = Job("endless", None, wait)
    with pytest.raises(LedgerUnavailable, match="Gone"):
        metering.jobs.run([endless, Job("vital", None, fail, is_essential=True)], poll_seconds=POLL_SECONDS)
    assert metering.jobs.get("endless").ended_at is not None


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Job("No Name", SOON, lambda _: None), id="name"),
        pytest.param(lambda: Job("x", timedelta(), lambda _: None), id="interval"),
    ],
)
def test_an_invalid_job_is_rejected(make: Callable[[], Job], metering: Metering) -> None:
    """A name is part of a lock file's name and of a URL."""
    with pytest.raises(InvalidParameter):
        make()
    job, _ = counting("twice")
    with pytest.raises(InvalidParameter, match="twice"):
        metering.jobs.run([job, job])
    for call in (metering.jobs.pause, metering.jobs.resume, metering.jobs.forget):
        with pytest.raises(JobNotFound):
            call("nothing")


def test_a_continuous_job_is_due_after_a_clock_that_was_ahead() -> None:
    """Its last run ended a day later, by that clock. After an error it waits as long as it says."""
    job = Job("relay", None, lambda _: None)
    for seconds, expected in ((86_400, True), (1, False)):
        assert is_due(job, JobState(interval_seconds=None, next_run_at=seconds * 1_000_000), 0) == expected
