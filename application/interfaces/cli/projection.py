"""The `projection` commands: generations of the read models."""

import os
from collections.abc import Collection
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import format_number
from ..stop_signals import stop_on_signals
from . import projection_output
from .option_groups import DimensionOptions, TableOptions, with_option_groups
from .options import (
    DEFAULT_LEDGER,
    DifferenceLimitOption,
    DigestOption,
    GroupByOption,
    JsonOption,
    LedgerOption,
    OnBehalfOfOption,
    TimezoneOption,
)
from .outbox import DEFAULT_TABLE, OptionalOutboxOption, TableOption, opened_outbox
from .session import Session, interruptible, open_for_query, open_ledger
from .terminal import projection_progress, say
from .verify import verify

if TYPE_CHECKING:
    from ...metering import Metering
    from ...outbox.outbox import Outbox
    from ...results import GenerationView
    from ..job_settings import ScheduleSettings

app = typer.Typer(
    help="Rebuild, compare, promote and verify the read models.", no_args_is_help=True, rich_markup_mode=None
)

GenerationArgument = Annotated[
    int, typer.Argument(metavar="NUMBER", help="The number of the generation.", show_default=False)
]
WindowOption = Annotated[
    str, typer.Option("--window", "-w", metavar="WINDOW", help="Compare by minute, hour, day, month or year.")
]
ReasonOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="The reason. Required if the promotion changes rules.")
]


@app.command()
@with_option_groups
def status(*, ledger: LedgerOption = DEFAULT_LEDGER, output: TableOptions) -> None:
    """List the generations of the read models.

    The live generation answers all queries, and each query brings it up to date.
    """
    with open_ledger(ledger, output.as_json) as session:
        current_rules = {meter.event_name: meter for meter in session.metering.meters.list()}
        generations = session.metering.generations.list()
        show = partial(projection_output.show_generations, current_rules)
        session.print(generations, output.show(show, lambda tables: tables.generations))


