"""Fixtures that all tests share, the markers of each folder, and the order in which the tests run."""

import gc
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main
import typer.testing
from hypothesis import HealthCheck, settings
from tallybook.application import Metering

from . import sampling
from .contract.persistent_stores import PERSISTENT_STORES, PersistentStore, PostgresSchema, SQLiteFile
from .notation import Clock, Ledger, moment
from .postgres import Database, database, folder_in_memory

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
"""Each process would compile all files again: 0.35 s of processor time for a command, 7 s for a worker's collection."""

if (folder := folder_in_memory()) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(folder))
    """The root of `tmp_path`: on a disk, tests wait as long for commits of SQLite as they compute."""

typer.testing._get_command = cache(typer.main.get_command)  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]
"""A test runner of commands would define all of them for each command that it runs: 25 ms of CPU."""

TESTS = Path(__file__).parent

MARKERS = {
    "archive/test_columns.py": "fast",
    "archive/test_ranges.py": "fast",
    "application/test_import_times.py": "fast",
    "application/test_import_values.py": "fast",
    "application/test_result_lists.py": "fast",
    "cases": "fast",
    "checkpoints/test_merkle.py": "fast",
    "checkpoints/test_proofs.py": "fast",
    "console/test_charts.py": "fast",
    "domain": "fast",
    "golden": "fast",
    "http/test_form_parsing.py": "fast",
    "http/test_object_ids.py": "fast",
    "http/test_pagination.py": "fast",
    "http/test_parameters.py": "fast",
    "http/test_times.py": "fast",
    "projections": "fast",
    "scenarios": "fast",
    "archive/test_interrupted.py": "slow",
    "archive/test_killed.py": "slow",
    "archive/test_object_stores.py": "slow",
    "architecture/test_tools.py": "slow",
    "console": "slow",
    "docs": "slow",
    "faults": "slow",
    "object_import/test_killed.py": "slow",
    "object_import/test_s3.py": "slow",
    "topics": "slow",
    "http/ops": "slow",
    "http/sdk": "slow",
    "http/test_fuzz.py": "slow",
    "http/test_openapi_conformance.py": "slow",
    "http/webhooks": "slow",
    "packaging": "slow",
    "processes": "slow",
    "simulate": "slow",
    "soak": "slow",
}
"""The marker of each folder or file of tests; the others have none. A `slow` marker on a test takes precedence."""

LONGEST_FIRST = (
    "soak",
    "architecture/test_tools.py",
    "http/test_openapi_conformance.py",
    "faults",
    "console/test_browser.py",
    "docs",
    "processes",
    "http/ops",
    "simulate",
    "http",
    "packaging",
    "properties",
    "contract",
    "application",
    "cli",
)
"""These tests run first, in this order, so that no core is idle at the end while another one runs a long test.

The tests of a file run in one process, one file after another, so that they share its servers.
"""

settings.register_profile(
    "tallybook",
    deadline=None,
    max_examples=30,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("tallybook")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip the import of other test files if only fast tests are selected: it would take longer than the tests."""
    if config.option.markexpr != "fast" or not collection_path.match("test_*.py"):
        return None
    return True if _marker(collection_path) != "fast" else None


def pytest_collection() -> None:
    """Don't search for reference cycles while tests are collected."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave modules and tests out of each search for reference cycles: with them, one takes 0.8 s of processor time."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which samples were tested."""
    terminalreporter.write_line(sampling.SUMMARY)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by its folder, and sort the tests so that the longest run first."""
    for item in items:
        marker = _marker(item.path)
        if marker is not None and item.get_closest_marker("slow") is None:
            item.add_marker(marker)
    items.sort(key=lambda item: _rank(item.path))


def _marker(file: Path) -> str | None:
    return next((MARKERS[name] for name in _names(file) if name in MARKERS), None)


def _rank(file: Path) -> int:
    ranks = [LONGEST_FIRST.index(name) for name in _names(file) if name in LONGEST_FIRST]
    return min(ranks, default=len(LONGEST_FIRST))


def _names(file: Path) -> list[str]:
    """Return the paths of a file and of the folders that contain it, relative to the folder of the tests."""
    relative = file.relative_to(TESTS)
    return [path.as_posix() for path in (relative, *relative.parents)]


@pytest.fixture
def clock() -> Clock:
    """Return a clock that shows the start of 2026. Meter events in the notation move it on."""
    return Clock(moment("2026-01-01T00:00"))


@pytest.fixture
def metering(clock: Clock) -> Iterator[Metering]:
    """Open an empty ledger in memory."""
    with Metering.open("sqlite://", clock=clock) as opened:
        yield opened


@pytest.fixture
def ledger(metering: Metering, clock: Clock) -> Ledger:
    """Return an empty ledger that is written and queried in the notation of the scenarios."""
    return Ledger(metering, clock)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Database]:
    """Return a database that all tests of this worker share. Its server starts with the first test that needs it."""
    with database() as shared:
        yield shared


@pytest.fixture(params=PERSISTENT_STORES)
def persistent_store(request: pytest.FixtureRequest) -> PersistentStore:
    """Return each persistent store in turn, empty."""
    return request.getfixturevalue(PERSISTENT_STORES[request.param])


@pytest.fixture
def file_store(tmp_path: Path) -> SQLiteFile:
    """Return a SQLite file."""
    return SQLiteFile.in_file(tmp_path / "usage.db")


@pytest.fixture
def postgres_store(postgres: Database) -> PostgresSchema:
    """Return a schema of a PostgreSQL database."""
    return PostgresSchema.create(postgres)
