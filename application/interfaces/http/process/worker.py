"""Entry point of a worker process: it serves on the socket of its supervisor."""

import os
import signal
import sys
import threading
from socket import socket

from ..app import create_app
from ..settings import ServerSettings
from .logging import log_to_stderr
from .run import CreateApp, run

READY = "ready"


def main(descriptor: int, create: CreateApp = create_app) -> int:
    """Serve on the socket with this descriptor until stdin is closed.

    The first line of stdin contains the settings. Command line arguments would be visible to all users of the machine.
    """
    settings = ServerSettings.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_exit_with_supervisor, daemon=True).start()
    log_to_stderr()
    with socket(fileno=descriptor) as listener:
        return run(settings, listener, is_multiprocess=True, ready=_report_ready, create=create)


def _exit_with_supervisor() -> None:
    """Shut down when stdin is closed, because then the supervisor has died."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _report_ready() -> None:
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
