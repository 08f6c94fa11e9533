"""A PostgreSQL server as the documents assume: with a database `billing` that a user `billing` owns."""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from tests.docs.documents import ON_POSTGRES, section
from tests.docs.roles import TOKENS, acme_total, open_as, record
from tests.postgres import Server


@pytest.fixture(scope="package")
def roles_server() -> Iterator[Server]:
    """Start a server for these tests only: roles are shared by all databases of a server."""
    with closing(Server()) as server:
        yield server


@pytest.fixture
def billing(roles_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Return the server with an empty database `billing`, which the environment variables select."""
    with closing(roles_server.database.connect()) as connection:
        connection.execute("CREATE ROLE billing LOGIN")
        connection.execute("CREATE DATABASE billing OWNER billing")
    monkeypatch.setenv("PGHOST", str(roles_server.folder))
    monkeypatch.setenv("PGPORT", "5432")
    monkeypatch.setenv("PGUSER", "postgres")  # an administrator, if a URL names no user
    for variable in ("PGDATABASE", "PGPASSWORD", "PGSERVICE", "POSTGRES_ENABLE_DB_FUNCTIONS"):
        monkeypatch.delenv(variable, raising=False)
    yield roles_server
    with closing(roles_server.database.connect()) as connection:
        for database in ("billing", "restored"):
            connection.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)".encode())
        others = "SELECT rolname FROM pg_roles WHERE rolname <> 'postgres' AND rolname NOT LIKE 'pg\\_%'"
        for (role,) in connection.execute(others).fetchall():
            connection.execute(f'DROP ROLE "{role}"'.encode())


@pytest.fixture
def roles(billing: Server) -> None:
    """Execute the page's SQL as an administrator, after the owner has created a ledger with 10 tokens."""
    with open_as("billing") as metering:
        metering.meters.configure("tokens", **TOKENS)
        record(metering, "of the owner")
        assert acme_total(metering) == 10
    (block,) = (block for block in section(ON_POSTGRES, "Roles") if block.language == "sql")
    with psycopg.connect("postgresql:///billing") as administrator:
        administrator.execute(block.text.encode())


@pytest.fixture
def server(roles: None) -> None:
    """Create the page's role for a server, after the owner has created its table."""
    with open_as("billing") as metering:
        metering.key_value_store()
    (block,) = (block for block in section(ON_POSTGRES, "A role for a server") if block.language == "sql")
    with psycopg.connect("postgresql:///billing") as administrator:
        administrator.execute(block.text.encode())
