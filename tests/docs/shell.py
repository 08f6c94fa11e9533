"""A shell in which a test follows documents as a reader does, and the renewal of documented output."""

import os
import re
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

from tests.docs.documents import Step, is_expected
from tests.postgres import programs
from tests.preloaded.program import write_command

_END_OF_STEP = "--- end of step ---"
_TIMEOUT_SECONDS = 60


class Shell:
    """One bash process, in which `cd` and `export` last. `tallybook` and PostgreSQL's programs are on its PATH.

    `tallybook` starts in a preloaded process. The installed file is run by test_serving.py and tests/packaging.
    """

    def __init__(self, folder: Path) -> None:
        self._commands = TemporaryDirectory(prefix="tallybook-")
        write_command(Path(self._commands.name))
        folders = (self._commands.name, str(Path(sys.executable).parent), str(programs()), os.environ["PATH"])
        environment = {**os.environ, "PATH": os.pathsep.join(folders), "COLUMNS": "100", "PYTHONUNBUFFERED": "1"}
        environment.pop("TALLYBOOK_LEDGER", None)
        self._process = subprocess.Popen(
            ["bash"], cwd=folder, env=environment, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def __enter__(self) -> "Shell":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._commands.cleanup()

    def run(self, command: str) -> str:
        """Run a command and return what it prints."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = threading.Timer(_TIMEOUT_SECONDS, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n%s\\n' '{_END_OF_STEP}'\n")
            output: list[str] = []
            while (line := self._process.stdout.readline()) != f"{_END_OF_STEP}\n":
                assert line, f"the shell ended or timed out at: {command}\n{''.join(output)}"
                output.append(line)
        finally:
            timer.cancel()
        return "".join(output).removesuffix("\n")


def renew(document: Path, step: Step, output: str) -> None:
    """Replace a step's documented output; documented lines that still match remain, and times of today become `...`."""
    documented = step.printed.splitlines()
    lines: list[str] = []
    for line in output.splitlines():
        matching = (old for old in documented if old.strip() != "..." and is_expected(f"{old}\n", f"{line}\n"))
        lines.append(next(matching, re.sub(rf"{datetime.now(UTC):%Y-%m-%d}[T ][\d:.]+Z?", "...", line)))
    text = document.read_text(encoding="utf-8")
    start = text.index(step.printed, text.index(step.command.splitlines()[0][:40]))
    renewed = "".join(f"{line}\n" for line in lines)
    document.write_text(text[:start] + renewed + text[start + len(step.printed) :], encoding="utf-8")
