"""Starting processes, and a ledger for them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen
from sys import executable

import pytest

PROGRAMS = Path(__file__).with_name("programs.py")

Start = Callable[..., "Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts one of the programs with a ledger's URL and arguments; whatever still runs at the end is killed."""
    with ExitStack() as ending:

        def started(program: str, *arguments: object) -> "Popen[str]":
            process = Popen(
                [executable, str(PROGRAMS), program, *map(str, arguments)],
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                text=True,
            )
            ending.enter_context(process)
            ending.callback(process.kill)
            return process

        yield started


def go(*processes: "Popen[str]") -> None:
    """Tell programs that have said they are ready to go on, all at once."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Where a ledger file is going to be."""
    return f"sqlite:///{tmp_path / 'usage.db'}"
