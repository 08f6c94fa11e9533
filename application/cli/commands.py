"""All commands under one name.

What opens ledgers and draws tables is imported when a command runs, so that `--help` and completion answer at once.
"""

from importlib.metadata import version
from typing import Annotated

import typer

from . import closing, demo, explaining, imports, keys, meters, projection, questions, rules, seals, serve, usage
from .verify import verify

app = typer.Typer(
    help="A usage ledger: records every use as an event that never changes, and tells why a figure is what it is.",
    epilog="Exit status: 0 done, 1 refused or differs, 2 wrong usage.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tallybook {version('tallybook')}")
        raise typer.Exit


@app.callback()
def tallybook(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """What all commands have in common."""


app.command()(demo.demo)
app.add_typer(meters.app, name="meter")
app.command()(usage.record)
app.command("import")(imports.import_file)
app.command()(usage.cancel)
app.command()(questions.total)
app.command()(questions.totals)
app.command("usage")(questions.summaries)
app.command()(questions.events)
app.command()(explaining.explain)
app.command()(verify)
app.command()(seals.seal)
app.command("seal-key")(seals.seal_key)
app.command()(seals.prove)
app.command("check-proof")(seals.check_proof)
app.command("prove-growth")(seals.prove_growth)
app.command("check-growth")(seals.check_growth)
app.add_typer(closing.app, name="period")
app.add_typer(keys.app, name="key")
app.command()(serve.serve)
app.add_typer(rules.app, name="rules")
app.add_typer(projection.app, name="projection")
