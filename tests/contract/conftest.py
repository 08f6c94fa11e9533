"""A test with the fixture `store` runs on each store, and one with `persistent_store` on each persistent store.

All tests share the fixtures of the persistent stores.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest
from tallybook.application import Metering
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.storage.url import resolve_store

from .persistent_stores import PERSISTENT_STORES, PostgresSchema
from .recorded_postgres import record_29_events
from .stores import Store

STORES: Mapping[str, str] = {"sqlite memory": "memory_store", **PERSISTENT_STORES}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Store:
    """Return each store in turn, empty."""
    return request.getfixturevalue(STORES[request.param])


@pytest.fixture
def memory_store() -> Store:
    """Return a SQLite database in memory, which exists while it is open."""
    return Store(resolve_store("sqlite://"))


@pytest.fixture
def recorded_store(postgres_store: PostgresSchema) -> PostgresSchema:
    """Return a schema of a PostgreSQL database with 29 events."""
    record_29_events(postgres_store)
    return postgres_store


@pytest.fixture
def ledger(store: Store) -> Iterator[Ledger]:
    """Open the ledger of each store."""
    with closing(store.ledger()) as open_ledger:
        yield open_ledger


@pytest.fixture
def metering(store: Store) -> Iterator[Metering]:
    """Open the application on each store."""
    with store.metering() as open_metering:
        yield open_metering
