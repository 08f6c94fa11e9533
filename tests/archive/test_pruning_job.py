"""The job `prune`: on each store, never during an export, stopped and continued, and failed if anything differs."""

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from tallybook.application import Job, JobRun, JobStatus, Metering, archive_job, prune_job
from tallybook.application.archive import pruning
from tallybook.application.interfaces.job_settings import schedule_from_environment, scheduled_jobs, settings_errors
from tallybook.application.jobs.job import JobResult

from ..contract.persistent_stores import PersistentStore
from ..waiting import wait_until
from .pruning import EVENTS, PrunableLedger, forge, pruned_positions

SOON, LATER = timedelta(milliseconds=10), timedelta(hours=1)


@pytest.fixture
def ledger(store: PersistentStore, tmp_path: Path) -> PrunableLedger:
    """Return a ledger of each store with a history that can be pruned."""
    return PrunableLedger(store, tmp_path)


def job_of(ledger: PrunableLedger, metering: Metering) -> Job:
    """Return the job that prunes all that is archived."""
    history = ledger.history
    return prune_job(
        metering.archive, str(history.archive), LATER,
        checkpoints=history.checkpoints, key=history.key, keep=timedelta(0),
    )  # fmt: skip


@contextmanager
def running(metering: Metering, jobs: Sequence[Job]) -> Generator[None]:
    """Run jobs in a thread."""
    stop = threading.Event()
    thread = threading.Thread(target=metering.jobs.run, args=(jobs, stop), kwargs={"poll_seconds": 0.01})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def is_shown(metering: Metering, status: JobStatus) -> bool:
    """Return whether `prune` has a status, after a run that was not stopped."""
    shown = [job for job in metering.jobs.list() if job.name == "prune" and (job.succeeded_at or job.error)]
    return [job.status for job in shown] == [status]


def test_a_run_that_is_stopped_continues_with_the_next_start(
    ledger: PrunableLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is replaced by then stays so, and everything is answered as before."""
    monkeypatch.setattr(pruning, "ROWS_PER_TRANSACTION", 10)
    with ledger.metering() as metering:
        recorder, stop = metering._ledger.ledger_recorder, threading.Event()  # pyright: ignore[reportPrivateUsage]
        replace_states = recorder.replace_states
        runs: list[JobRun] = []

        def replace_and_stop(rows: Sequence[tuple[int, bytes]]) -> None:
            replace_states(rows)
            stop.set()
            wait_until(lambda: any(run.stop.is_set() for run in runs))

        def run(run: JobRun) -> JobResult | None:
            runs.append(run)
            return job.run(run)

        job = job_of(ledger, metering)
        monkeypatch.setattr(recorder, "replace_states", replace_and_stop)
        metering.jobs.run([replace(job, run=run)], stop, poll_seconds=0.01)
        stopped = metering.jobs.get("prune")
        assert (stopped.succeeded_at, stopped.error, len(pruned_positions(ledger.store))) == (None, None, 10)
    monkeypatch.undo()
    with ledger.metering() as metering:
        with running(metering, [job_of(ledger, metering)]):
            wait_until(lambda: is_shown(metering, JobStatus.WAITING))
        done = metering.jobs.get("prune")
        assert len(pruned_positions(ledger.store)) == EVENTS
        assert done.result is not None
        assert (done.runs, done.result["events"], done.result["position"]) == (2, EVENTS - 10, ledger.archived)
        assert ledger.answers(metering) == ledger.before


def test_it_waits_for_an_export_and_an_export_for_it(ledger: PrunableLedger) -> None:
    """Both run under one lock, so that neither fails because the archive is in use."""
    polls: list[JobRun] = []
    log: list[str] = []

    def logged(job: Job) -> Job:
        def run(run: JobRun) -> JobResult | None:
            log.append(job.name)
            end = len(polls) + 5
            wait_until(lambda: len(polls) >= end)
            result = job.run(run)
            log.append(job.name)
            return result

        return replace(job, run=run, retry=SOON)

    with ledger.metering() as metering, ledger.metering() as other:
        export = archive_job(metering.archive, str(ledger.history.archive), LATER)
        jobs = [logged(job_of(ledger, metering)), logged(export), Job("poll", SOON, polls.append)]
        with running(metering, jobs), running(other, jobs):
            wait_until(lambda: len(log) == 4)
        assert metering.jobs.get("archive").failures == metering.jobs.get("prune").failures == 0
    assert log in (["prune"] * 2 + ["archive"] * 2, ["archive"] * 2 + ["prune"] * 2)


def test_a_difference_fails_the_job_and_changes_nothing(ledger: PrunableLedger) -> None:
    """The error names the file, and is shown with the job."""
    forge(ledger.history.archive, ledger.archived - 1)
    with ledger.metering() as metering:
        with running(metering, [job_of(ledger, metering)]):
            wait_until(lambda: is_shown(metering, JobStatus.FAILED))
        failed = metering.jobs.get("prune")
        assert failed.error is not None
        assert (failed.error.code, failed.error.field) == ("archive_mismatch", "destination")
        assert "Nothing was pruned" in failed.error.message
        assert metering.archive.pruned() is None
    assert pruned_positions(ledger.store) == set()


ARCHIVE = {"DESTINATION": "archive", "CHECKPOINTS": "file", "CHECKPOINT_KEYS": "new.pub, old.pub", "KEEP_DAYS": "400"}


def environment(*without: str) -> dict[str, str]:
    """Return the variables of a pruned archive, without some of them."""
    return {f"TALLYBOOK_ARCHIVE__{name}": value for name, value in ARCHIVE.items() if name not in without}


def test_settings_ask_for_it(tmp_path: Path) -> None:
    """It is off by default, and on for each week if KEEP_DAYS is set."""
    with Metering.open(f"sqlite:///{tmp_path / 'usage.db'}") as metering:
        jobs = scheduled_jobs(metering, schedule_from_environment(environment()))
        assert [(job.name, job.lock, job.interval) for job in jobs] == [
            ("archive", "archive", timedelta(minutes=15)),
            ("prune", "archive", timedelta(days=7)),
        ]
        without = scheduled_jobs(metering, schedule_from_environment(environment("KEEP_DAYS")))
        assert [job.name for job in without] == ["archive"]


@pytest.mark.parametrize("missing", ["DESTINATION", "CHECKPOINTS", "CHECKPOINT_KEYS"])
def test_a_missing_setting_is_an_error(missing: str) -> None:
    """It would be a job that fails each time."""
    with pytest.raises(ValidationError) as raised:
        schedule_from_environment(environment(missing))
    (message,) = settings_errors(raised.value)
    assert message.startswith("TALLYBOOK_ARCHIVE: ")
    assert missing in message
