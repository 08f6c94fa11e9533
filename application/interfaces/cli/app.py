"""All commands of `tallybook`.

Modules of commands import the ledger and Rich only when a command runs, so that `--help` and completion start quickly.
"""

import os
from importlib.metadata import version
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from ..environment import unknown_variables
from . import (
    access_keys,
    archive,
    backup,
    bulk_cancellations,
    checkpoints,
    compare,
    console,
    copy,
    demo,
    evidence,
    explain,
    history,
    invoice_lines,
    jobs,
    meters,
    outbox,
    projection,
    proposals,
    propose,
    queries,
    rules,
    serve,
    settlements,
    topics,
    usage,
    usage_import,
)
from .terminal import printable
from .verify import verify

_HELP_OPTIONS = {"-h", "--help"}
_UsageError = cast(type[Exception], typer.BadParameter.__base__)
"""The class of all usage errors: Click's, or that of the copy of Click in Typer."""


class _Commands(TyperGroup):
    """The group of all commands.

    A usage error shows no password, for example of a URL in the place of an argument. A misspelt environment variable
    is an error, except for `--help`.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Remove passwords from the message of a usage error."""
        if _HELP_OPTIONS.isdisjoint(ctx.args):
            _require_known_variables()
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            from ...redaction import redact  # noqa: PLC0415 - loads pydantic

            if (message := redact(str(error))) != str(error):
                error.message = message  # pyright: ignore[reportAttributeAccessIssue] - UsageError has it
            raise


def _require_known_variables() -> None:
    """Print an error for each misspelt environment variable, and end the command with exit status 2 if there is one."""
    if messages := unknown_variables(os.environ):
        for message in messages:
            typer.echo(f"tallybook: {printable(message)}", err=True)
        raise typer.Exit(2)


app = typer.Typer(
    cls=_Commands,
    help="A usage ledger for billing: records meter events permanently, and explains every total.",
    epilog="Exit status: 0 success, 1 error or difference, 2 invalid command line, 130 ended by Ctrl-C.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": sorted(_HELP_OPTIONS, key=len), "max_content_width": 100},
)


def _show_version(is_set: bool) -> None:
    if is_set:
        typer.echo(f"tallybook {version('tallybook')}")
        raise typer.Exit


@app.callback()
def tallybook(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Handle the options of `tallybook` itself."""


app.command()(demo.demo)
app.add_typer(meters.app, name="meter")
app.command()(usage.record)
app.command("import")(usage_import.import_file)
app.command()(usage.cancel)
app.command()(bulk_cancellations.cancel_many)
app.add_typer(bulk_cancellations.app, name="cancellation")
app.command()(queries.total)
app.command()(queries.totals)
app.command()(queries.summaries)
app.command()(queries.events)
app.command()(explain.explain)
app.command()(compare.compare)
app.command()(history.history)
app.command()(verify)
app.command()(backup.backup)
app.command()(copy.copy)
app.add_typer(checkpoints.app, name="checkpoint")
app.command()(evidence.evidence)
app.add_typer(archive.app, name="archive")
app.add_typer(settlements.app, name="period")
app.command()(invoice_lines.invoice_lines)
app.add_typer(access_keys.app, name="key")
app.command()(outbox.relay)
app.add_typer(outbox.app, name="outbox")
app.command()(topics.consume)
app.add_typer(topics.app, name="topic")
app.command()(serve.serve)
app.add_typer(jobs.app, name="jobs")
app.command()(console.console)
app.add_typer(rules.app, name="rules")
app.add_typer(propose.app, name="propose")
app.add_typer(proposals.app, name="proposal")
app.add_typer(projection.app, name="projection")
