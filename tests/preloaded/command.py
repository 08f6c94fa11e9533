"""Starts a program in the preloaded process: `python -ISE command.py SOCKET PROGRAM ARGUMENT …`.

It imports little, so that a shell can run it as a command. Its output, exit status and signals are the program's.
"""

import marshal
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence


def start(
    address: str,
    arguments: Sequence[str],
    folder: str,
    environment: Mapping[str, str],
    files: Sequence[int],
    new_session: bool = False,
) -> tuple[socket.socket, int]:
    """Start a program with the files as stdin, stdout and stderr; return the socket for its status, and its id."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(address)
    request = marshal.dumps((list(arguments), folder, dict(environment), new_session))
    socket.send_fds(connection, [request], list(files))
    return connection, int(connection.recv(64))


def exit_code(status: bytes) -> int:
    """Return the exit code from the message that the program has ended; the negative signal if one has killed it."""
    return os.waitstatus_to_exitcode(int(status))


def main() -> None:
    """Run the program, and exit or be killed as it is."""
    connection, program = start(sys.argv[1], sys.argv[2:], os.getcwd(), os.environ, (0, 1, 2))  # noqa: PTH109 - pathlib is slow to import
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: os.kill(program, received))
    code = exit_code(connection.recv(64))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
