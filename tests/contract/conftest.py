"""Every test that asks for `store` runs once on each of them; `persistent_store` is each that outlives the program."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from tallybook.application import Metering
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.storage.url import resolve_store

from ..postgres import Database
from .persistent_stores import PersistentStore, PostgresSchema, SQLiteFile
from .stores import Store

PERSISTENT_STORES: Mapping[str, str] = {"sqlite file": "file_store", "postgresql": "postgres_store"}
STORES: Mapping[str, str] = {"sqlite memory": "memory_store", **PERSISTENT_STORES}
"""Another store joins the contract with one line here, and a fixture below."""


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Store:
    """Each store in turn, empty."""
    return request.getfixturevalue(STORES[request.param])


@pytest.fixture(params=PERSISTENT_STORES)
def persistent_store(request: pytest.FixtureRequest) -> PersistentStore:
    """Each store in turn that is still there when nobody has it open, empty."""
    return request.getfixturevalue(PERSISTENT_STORES[request.param])


@pytest.fixture
def memory_store() -> Store:
    """SQLite in memory, there for as long as it is open."""
    return Store(resolve_store("sqlite://"))


@pytest.fixture
def file_store(tmp_path: Path) -> SQLiteFile:
    """A SQLite file."""
    return SQLiteFile.in_file(tmp_path / "usage.db")


@pytest.fixture
def postgres_store(postgres: Database) -> PostgresSchema:
    """A schema of a PostgreSQL database."""
    return PostgresSchema.create(postgres)


@pytest.fixture
def ledger(store: Store) -> Iterator[Ledger]:
    """The ledger of each store."""
    with closing(store.ledger()) as open_ledger:
        yield open_ledger


@pytest.fixture
def metering(store: Store) -> Iterator[Metering]:
    """The application on each store."""
    with store.metering() as open_metering:
        yield open_metering
