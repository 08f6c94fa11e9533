"""A process that has imported the package, and forks itself into programs: `python -m tests.preloaded.process`.

It prints the address of its socket, and ends with its programs when its stdin is closed. For each connection to the
socket it starts one program, sends its process id, and sends its status when it has ended.
"""

import atexit
import gc
import importlib
import marshal
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from io import TextIOWrapper
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import typer.main
from tallybook.application.interfaces.cli.app import app

PRELOADED = (
    "psycopg_pool",
    "tallybook.application.interfaces.console.process",
    "tallybook.application.interfaces.http.process.run",
    "tallybook.application.interfaces.http.process.supervisor",
    "tallybook.application.storage.postgres.store",
    "uvicorn.loops.uvloop",
)


class Request(NamedTuple):
    """A program to start: `tallybook` or `-m MODULE`, with its arguments, folder, environment and session."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    new_session: bool


class Children:
    """The running programs, and a listener for more."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(folder / "socket"))
        self._listener.listen(64)
        self._running: dict[int, tuple[int, socket.socket]] = {}
        self._poll = select.poll()
        self._poll.register(0, select.POLLIN)
        self._poll.register(self._listener, select.POLLIN)

    def next_program(self) -> Request | None:
        """Return a request in each child, and None in this process when its stdin is closed."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == 0:
                    self._end()
                    return None
                if descriptor != self._listener.fileno():
                    self._report(descriptor)
                elif (request := self._fork()) is not None:
                    return request

    def _fork(self) -> Request | None:
        """Start a child, and return its request in the child."""
        connection, _ = self._listener.accept()
        data, files, _, _ = socket.recv_fds(connection, 2**20, 3)
        child = os.fork()
        if child:
            handle = os.pidfd_open(child)
            self._running[handle] = child, connection
            self._poll.register(handle, select.POLLIN)
            connection.send(str(child).encode())
        else:
            for number, file in enumerate(files):
                os.dup2(file, number)
            connection.close()
            self._close()
        for file in files:
            os.close(file)
        return None if child else Request(*marshal.loads(data))

    def _report(self, handle: int) -> None:
        """Send the status of a child that has ended."""
        child, connection = self._running.pop(handle)
        self._poll.unregister(handle)
        os.close(handle)
        _, status = os.waitpid(child, 0)
        with connection, suppress(OSError):  # the process that has started the program may have ended
            connection.send(str(status).encode())

    def _end(self) -> None:
        """Ask the running programs to end, since nobody waits for them."""
        for child, _ in self._running.values():
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    def _close(self) -> None:
        """Close all files in a child."""
        self._listener.close()
        for handle, (_, connection) in self._running.items():
            os.close(handle)
            connection.close()


def become(request: Request) -> None:
    """Run a program in this process."""
    if request.new_session:
        os.setsid()
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    sys.stdin, sys.stdout, sys.stderr = _text(0, "r"), _text(1, "w"), _text(2, "w", "backslashreplace")
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    sys.stderr.reconfigure(line_buffering=True)
    program, *arguments = request.arguments
    if program == "-m":
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [program, *arguments]
        from tallybook.application.interfaces.cli import main  # noqa: PLC0415 - this process has imported it

        main()


def end(status: int) -> None:
    """End this process as the interpreter does, but without freeing each object, which takes 40 ms of CPU."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)  # the interpreter reports output that can't be written


def _text(file: int, mode: str, errors: str = "strict") -> TextIOWrapper:
    """Return a standard file of this process; it is open until the process ends."""
    return TextIOWrapper(os.fdopen(file, f"{mode}b", closefd=False), errors=errors)


if __name__ == "__main__":
    for module in PRELOADED:
        importlib.import_module(module)
    typer.main.get_command = cache(typer.main.get_command)
    typer.main.get_command(app)  # 25 ms of CPU, which each program would need
    gc.collect()
    gc.freeze()
    folder = Path(mkdtemp(prefix="tallybook-"))
    children = Children(folder)
    sys.stdout.write(f"{folder / 'socket'}\n")
    sys.stdout.flush()
    to_run = children.next_program()
    if to_run is None:
        shutil.rmtree(folder)
    else:
        status = 0
        try:
            become(to_run)
        except SystemExit as exit_request:
            if not isinstance(exit_request.code, int | None):
                raise
            status = exit_request.code or 0
        end(status)
