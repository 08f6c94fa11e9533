"""The command `serve`: serves a ledger over HTTP."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from socket import socket
from typing import TYPE_CHECKING, Annotated

import typer

from .output import OutputError
from .session import print_error
from .terminal import printable

if TYPE_CHECKING:
    from ..http.settings import ServerSettings

INSTALL_HINT = "Serving a ledger needs an extra: pip install 'tallybook[server]'"
_CONSOLE_PACKAGES = {"jinja2", "python_multipart"}
CONSOLE_HINT = "The console needs an extra: pip install 'tallybook[console]'"
_EXTRA_PACKAGES = {"starlette", "uvicorn", "httptools", "pydantic_settings", "prometheus_client"}

EXIT_ERROR, EXIT_INVALID_SETTINGS = 1, 2

LedgerOption = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="URL",
        help="The ledger, created if it does not exist: sqlite:///a/file.db, or postgresql://user@host/database.",
        show_default=False,
    ),
]
HostOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="The address to listen on. 127.0.0.1 by default.", show_default=False),
]
PortOption = Annotated[
    int | None,
    typer.Option(metavar="NUMBER", help="The port. 8080 by default; 0 selects a free one.", show_default=False),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        metavar="NUMBER", help="The number of processes, for a ledger on PostgreSQL. 1 by default.", show_default=False
    ),
]
ConsoleOption = Annotated[
    bool | None,
    typer.Option("--console", help="Serve the console at /console, to users with an access key.", show_default=False),
]


def serve(
    ledger: LedgerOption = None,
    host: HostOption = None,
    port: PortOption = None,
    workers: WorkersOption = None,
    console: ConsoleOption = None,
) -> None:
    """Serve a ledger over HTTP, for Stripe's SDKs and others.

    Every setting is an environment variable; docs/guides/serve.md lists them.
    """
    if os.name == "nt":  # no signal handlers in the event loop, and sockets can't be passed to workers
        sys.exit(_fail("The server runs on Linux and macOS, not on Windows.", status=EXIT_INVALID_SETTINGS))
    options = {"ledger": ledger, "host": host, "port": port, "workers": workers, "console": console}
    try:
        exit_status = _serve({name: value for name, value in options.items() if value is not None})
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in {*_EXTRA_PACKAGES, *_CONSOLE_PACKAGES}:
            raise
        typer.echo(CONSOLE_HINT if package in _CONSOLE_PACKAGES else INSTALL_HINT, err=True)
        raise typer.Exit(2) from None
    sys.exit(exit_status)


def _serve(options: Mapping[str, object]) -> int:
    """Read the settings, open the ledger, bind the socket, and serve until stopped. Return the exit status.

    Options take precedence over environment variables.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - loads the server
    from pydantic_settings import SettingsError  # noqa: PLC0415

    from ....domain.errors import TallybookError  # noqa: PLC0415
    from ...storage.sqlite.store import SQLiteStore  # noqa: PLC0415
    from ...storage.url import resolve_store  # noqa: PLC0415
    from ..http.process.logging import log_to_stderr  # noqa: PLC0415
    from ..http.process.run import bind_socket, run  # noqa: PLC0415
    from ..http.process.supervisor import supervise  # noqa: PLC0415
    from ..http.settings import ServerSettings  # noqa: PLC0415
    from ..job_settings import settings_errors  # noqa: PLC0415

    try:
        settings = ServerSettings(**options)  # pyright: ignore[reportArgumentType] - the model validates them
    except ValidationError as error:
        return _fail(*settings_errors(error), status=EXIT_INVALID_SETTINGS)
    except SettingsError as error:
        return _fail(f"{error}: it is not JSON. Use one variable for each setting.", status=EXIT_INVALID_SETTINGS)
    if settings.workers > 1 and isinstance(resolve_store(settings.ledger), SQLiteStore):
        return _fail(
            "Several workers need a ledger on PostgreSQL: only one process writes to SQLite.",
            status=EXIT_INVALID_SETTINGS,
        )
    try:
        has_keys = _has_active_keys(settings)
        listener = bind_socket(settings)
    except TallybookError as error:
        print_error(error, as_json=False)
        return EXIT_ERROR
    except OSError as error:
        return _fail(f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}.", status=EXIT_ERROR)
    log_to_stderr()
    with listener:
        message = _startup_message(settings, listener, has_keys=has_keys)
        if settings.console:
            from ..console.process import run_server_with_console as run_server  # noqa: PLC0415
        else:
            run_server = supervise if settings.workers > 1 else run
        return run_server(settings, listener, ready=lambda: _print_now(message))


def _has_active_keys(settings: "ServerSettings") -> bool:
    """Return whether the ledger has an access key that is not revoked. Creates the ledger if it does not exist."""
    from ...metering import Metering  # noqa: PLC0415 - loads the domain

    with Metering.open(settings.ledger) as metering:
        return any(key.revoked_at is None for key in metering.access_keys.list())


def _startup_message(settings: "ServerSettings", listener: socket, *, has_keys: bool) -> str:
    """Return the address, the ledger, and notes on a missing TLS proxy and missing access keys."""
    from ipaddress import ip_address  # noqa: PLC0415 - start-up time of --help

    from ...storage.url import resolve_store  # noqa: PLC0415 - loads the domain

    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    message = f"Tallybook listens on {url}, on {resolve_store(settings.ledger).location}."
    if not ip_address(host).is_loopback:
        message += " This is plain HTTP: use a proxy for TLS."
    if settings.console:
        message += f" The console is at {settings.console_url or url}/console."
    if not has_keys:
        message += " There are no access keys yet: create one with 'tallybook key create'."
    return message


def _print_now(message: str) -> None:
    with suppress(OutputError):  # the server serves, also if its start can't be reported
        typer.echo(printable(message))


def _fail(*messages: str, status: int) -> int:
    for message in messages:
        typer.echo(f"tallybook: {printable(message)}", err=True)
    return status
