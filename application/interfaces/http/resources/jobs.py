"""Jobs: the work of all processes that repeats by itself."""

from typing import Literal

import msgspec

from .....domain.errors import InvalidParameter, JobNotFound
from ....jobs.views import JobView
from ..api_types import ListObject, ListParameters, Parameters, optional_unix
from ..errors import missing_object
from ..ledgers import RequestContext
from ..operations import OperationRegistry
from ..pagination import list_response, paginate

URL = "/v1/billing/jobs"
operations = OperationRegistry("Jobs")


class JobErrorObject(msgspec.Struct, kw_only=True):
    """The error that ended the last run."""

    code: str
    message: str
    param: str | None


class JobObject(msgspec.Struct, kw_only=True):
    """A job: its last run, and when it runs next. Its id is its name.

    `interval_seconds` is null if it runs continuously. A job has `failed` if its last run did. It is `interrupted` if
    the process died that ran it, and `overdue` if no process runs it. `runner` is the process of the last run.
    """

    id: str
    object: Literal["billing.job"] = "billing.job"
    ended_at: int | None
    error: JobErrorObject | None
    failures: int
    interval_seconds: float | None
    livemode: bool
    next_run_at: int | None
    paused_at: int | None
    paused_by: str | None
    result: dict[str, str | int | float | bool | None] | None
    runner: str | None
    runs: int
    started_at: int | None
    status: Literal["running", "waiting", "failed", "interrupted", "overdue", "paused"]
    succeeded_at: int | None


class ListJobs(ListParameters, kw_only=True):
    """A list of jobs."""


@operations.get(URL)
def list_jobs(context: RequestContext[ListJobs]) -> ListObject[JobObject]:
    """List the jobs by name, with their last run and the next one."""
    jobs = context.ledger.metering.jobs.list()
    page, has_more = paginate(
        jobs, lambda job: (job.name,), lambda object_id: (object_id,), context.params, is_ascending=True
    )
    return list_response([_to_object(job, context.ledger.livemode) for job in page], URL, has_more=has_more)


@operations.get(URL + "/{id}")
def retrieve_job(context: RequestContext[Parameters]) -> JobObject:
    """Retrieve a job by its name."""
    return _to_object(_find(context), context.ledger.livemode)


@operations.post(URL + "/{id}/pause")
def pause_job(context: RequestContext[Parameters]) -> JobObject:
    """Pause a job in all processes. A run in progress is stopped within seconds. Pausing again changes nothing."""
    job = context.ledger.metering.jobs.pause(_find(context).name, by=context.access_key.hint)
    return _to_object(job, context.ledger.livemode)


@operations.post(URL + "/{id}/resume")
def resume_job(context: RequestContext[Parameters]) -> JobObject:
    """Resume a paused job. It runs at once if it is due."""
    return _to_object(context.ledger.metering.jobs.resume(_find(context).name), context.ledger.livemode)


def _find(context: RequestContext[Parameters]) -> JobView:
    object_id = context.path_parameters["id"]
    try:
        return context.ledger.metering.jobs.get(object_id)
    except (InvalidParameter, JobNotFound):
        raise missing_object("job", object_id) from None


def _to_object(job: JobView, livemode: bool) -> JobObject:
    error = job.error
    return JobObject(
        id=job.name,
        ended_at=optional_unix(job.ended_at),
        error=error and JobErrorObject(code=error.code, message=error.message, param=error.field),
        failures=job.failures,
        interval_seconds=job.interval_seconds,
        livemode=livemode,
        next_run_at=optional_unix(job.next_run_at),
        paused_at=optional_unix(job.paused_at),
        paused_by=job.paused_by,
        result=None if job.result is None else dict(job.result),
        runner=job.runner,
        runs=job.runs,
        started_at=optional_unix(job.started_at),
        status=job.status.value,
        succeeded_at=optional_unix(job.succeeded_at),
    )
