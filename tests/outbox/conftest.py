"""Databases of host programs, and a ledger for their usage."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from tallybook.application import Metering, Outbox, outbox_sql

from ..notation import Clock
from ..postgres import Database
from .hosts import HostDatabase, sqlite_database

_NUMBERS = count(1)


@pytest.fixture
def metering(clock: Clock) -> Iterator[Metering]:
    """Open a ledger in memory with one meter."""
    with Metering.open("sqlite://", clock=clock) as opened:
        opened.meters.configure("tokens", customer_key="customer", value_key="tokens")
        yield opened


@pytest.fixture
def sqlite_host(tmp_path: Path) -> HostDatabase:
    """Return a SQLite database with orders and an outbox."""
    return _with_tables(sqlite_database(tmp_path))


@pytest.fixture
def postgres_host(postgres: Database) -> Iterator[HostDatabase]:
    """Return a PostgreSQL database with orders and an outbox in a schema of their own."""
    schema = f"shop_{next(_NUMBERS)}"
    database = HostDatabase(postgres.url, f"{schema}.")
    database.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    database.execute(f"CREATE SCHEMA {schema}")
    yield _with_tables(database)
    database.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture(params=["sqlite", "postgres"])
def host_database(request: pytest.FixtureRequest) -> HostDatabase:
    """Return a database on each store in turn."""
    return request.getfixturevalue(f"{request.param}_host")


@pytest.fixture
def outbox(metering: Metering, host_database: HostDatabase) -> Iterator[Outbox]:
    """Open the outbox of a database on each store in turn."""
    with Outbox(metering, host_database.url, table=host_database.table) as opened:
        yield opened


def _with_tables(database: HostDatabase) -> HostDatabase:
    database.execute("CREATE TABLE {prefix}orders (identifier TEXT)")
    for statement in outbox_sql("sqlite" if database.is_sqlite else "postgresql", table=database.table):
        database.execute(statement)
    return database
