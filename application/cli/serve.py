"""The command that serves a ledger over HTTP."""

import sys
from typing import Annotated

import typer

INSTALL = "Serving a ledger needs its extra: pip install 'tallybook[server]'"
_EXTRA = {"starlette", "uvicorn", "httptools", "pydantic_settings", "prometheus_client"}

Ledger = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="URL",
        help="The ledger, begun where there is none: sqlite:///a/file.db, or postgresql://user@host/database.",
        show_default=False,
    ),
]
Host = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Where to listen; 127.0.0.1 by default.", show_default=False)
]
Port = Annotated[
    int | None, typer.Option(metavar="NUMBER", help="8080 by default; 0 takes a free one.", show_default=False)
]
Workers = Annotated[
    int | None,
    typer.Option(metavar="NUMBER", help="How many processes serve a ledger on PostgreSQL; 1 by default.",
                 show_default=False),
]  # fmt: skip


def serve(ledger: Ledger = None, host: Host = None, port: Port = None, workers: Workers = None) -> None:
    """Serve a ledger over HTTP, to Stripe's SDKs and others.

    Whatever isn't said here is read from the environment: TALLYBOOK_LEDGER, TALLYBOOK_HOST, TALLYBOOK_PORT and more.
    """
    try:
        from .serve_run import run_serve  # noqa: PLC0415 - loads the server
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        typer.echo(INSTALL, err=True)
        raise typer.Exit(2) from None
    given = {"ledger": ledger, "host": host, "port": port, "workers": workers}
    sys.exit(run_serve({name: value for name, value in given.items() if value is not None}))