@app.command()
def run(
    outbox: OptionalOutboxOption = None,
    outbox_table: TableOption = DEFAULT_TABLE,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Update the read models continuously, until Ctrl-C or SIGTERM.

    Any number of processes may run: one at a time projects, and another takes over if it ends. With --outbox, the rows
    of the outbox are relayed too. The jobs that environment variables ask for are run too: see 'tallybook jobs'.
    """
    settings = _schedule_settings()
    with (
        open_ledger(ledger, as_json) as session,
        nullcontext() if outbox is None else opened_outbox(session, outbox, outbox_table) as opened,
    ):
        _run_projection(session, opened, settings)


@app.command()
def rebuild(ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """Build a new generation of the read models from the ledger.

    The live generation continues to answer queries. An interrupted rebuild is resumed.
    """
    with open_for_query(ledger, as_json) as session:
        session.confirm(_rebuild(session), projection_output.show_built)


@app.command()
@with_option_groups
def diff(
    generation: GenerationArgument,
    *,
    window: WindowOption = "month",
    timezone: TimezoneOption = "UTC",
    dimensions: DimensionOptions,
    group_by: GroupByOption = None,
    limit: DifferenceLimitOption = 50,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """Show the totals that a generation would change.

    Shows the total of each meter before and after, then the totals of customers that differ, largest first: whether the
    customer's periods are closed, and the billable quantities if they aren't the totals. Closed periods keep theirs.
    """
    with open_for_query(ledger, output.as_json) as session:
        difference = session.metering.generations.diff(
            generation, window=window, timezone=timezone, where=dimensions.parse(), group_by=group_by or ()
        )
        limited = projection_output.LimitedDifference.from_difference(difference, window, timezone, limit)
        show = partial(projection_output.show_difference, dimensions.label)
        session.print(limited, output.show(show, lambda tables: tables.difference))


@app.command()
def promote(
    generation: GenerationArgument,
    reason: ReasonOption = None,
    by: OnBehalfOfOption = None,
    digest: DigestOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Make a generation live.

    If it was built under other rules than the current ones, the rules are changed too, and the ledger stores the
    reason. The previous live generation is retired: promote it again to go back. With the --digest that a difference
    ends with, the generation is only promoted if that is still its difference.
    """
    with open_ledger(ledger, as_json) as session:
        promotion = promote_generation(session.metering, generation, reason, by, digest)
        session.confirm(promotion, projection_output.show_promotion)


@app.command()
def drop(generation: GenerationArgument, ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """Delete a generation that is not live.

    The ledger is unchanged, and a rebuild restores the generation.
    """
    with open_ledger(ledger, as_json) as session:
        session.metering.generations.drop(generation)
        session.confirm({"dropped": generation}, projection_output.show_dropped)


app.command()(verify)


def promote_generation(
    metering: "Metering", number: int, reason: str | None, by: str | None, digest: str | None
) -> projection_output.Promotion:
    """Promote a generation, if its difference has the digest, and return what that changed."""
    from ....projections.models import GenerationState  # noqa: PLC0415 - loads the domain

    before = {generation.number: generation for generation in metering.generations.list()}
    live = next(generation.number for generation in before.values() if generation.state is GenerationState.LIVE)
    promoted = metering.generations.promote(number, reason=reason, by=by, digest=digest)
    effective_from = before[number].effective_from
    meters = tuple(metering.meters.get(event_name) for event_name in effective_from)
    return projection_output.Promotion(promoted, meters, effective_from, None if live == number else live)


def describe_interrupted_build(session: Session, event_names: Collection[str]) -> str:
    """Return how far the unfinished generation with changed rules for these meters has been built."""
    from ....projections.models import GenerationState  # noqa: PLC0415 - loads the domain

    unfinished = [
        generation
        for generation in session.metering.generations.list()
        if generation.state is GenerationState.BUILDING and set(generation.rules) == set(event_names)
    ]
    if not unfinished:
        return "Interrupted before anything was built. The live read models are unchanged."
    generation = unfinished[-1]
    return (
        f"Interrupted at position {generation.position:,} of {generation.head:,} in generation {generation.number}. "
        "The live read models are unchanged. Run the same command to resume, or "
        f"'tallybook projection drop {generation.number}' to delete the generation."
    )


def _rebuild(session: Session) -> "GenerationView":
    """Build a generation under the current rules, with a progress bar."""
    with (
        interruptible(session, partial(describe_interrupted_build, session, ())),
        projection_progress("rebuilding") as progress,
    ):
        return session.metering.generations.rebuild(progress=progress)


def _schedule_settings() -> "ScheduleSettings":
    """Return the settings of jobs in the environment, or end the command with exit status 2."""
    from pydantic import ValidationError  # noqa: PLC0415 - slow to import

    from ..job_settings import schedule_from_environment, settings_errors  # noqa: PLC0415

    try:
        return schedule_from_environment(os.environ)
    except ValidationError as error:
        for message in settings_errors(error):
            say(f"tallybook: {message}", err=True)
        raise typer.Exit(2) from None


def _run_projection(session: Session, outbox: "Outbox | None", settings: "ScheduleSettings") -> None:
    """Keep the read models up to date, and run the other jobs, until Ctrl-C or SIGTERM."""
    from ....domain.errors import DatabasePermissionDenied  # noqa: PLC0415 - loads the domain
    from ...jobs.builtin import projection_job, relay_job  # noqa: PLC0415
    from ..job_settings import scheduled_jobs  # noqa: PLC0415

    jobs = [projection_job(session.metering.run_projection)]
    if outbox is not None:
        jobs.append(relay_job(outbox.run_relay))
    scheduled = scheduled_jobs(session.metering, settings)
    with stop_on_signals() as stop:
        _print_position(session, "projecting")
        try:
            session.metering.jobs.run([*jobs, *scheduled], stop)
        except DatabasePermissionDenied:  # this database user may project, but not store the states of jobs
            if scheduled:
                raise
            session.metering.run_projection(stop, outbox=outbox)
        _print_position(session, "stopped")


def _print_position(session: Session, state: str) -> None:
    position = session.metering.catch_up()
    session.confirm({"position": position}, lambda _: say(f"{state}: at position {format_number(position)}"))
