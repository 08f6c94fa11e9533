"""Starts Python programs of the package as child processes.

A child isn't forked, because a program with threads must not fork, and it doesn't import the program's main module, as
spawned processes of `multiprocessing` do.
"""

import os
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MAX_PROCESSES_SETTING = "TALLYBOOK_MAX_PROCESSES"
"""Environment variable: the maximum number of processes, this one included; 1 disables child processes."""
_PIPE_BYTES = 1 << 20
"""The maximum on Linux. With a smaller pipe, the reader waits more often for the interpreter lock."""


def max_processes() -> int | None:
    """Return the maximum number of processes, this one included, if it is set. It is 1 if Python can't be started."""
    is_python = Path(sys.executable or "").stem.startswith("python") and not getattr(sys, "frozen", False)
    setting = os.environ.get(MAX_PROCESSES_SETTING, "")
    return 1 if not is_python else max(int(setting), 1) if setting.isdecimal() else None


def start_python(program: Path, pass_fds: Collection[int] = ()) -> "subprocess.Popen[bytes]":
    """Start a program with pipes as standard input and output. Its arguments are the entries of `sys.path`.

    It gets its own session, so that an interrupt from the terminal reaches only the parent process.
    """
    process = subprocess.Popen(  # noqa: S603 - no argument comes from outside
        [sys.executable, "-P", str(program), *(entry for entry in map(str, sys.path) if "\0" not in entry)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        pass_fds=pass_fds,
    )
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(AttributeError, OSError):  # not supported or not permitted on every system
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # pyright: ignore
    return process


def kill(process: "subprocess.Popen[bytes]") -> int:
    """Kill a process unless it has ended, close its pipes, and return its exit status."""
    process.kill()
    status = process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(OSError):
            pipe.close()
    return status
