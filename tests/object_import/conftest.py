"""Fixtures: a ledger with a meter on each store, and a folder that is read as an object store."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tallybook.application import Metering

from ..contract.persistent_stores import PersistentStore, PostgresSchema, SQLiteFile
from ..postgres import Database
from .usage_objects import NOW, configure


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> PersistentStore:
    """Return each persistent store in turn, empty."""
    if request.param == "sqlite":
        return SQLiteFile.in_file(tmp_path / "usage.db")
    postgres: Database = request.getfixturevalue("postgres")
    return PostgresSchema.create(postgres)


@pytest.fixture
def metering(tmp_path: Path) -> Iterator[Metering]:
    """A SQLite ledger with a meter."""
    with Metering.open(f"sqlite:///{tmp_path / 'usage.db'}", clock=lambda: NOW) as opened:
        configure(opened)
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder of objects."""
    (tmp_path / "incoming").mkdir()
    return tmp_path / "incoming"
