"""Fixtures that start processes, and URLs of ledgers for them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from ..postgres import Database
from ..preloaded.program import Program

ROOT = Path(__file__).parents[2]

STORES = ("sqlite", "postgres")

Start = Callable[..., "Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Yield a function that starts a program with a ledger's URL and arguments; kill running programs at the end."""
    with ExitStack() as exit_stack:

        def start_program(program: str, *arguments: object) -> "Popen[str]":
            process = Program(
                "-m", f"{__package__}.programs", program, *map(str, arguments),
                folder=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE,
            )  # fmt: skip
            exit_stack.enter_context(process)
            exit_stack.callback(process.kill)
            return process

        yield start_program


def start_together(*processes: "Popen[str]") -> None:
    """Wait until all programs are ready, then start them all at once."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Return the URL of a new ledger file."""
    return f"sqlite:///{tmp_path / 'usage.db'}"


@pytest.fixture
def postgres_url(postgres: Database) -> str:
    """Return the URL of a ledger in a new PostgreSQL schema."""
    return postgres.fresh_url()


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a new ledger, on each store in turn."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture(params=(*STORES, "memory"))
def url_for_threads(request: pytest.FixtureRequest) -> str:
    """Return the URL of a new ledger for the threads of one process, on each store in turn and in memory."""
    return "sqlite://" if request.param == "memory" else request.getfixturevalue(f"{request.param}_url")
