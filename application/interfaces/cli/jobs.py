"""The `jobs` commands: the work that repeats by itself, in whichever process it runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import format_count, format_requester, format_time
from .error_text import to_cli_text
from .options import DEFAULT_LEDGER, JsonOption, LedgerOption, OnBehalfOfOption
from .session import open_ledger
from .tables import table
from .terminal import say

if TYPE_CHECKING:
    from datetime import datetime

    from ...jobs.views import JobView

app = typer.Typer(
    help="Show, pause and resume jobs.", rich_markup_mode=None,
    invoke_without_command=True,
)  # fmt: skip

JobArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of the job, as 'jobs' shows it.", show_default=False)
]


@app.callback()
def jobs(context: typer.Context, ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """Show the jobs: their last run, its result or error, and the next run.

    Jobs repeat by themselves while 'serve' or 'projection run' runs, in one process at a time.
    """
    if context.invoked_subcommand is None:
        with open_ledger(ledger, as_json) as session:
            session.print(session.metering.jobs.list(), show_jobs)


@app.command()
def pause(
    name: JobArgument, by: OnBehalfOfOption = None, ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False
) -> None:
    """Pause a job in all processes. A run in progress is stopped."""
    with open_ledger(ledger, as_json) as session:
        session.confirm(session.metering.jobs.pause(name, by=by), lambda job: say(f"paused: {job.name}"))


@app.command()
def resume(name: JobArgument, ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """Resume a paused job. It runs at once if it is due."""
    with open_ledger(ledger, as_json) as session:
        session.confirm(session.metering.jobs.resume(name), lambda job: say(f"resumed: {job.name}"))


@app.command()
def forget(name: JobArgument, ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """Delete what is stored about a job that no process runs any more."""
    with open_ledger(ledger, as_json) as session:
        session.metering.jobs.forget(name)
        session.confirm({"forgotten": name}, lambda _: say(f"forgotten: {name}"))


def show_jobs(all_jobs: Sequence["JobView"]) -> None:
    """Print a line for each job, and then the errors."""
    if not all_jobs:
        say("No jobs yet. 'tallybook serve' and 'tallybook projection run' run them.")
        return
    rows = [
        (job.name, _format_status(job), _format_interval(job), _format_moment(job.started_at),
         _format_moment(job.succeeded_at), _format_moment(job.next_run_at), _format_result(job), job.runner or "-")
        for job in all_jobs
    ]  # fmt: skip
    columns = ("job", "status", "every", "last run", "last success", "next run", "result", "process")
    table(columns, rows, whole=("job", "status"))
    for job in all_jobs:
        if job.error is not None:
            message = to_cli_text(job.error.message, job.error.field)
            say(f"{job.name}: {job.error.code}: {message} ({format_count(job.failures, 'failed run')})")


def _format_status(job: "JobView") -> str:
    return f"{job.status}{format_requester(None, job.paused_by)}" if job.paused_at is not None else job.status


def _format_interval(job: "JobView") -> str:
    return "always" if job.interval_seconds is None else f"{job.interval_seconds:g} s"


def _format_moment(at: "datetime | None") -> str:
    return "-" if at is None else format_time(at.replace(microsecond=0))


def _format_result(job: "JobView") -> str:
    return ", ".join(f"{name} {value}" for name, value in (job.result or {}).items()) or "-"
