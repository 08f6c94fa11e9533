"""The job `retention`: deletes expired entries in small batches, so that recording is not blocked."""

from collections.abc import Mapping
from datetime import timedelta

from ....domain.timestamps import to_microseconds
from ...jobs.job import Job, JobResult, JobRun
from ...usage_import.uploads import PART_KIND, UPLOAD_KIND
from ...usage_import.uploads import RETENTION as UPLOAD_RETENTION
from .authentication import SESSION_KIND
from .idempotency import IDENTIFIERS_KIND, RESPONSE_KIND
from .ledgers import ServedLedger
from .rejected_events import REJECTED_EVENT_KIND
from .rejected_events import RETENTION as REJECTED_EVENT_RETENTION
from .webhooks.deliveries import DELIVERED, GIVEN_UP
from .webhooks.error_reports import REPORT_SEQUENCE_KIND
from .webhooks.events import SNAPSHOT_TYPES, THIN_TYPES
from .webhooks.meter_events_source import EVENT_RETENTION

_DAY = timedelta(days=1)
RETENTION_BY_KIND: Mapping[str, timedelta] = {
    RESPONSE_KIND: _DAY,
    IDENTIFIERS_KIND: _DAY,
    SESSION_KIND: _DAY,
    DELIVERED: _DAY,
    GIVEN_UP: EVENT_RETENTION,
    REPORT_SEQUENCE_KIND: EVENT_RETENTION,
    REJECTED_EVENT_KIND: REJECTED_EVENT_RETENTION,
    UPLOAD_KIND: UPLOAD_RETENTION,
    PART_KIND: UPLOAD_RETENTION,
    **dict.fromkeys((*SNAPSHOT_TYPES, *THIN_TYPES), EVENT_RETENTION),
}
"""How long entries of a kind are stored after their time."""
BATCH_SIZE = 500
_PAUSE_SECONDS = 0.05


def retention_job(ledger: ServedLedger, interval: timedelta) -> Job:
    """Return the job: delete the expired entries of a ledger, at each interval."""

    def run(run: JobRun) -> JobResult:
        return {
            "deleted": sum(_delete_expired(ledger, kind, max_age, run) for kind, max_age in RETENTION_BY_KIND.items())
        }

    return Job("retention", interval, run)


def _delete_expired(ledger: ServedLedger, kind: str, max_age: timedelta, run: JobRun) -> int:
    """Delete the expired entries of a kind, and return how many."""
    until = to_microseconds(ledger.now() - max_age)
    deleted = 0
    while not run.stop.is_set() and ledger.key_values.due_before(kind, until, 1):  # a read does not block recording
        deleted += ledger.key_values.delete_due_before(kind, until, BATCH_SIZE)
        run.stop.wait(_PAUSE_SECONDS)
    return deleted
