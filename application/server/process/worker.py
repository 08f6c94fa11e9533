"""A worker: one of several processes that serve a ledger, on a socket that its supervisor has bound."""

import os
import signal
import sys
import threading
from socket import socket

from .logs import log_to_stderr
from .running import run
from .settings import ServerSettings

READY = "ready"


def main(descriptor: int) -> int:
    """Serve on the socket with this descriptor. The first line of stdin has the settings; when it ends, so does this.

    They don't come as arguments, which everybody on the machine can read.
    """
    settings = ServerSettings.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    log_to_stderr()
    with socket(fileno=descriptor) as listening:
        return run(settings, listening, are_several=True, ready=_tell)


def _end_with_supervisor() -> None:
    """End in an orderly way when nobody holds the other end of stdin: the supervisor is dead, however it died."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _tell() -> None:
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
