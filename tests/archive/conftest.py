"""Fixtures: the URL of a new ledger, and each store in turn."""

from pathlib import Path

import pytest

from ..contract.persistent_stores import PostgresSchema, SQLiteFile
from ..contract.stores import Store
from ..postgres import Database


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of a SQLite ledger in the folder of the test."""
    return f"sqlite:///{tmp_path / 'usage.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Return each persistent store in turn, empty."""
    if request.param == "sqlite":
        return SQLiteFile.in_file(tmp_path / "usage.db")
    postgres: Database = request.getfixturevalue("postgres")
    return PostgresSchema.create(postgres)
