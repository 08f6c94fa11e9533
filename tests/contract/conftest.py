"""Every test that asks for `store` runs once on each of them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tallybook.application import Metering
from tallybook.application.ledger import Ledger

from .stores import KEPT_STORES, STORES, SQLiteFile, Store, sqlite_file


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each store in turn, empty."""
    return STORES[request.param](tmp_path)


@pytest.fixture(params=KEPT_STORES)
def kept_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each store that outlives the program in turn, empty."""
    return STORES[request.param](tmp_path)


@pytest.fixture
def file_store(tmp_path: Path) -> SQLiteFile:
    """The SQLite file, for what only a file can show."""
    return sqlite_file(tmp_path)


@pytest.fixture
def ledger(store: Store) -> Iterator[Ledger]:
    """The ledger of each store."""
    with ExitStack() as closing:
        opened = store.ledger()
        closing.callback(opened.close)
        yield opened


@pytest.fixture
def metering(store: Store) -> Iterator[Metering]:
    """The application on each store."""
    with store.metering() as opened:
        yield opened
