"""Starting processes, and a ledger for them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen
from sys import executable

import pytest

from ..postgres import Database

ROOT = Path(__file__).parents[2]

STORES = ("sqlite", "postgres")

Start = Callable[..., "Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts one of the programs with a ledger's URL and arguments; whatever still runs at the end is killed."""
    with ExitStack() as exit_stack:

        def start_program(program: str, *arguments: object) -> "Popen[str]":
            process = Popen(
                [executable, "-m", f"{__package__}.programs", program, *map(str, arguments)],
                cwd=ROOT,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                text=True,
            )
            exit_stack.enter_context(process)
            exit_stack.callback(process.kill)
            return process

        yield start_program


def start_together(*processes: "Popen[str]") -> None:
    """Tell programs that have said they are ready to go on, all at once."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Where a ledger file is going to be."""
    return f"sqlite:///{tmp_path / 'usage.db'}"


@pytest.fixture
def postgres_url(postgres: Database) -> str:
    """Where a ledger in a schema of its own is going to be."""
    return postgres.fresh_url()


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest) -> str:
    """Where a ledger is going to be, on each store in turn."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture(params=(*STORES, "memory"))
def url_for_threads(request: pytest.FixtureRequest) -> str:
    """Where a ledger for the threads of one process is going to be, which may be in memory."""
    return "sqlite://" if request.param == "memory" else request.getfixturevalue(f"{request.param}_url")
