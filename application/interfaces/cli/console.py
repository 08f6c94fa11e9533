"""The command `console`: opens a ledger in the browser."""

import os
import sys
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from .options import LedgerOption
from .output import OutputError
from .serve import CONSOLE_HINT
from .session import reported_errors, require_ledger
from .terminal import printable, say

_EXTRA_PACKAGES = {
    "starlette",
    "uvicorn",
    "httptools",
    "httpcore2",
    "pydantic_settings",
    "prometheus_client",
    "jinja2",
    "python_multipart",
}
DEMO_NAME = "tallybook-console-demo"
DEMO_FILE, DEMO_CHECKPOINTS = f"{DEMO_NAME}.db", f"{DEMO_NAME}.checkpoints"

PortOption = Annotated[int, typer.Option(metavar="NUMBER", help="The port; a free one by default.", show_default=False)]
BrowserOption = Annotated[bool, typer.Option("--browser/--no-browser", help="Whether to open the browser.")]
DemoOption = Annotated[
    bool, typer.Option("--demo", help=f"Open a ledger with two months of usage: {DEMO_FILE}, created in this folder.")
]
CheckpointsOption = Annotated[
    Path | None,
    typer.Option("--checkpoints", metavar="FILE", help="The ledger's checkpoint file, to show and to prove with."),
]


def console(
    ledger: LedgerOption = "sqlite:///tallybook.db",
    port: PortOption = 0,
    browser: BrowserOption = True,
    demo: DemoOption = False,
    checkpoints: CheckpointsOption = None,
) -> None:
    """Open a ledger in the browser.

    The console shows usage, and why each figure is what it is. It listens on this computer only, and needs no key but
    the address that is printed: it has a token, so that no other user of this computer can open it. The author of a
    change is the user of the operating system. Ctrl-C ends it.
    """
    if os.name == "nt":
        typer.echo("tallybook: The server runs on Linux and macOS, not on Windows.", err=True)
        raise typer.Exit(2)
    try:
        exit_status = _serve(ledger, port, checkpoints, opens_browser=browser, is_demo=demo)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA_PACKAGES:
            raise
        typer.echo(CONSOLE_HINT, err=True)
        raise typer.Exit(2) from None
    sys.exit(exit_status)


def _serve(ledger: str, port: int, checkpoints: Path | None, *, opens_browser: bool, is_demo: bool) -> int:
    """Open the ledger and serve it until stopped. Return the exit status."""
    from pydantic import ValidationError  # noqa: PLC0415

    from ..console.local_access import LocalAccess  # noqa: PLC0415 - loads the server
    from ..console.process import bind_loopback, run_local_console  # noqa: PLC0415
    from ..http.process.logging import log_to_stderr  # noqa: PLC0415
    from ..job_settings import settings_errors  # noqa: PLC0415
    from .access_log import access_log_file  # noqa: PLC0415

    path = "/console/usage"
    with reported_errors(as_json=False):
        if is_demo:
            ledger, path = _open_demo()
            checkpoints = Path(DEMO_CHECKPOINTS)
        require_ledger(ledger)
        try:
            settings, listener = bind_loopback(ledger, port, checkpoints)
        except ValidationError as error:
            for message in settings_errors(error):
                typer.echo(f"tallybook: {printable(message)}", err=True)
            return 2
        except OSError as error:
            typer.echo(f"tallybook: Cannot listen on port {port}: {error.strerror}.", err=True)
            return 1
    log_to_stderr()
    with reported_errors(as_json=False), listener, access_log_file(os.environ) as customers:
        address, access = f"http://127.0.0.1:{listener.getsockname()[1]}", LocalAccess()

        def report_ready() -> None:
            with suppress(OutputError):  # it serves, also if its start can't be reported
                say(printable(f"The console is at {address}{access.address(path)}"))
                say("Ctrl-C ends it.")
                sys.stdout.flush()
            if opens_browser:
                webbrowser.open(address + access.one_time_address(path))

        return run_local_console(settings, listener, access, access_log_customers=customers, ready=report_ready)


def _open_demo() -> tuple[str, str]:
    """Return the URL of the demo ledger, which is created if it does not exist, and the page to open."""
    from ...clock import utc_now  # noqa: PLC0415 - loads the domain
    from ..console.demo_ledger import create_demo_ledger, demo_page  # noqa: PLC0415

    file = Path(DEMO_FILE)
    url = f"sqlite:///{file}"
    if not file.exists():
        say(f"Creating a demo ledger with two months of usage: {file}")
        try:
            create_demo_ledger(url, Path(DEMO_CHECKPOINTS), utc_now())
        except BaseException:
            for part in Path().glob(f"{DEMO_NAME}*"):
                part.unlink(missing_ok=True)
            raise
    return url, demo_page(url)
