"""Starts servers of the console: on this computer alone, or with the API."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from socket import socket

from ..http.process.run import bind_socket, run
from ..http.process.supervisor import supervise
from ..http.settings import ServerSettings
from .app import create_local_app
from .local_access import LocalAccess
from .worker import create_app_with_console

WORKER_MODULE = f"{__package__}.worker"
LOOPBACK = "127.0.0.1"


def bind_loopback(ledger: str, port: int, checkpoints: Path | None) -> tuple[ServerSettings, socket]:
    """Return the settings of a console on loopback, and the socket that it listens on. Raises OSError."""
    settings = ServerSettings(
        ledger=ledger, host=LOOPBACK, port=port, workers=1, access_log=False, console=True, console_url=None,
        console_checkpoints=checkpoints,
    )  # fmt: skip
    return settings, bind_socket(settings)


def run_local_console(
    settings: ServerSettings,
    listener: socket,
    access: LocalAccess,
    *,
    access_log_customers: str | None,
    ready: Callable[[], None],
) -> int:
    """Serve the console to the user of this computer until SIGTERM or SIGINT, and return the exit status."""
    return run(settings, listener, ready=ready, create=partial(create_local_app, access, access_log_customers))


def run_server_with_console(settings: ServerSettings, listener: socket, *, ready: Callable[[], None]) -> int:
    """Serve the API and the console until SIGTERM or SIGINT, and return the exit status."""
    if settings.workers > 1:
        return supervise(settings, listener, ready=ready, worker_module=WORKER_MODULE)
    return run(settings, listener, ready=ready, create=create_app_with_console)
