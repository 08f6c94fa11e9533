"""Programs of this package that start in 20 ms of CPU instead of a second: a preloaded process forks itself."""

import atexit
import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from typing import IO, Any

from . import command

ROOT = Path(__file__).parents[2]
TALLYBOOK = "tallybook"


@cache
def address() -> str:
    """Return the address of the preloaded process, which starts with the first call and ends with this process."""
    process = Popen(
        [sys.executable, "-m", f"{__package__}.process"],
        cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    atexit.register(process.communicate)
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def write_command(folder: Path) -> None:
    """Write a file `tallybook` to a folder, which runs the command line in the preloaded process."""
    file = folder / TALLYBOOK
    file.write_text(f'#!/bin/sh\nexec {sys.executable} -ISE {command.__file__} {address()} {TALLYBOOK} "$@"\n')
    file.chmod(0o755)


class Program(Popen[str]):
    """A process that the preloaded process has forked: `tallybook` or `-m MODULE`, with arguments."""

    def __init__(
        self,
        *arguments: str,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        new_session: bool = False,
    ) -> None:
        super().__init__(
            arguments, cwd=folder, env=environment, stdin=stdin, stdout=stdout, stderr=stderr, text=True,
            start_new_session=new_session,
        )  # fmt: skip

    def _execute_child(self, args: Any, *options: Any) -> None:
        """Start the process, as the overridden method does: files of -1 are those of this process."""
        (_, _, _, _, cwd, env, _, _, _, *pipes) = options[:15]
        reading, _, _, writing, _, writing_errors = pipes
        files = [own if file == -1 else file for own, file in enumerate((reading, writing, writing_errors))]
        self._connection, self.pid = command.start(
            address(),
            args,
            str(cwd or Path.cwd()),
            os.environ if env is None else env,
            files,
            new_session=options[20],
        )
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _internal_poll(self, **_: Any) -> int | None:
        """Return the exit code, or None while the process runs."""
        if self.returncode is None:  # pyright: ignore[reportUnnecessaryComparison] - it is None until then
            self._connection.setblocking(False)
            try:
                self._receive_status()
            except BlockingIOError:
                return None
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        """Return the exit code when the process has ended."""
        if self.returncode is not None:  # pyright: ignore[reportUnnecessaryComparison]
            return self.returncode
        self._connection.settimeout(timeout)
        try:
            return self._receive_status()
        except TimeoutError:
            raise TimeoutExpired(self.args, timeout or 0) from None

    def _receive_status(self) -> int:
        status = self._connection.recv(64)
        assert status, "the preloaded process has ended"
        self.returncode = code = command.exit_code(status)
        self._connection.close()
        return code
