"""Every test that asks for `store` runs once on each of them; `kept_store` is each that outlives the program."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from tallybook.application import Metering
from tallybook.application.ledger import Ledger
from tallybook.application.ledger_url import locate

from ..postgres import Database
from .kept_stores import KeptStore, PostgresSchema, SQLiteFile
from .stores import Store

KEPT_STORES: Mapping[str, str] = {"sqlite file": "file_store", "postgresql": "postgres_store"}
STORES: Mapping[str, str] = {"sqlite memory": "memory_store", **KEPT_STORES}
"""Another store joins the contract with one line here, and a fixture below."""


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Store:
    """Each store in turn, empty."""
    return request.getfixturevalue(STORES[request.param])


@pytest.fixture(params=KEPT_STORES)
def kept_store(request: pytest.FixtureRequest) -> KeptStore:
    """Each store in turn that is still there when nobody has it open, empty."""
    return request.getfixturevalue(KEPT_STORES[request.param])


@pytest.fixture
def memory_store() -> Store:
    """SQLite in memory, there for as long as it is open."""
    return Store(locate("sqlite://"))


@pytest.fixture
def file_store(tmp_path: Path) -> SQLiteFile:
    """A SQLite file."""
    return SQLiteFile.beside(tmp_path / "usage.db")


@pytest.fixture
def postgres_store(postgres: Database) -> PostgresSchema:
    """A schema of a PostgreSQL database."""
    return PostgresSchema.fresh(postgres)


@pytest.fixture
def ledger(store: Store) -> Iterator[Ledger]:
    """The ledger of each store."""
    with closing(store.ledger()) as opened:
        yield opened


@pytest.fixture
def metering(store: Store) -> Iterator[Metering]:
    """The application on each store."""
    with store.metering() as opened:
        yield opened
