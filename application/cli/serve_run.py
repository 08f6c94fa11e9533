"""Serving a ledger: its settings are read, the ledger is begun, and a socket is bound before anything is served."""

import sys
from collections.abc import Mapping
from ipaddress import ip_address
from socket import socket

import typer
from pydantic import ValidationError

from ...domain.errors import TallybookError
from ..ledger_url import locate
from ..metering import Metering
from ..server.process.logs import log_to_stderr
from ..server.process.running import bound_socket, run
from ..server.process.settings import ServerSettings, wrong_settings
from ..server.process.supervising import supervise
from ..stores.sqlite_store import SQLiteStore
from .session import told
from .terminal import printable

REFUSED, WRONG_USAGE = 1, 2


def run_serve(given: Mapping[str, object]) -> int:
    """Serve, with what was given on the command line before what the environment says; give the exit status."""
    try:
        settings = ServerSettings(**given)  # pyright: ignore[reportArgumentType] - it checks them
    except ValidationError as error:
        return _refused(*wrong_settings(error), status=WRONG_USAGE)
    if settings.workers > 1 and isinstance(locate(settings.ledger), SQLiteStore):
        return _refused("Several workers need a ledger on PostgreSQL: on SQLite one process writes.",
                        status=WRONG_USAGE)  # fmt: skip
    try:
        has_keys = _has_keys(settings)
        listening = bound_socket(settings)
    except TallybookError as error:
        told(error, in_json=False)
        return REFUSED
    except OSError as error:
        return _refused(f"Can't listen on {settings.host}:{settings.port}: {error.strerror}.", status=REFUSED)
    log_to_stderr()
    with listening:
        line = _announcement(settings, listening, has_keys=has_keys)
        serve = supervise if settings.workers > 1 else run
        return serve(settings, listening, ready=lambda: _say(line))


def _has_keys(settings: ServerSettings) -> bool:
    """Whether anybody can get in. The ledger is begun where there is none."""
    with Metering.open(settings.ledger) as metering:
        return any(key.revoked_at is None for key in metering.access_keys())


def _announcement(settings: ServerSettings, listening: socket, *, has_keys: bool) -> str:
    """What is said once it listens: where, on what, and what is missing."""
    host, port = listening.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    line = f"Tallybook listens on {url}, on {locate(settings.ledger).place}."
    if not ip_address(host).is_loopback:
        line += " It speaks plain HTTP: TLS is the task of a proxy before it."
    if not has_keys:
        line += " There are no keys yet: 'tallybook key create' makes one."
    return line


def _say(line: str) -> None:
    typer.echo(printable(line))
    sys.stdout.flush()


def _refused(*lines: str, status: int) -> int:
    for line in lines:
        typer.echo(f"tallybook: {printable(line)}", err=True)
    return status
