"""Jobs of Tallybook itself: checkpoints, the archive, its pruning, keeping the read models up to date, relaying."""

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ...domain.history_pruning import DEFAULT_KEEP
from ..archive.pruning import PruningService
from ..archive.service import ArchiveService
from ..checkpoints.checkpoint import to_base64
from ..checkpoints.service import CheckpointService
from .job import Job, JobResult, JobRun

if TYPE_CHECKING:
    from obstore.store import ObjectStore

ARCHIVE_JOB, CHECKPOINT_JOB = "archive", "checkpoint"
PROJECTION_RETRY = timedelta(seconds=5)


def archive_job(archive: ArchiveService, destination: "str | ObjectStore", interval: timedelta) -> Job:
    """Return the job `archive`: add the new events to the archive at `destination`, at each interval."""

    def run(run: JobRun) -> JobResult:
        export = archive.export(destination, progress=run.progress)
        return {"rows": export.rows, "segments": export.segments, "last_position": export.last_position}

    return Job(ARCHIVE_JOB, interval, run)


def prune_job(
    archive: PruningService,
    destination: str | Path,
    interval: timedelta,
    *,
    checkpoints: str | Path,
    key: str | Path,
    previous_keys: Sequence[str | Path] = (),
    keep: timedelta = DEFAULT_KEEP,
) -> Job:
    """Return the job `prune`, which calls `metering.archive.prune`. It never runs at the same time as `archive`."""

    def run(run: JobRun) -> JobResult:
        pruning = archive.prune(
            destination, checkpoints=checkpoints, key=key, previous_keys=previous_keys, keep=keep,
            progress=run.progress,
        )  # fmt: skip
        return {"events": pruning.events, "state_bytes": pruning.state_bytes, "position": pruning.position}

    return Job("prune", interval, run, lock=ARCHIVE_JOB)


def projection_job(run_projection: Callable[[threading.Event], None], *, is_essential: bool = True) -> Job:
    """Return the job `projection`, which runs `Metering.run_projection` until it is stopped."""
    return Job("projection", None, lambda run: run_projection(run.stop), PROJECTION_RETRY, is_essential)


def relay_job(run_relay: Callable[[threading.Event], None]) -> Job:
    """Return the job `relay`, which runs `Outbox.run_relay` until it is stopped. It is essential."""
    return Job("relay", None, lambda run: run_relay(run.stop), PROJECTION_RETRY, is_essential=True)


def checkpoint_job(
    checkpoints: CheckpointService,
    key: str | Path,
    destinations: Sequence[str | Path],
    interval: timedelta,
    *,
    name: str | None = None,
    previous_keys: Sequence[str | Path] = (),
) -> Job:
    """Return the job `checkpoint`, which calls `metering.checkpoints.publish` with a low priority."""

    def run(run: JobRun) -> JobResult:
        published = checkpoints.publish(
            key, destinations, name=name, previous_keys=previous_keys, low_priority=True, progress=run.progress
        )
        checkpoint = published.signed_checkpoint.checkpoint
        return {"events": checkpoint.size, "new_events": published.new_events, "root": to_base64(checkpoint.root)}

    return Job(CHECKPOINT_JOB, interval, run)


def checkpoint_verification_job(
    checkpoints: CheckpointService,
    key: str | Path,
    destinations: Sequence[str | Path],
    interval: timedelta,
    *,
    name: str | None = None,
    previous_keys: Sequence[str | Path] = (),
) -> Job:
    """Return the job `checkpoint-verification`: compare the whole ledger with its checkpoints."""

    def run(run: JobRun) -> JobResult:
        verification = checkpoints.verify_published(
            key, destinations, name=name, previous_keys=previous_keys, progress=run.progress
        )
        return {"events": verification.checkpointed_events, "checkpoints": verification.checkpoints}

    return Job("checkpoint-verification", interval, run)
