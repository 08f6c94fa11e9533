"""The commands on generations of the read models."""

from functools import partial
from typing import Annotated

import typer

from . import generation_tables
from .options import DEFAULT_LEDGER, AsJson, By, Ledger, Limit, Timezone
from .session import asking, opened
from .verify import verify

app = typer.Typer(
    help="Rebuild the read models, compare, promote and verify them.", no_args_is_help=True, rich_markup_mode=None
)

Generation = Annotated[int, typer.Argument(metavar="NUMBER", help="The generation's number.", show_default=False)]
Window = Annotated[
    str, typer.Option("--window", "-w", metavar="WINDOW", help="Compare by minute, hour, day, month or year.")
]
Reason = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Why its rules are to be in force, where others are now.")
]


@app.command()
def status(ledger: Ledger = DEFAULT_LEDGER, as_json: AsJson = False) -> None:
    """List the generations of the read models.

    The live one answers all questions, and is brought up to date by each of them.
    """
    with opened(ledger, as_json) as session:
        in_force = {meter.event_name: meter for meter in session.metering.meters()}
        session.answer(session.metering.generations(), partial(generation_tables.show_generations, in_force))


@app.command()
def run(ledger: Ledger = DEFAULT_LEDGER, as_json: AsJson = False) -> None:
    """Keep the read models up to date, until Ctrl-C or SIGTERM.

    Any number may run: one at a time folds, and another goes on when it dies.
    """
    with opened(ledger, as_json) as session:
        from .projection_run import run_projection  # noqa: PLC0415 - loads the domain

        run_projection(session)


@app.command()
def rebuild(ledger: Ledger = DEFAULT_LEDGER, as_json: AsJson = False) -> None:
    """Build the read models again, beside the live ones.

    These go on answering. A rebuild that was interrupted is gone on with.
    """
    with asking(ledger, as_json) as session:
        from .build_run import run_rebuild  # noqa: PLC0415 - loads the domain

        session.answer(run_rebuild(session), generation_tables.show_built)


@app.command()
def diff(
    generation: Generation,
    window: Window = "month",
    timezone: Timezone = "UTC",
    limit: Limit = 50,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Show the figures that a generation would change.

    For each meter what all customers come to, before and after; then the figures that differ, the largest first.
    """
    with asking(ledger, as_json) as session:
        from .differing import Differing  # noqa: PLC0415 - loads the domain

        found = session.metering.diff(generation, window=window, timezone=timezone)
        session.answer(Differing.of(found, window, timezone, limit), generation_tables.show_difference)


@app.command()
def promote(
    generation: Generation,
    reason: Reason = None,
    by: By = None,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Let a generation answer from now on.

    Where it was built under other rules than those in force, these are changed, for which the ledger keeps the reason.
    The generation that answered so far is kept: promoting it again is the way back.
    """
    with opened(ledger, as_json) as session:
        from .promotion import promoted  # noqa: PLC0415 - loads the domain

        session.answer(promoted(session.metering, generation, reason, by), generation_tables.show_promotion)


@app.command()
def drop(generation: Generation, ledger: Ledger = DEFAULT_LEDGER, as_json: AsJson = False) -> None:
    """Do away with a generation that isn't live.

    The ledger stays as it is: nothing is lost that a rebuild doesn't bring back.
    """
    with opened(ledger, as_json) as session:
        session.metering.drop_generation(generation)
        session.answer({"dropped": generation}, generation_tables.show_dropped)


app.command()(verify)
