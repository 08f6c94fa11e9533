"""Tasks run in the background; each process on the ledger sees their progress, and can cancel them."""

import threading
from datetime import timedelta

import pytest
from msgspec.structs import replace
from tallybook.application import Metering, MeterNotFound, TaskInProgress, TaskNotFound, TaskRun, TaskStatus, TaskView
from tallybook.application.jobs.task_store import TaskStore
from tallybook.domain.errors import InvalidParameter

from ..waiting import wait_until
from .histories import START, configure
from .persistent_stores import PersistentStore


def ended(metering: Metering, task: TaskView) -> TaskView:
    """Wait until a task has ended, and return it."""
    wait_until(lambda: metering.tasks.get(task.id).status is not TaskStatus.RUNNING)
    return metering.tasks.get(task.id)


def count_forever(run: TaskRun) -> None:
    """Report progress until the task is stopped."""
    run.start_stage("counting", "sheep")
    for done in range(10**9):
        run.progress(done, 10**9)
        run.stop.wait(0.001)


def test_a_verification_a_rebuild_and_a_billing_run(persistent_store: PersistentStore) -> None:
    """Each has its result, and its progress in events or customers."""
    with persistent_store.open() as metering:
        configure(metering)
        events = [
            {"event_name": "tokens", "identifier": str(number), "timestamp": START,
             "payload": {"customer": f"customer {number % 7}", "value": "1"}}
            for number in range(30)
        ]  # fmt: skip
        metering.record_many(events, strict=True)
        verification = ended(metering, metering.tasks.verify(by="ann"))
        assert verification.result is not None
        assert (verification.kind, verification.by, verification.unit) == ("verification", "ann", "events")
        assert (verification.result["is_equal"], verification.result["differing_tables"]) == (True, "")
        assert verification.done == verification.total == verification.result["position"]
        rebuild = ended(metering, metering.tasks.rebuild())
        assert rebuild.result is not None
        assert rebuild.result["generation"] == metering.generations.list()[-1].number
        candidate = ended(metering, metering.tasks.build_candidate("tokens", {"formula": "count"}))
        assert candidate.result == {"generation": 3, "state": "ready", "position": rebuild.done}
        day = START.replace(hour=0)
        run = ended(metering, metering.tasks.run_billing(day, day + timedelta(days=1), meters=["tokens"], by="bob"))
        assert run.result == {"number": 1, "customers": 7, "was_closed": False, "differences": 0}
        assert (run.stage, run.unit, metering.periods.runs()[0].started_by) == ("tokens", "customers", "bob")
    with persistent_store.open() as other:
        assert [task.kind for task in other.tasks.list()] == ["billing-run", "rebuild", "rebuild", "verification"]
        assert [task.id for task in other.tasks.list(limit=1, before=candidate.id)] == [rebuild.id]
        assert other.tasks.get(run.id) == run


def test_one_task_of_a_kind_runs_and_another_process_cancels_it(persistent_store: PersistentStore) -> None:
    """The other one sees how far it is."""
    with persistent_store.open() as metering, persistent_store.open() as other:
        task = metering.tasks.start("counting", count_forever)
        assert task.status is TaskStatus.RUNNING
        with pytest.raises(TaskInProgress, match="counting"):
            other.tasks.start("counting", count_forever)
        wait_until(lambda: other.tasks.get(task.id).done > 0)
        seen = other.tasks.get(task.id)
        assert (seen.stage, seen.unit, seen.total) == ("counting", "sheep", 10**9)
        assert other.tasks.cancel(task.id).id == task.id
        cancelled = ended(other, task)
        assert (cancelled.status, cancelled.error, cancelled.result) == (TaskStatus.CANCELLED, None, None)
        assert other.tasks.cancel(task.id) == cancelled
        assert ended(other, other.tasks.start("counting", lambda _: None)).status is TaskStatus.SUCCEEDED


def test_an_error_of_a_task(metering: Metering) -> None:
    """With its code, or as an internal error."""

    def fail(_: TaskRun) -> None:
        raise RuntimeError("odd")

    end = START + timedelta(days=1)
    failed = ended(metering, metering.tasks.run_billing(START, end, meters=["nothing"]))
    assert failed.error is not None
    assert (failed.status, failed.error.code) == (TaskStatus.FAILED, MeterNotFound.code)
    failed = ended(metering, metering.tasks.start("odd", fail))
    assert failed.error is not None
    assert failed.error.code == "internal_error"
    assert failed.error.message == "RuntimeError: the log of the process has the details."
    for call in (metering.tasks.get, metering.tasks.cancel):
        with pytest.raises(TaskNotFound):
            call("none")
    with pytest.raises(InvalidParameter):
        metering.tasks.start("No Name", fail)


def test_a_candidate_under_wrong_rules_is_rejected_before_its_task_starts(metering: Metering) -> None:
    """The call raises what building the candidate would raise for its arguments."""
    configure(metering)
    with pytest.raises(MeterNotFound):
        metering.tasks.build_candidate("nothing", {"formula": "count"})
    with pytest.raises(InvalidParameter, match="abc"):
        metering.tasks.build_candidate("tokens", {"multiplier": "abc"})
    assert metering.tasks.list() == []


def test_a_task_whose_process_ended_or_died_is_interrupted(persistent_store: PersistentStore) -> None:
    """By its own last write, or by its heartbeat. Old tasks are deleted."""
    with persistent_store.open() as metering:
        task = metering.tasks.start("counting", count_forever)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tallybook-task")]
    with persistent_store.open() as metering:
        assert metering.tasks.get(task.id).status is TaskStatus.INTERRUPTED
        store = TaskStore(metering.key_value_store())
        state = store.get(task.id)
        assert state is not None
        killed = replace(state, id="0", outcome=None, ended_at=None)
        store.write(killed)
        assert metering.tasks.get("0").status is TaskStatus.RUNNING
        store.write(replace(killed, heartbeat_at=killed.heartbeat_at - 60_000_000))
        assert metering.tasks.get("0").status is TaskStatus.INTERRUPTED
        day = timedelta(days=1) // timedelta(microseconds=1)
        store.write(replace(killed, started_at=killed.started_at - 31 * day))
        ended(metering, metering.tasks.start("short", lambda _: None))
        assert [listed.kind for listed in metering.tasks.list()] == ["short", "counting"]
