"""A PostgreSQL server as the documents assume: with a database `billing` that a user `billing` owns."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from tests.docs.documents import ON_POSTGRES, section
from tests.docs.roles import TOKENS, acme_total, open_as, record
from tests.postgres import Server

Connection = psycopg.Connection[tuple[Any, ...]]
SELECT_ROLES = "SELECT rolname FROM pg_roles WHERE rolname <> 'postgres' AND rolname NOT LIKE 'pg\\_%'"
SELECT_MEMBERSHIPS = "SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members"


@pytest.fixture(scope="package")
def billing_server() -> Iterator[Server]:
    """Start a server for the tests that create the page's roles themselves: all databases of a server share roles."""
    with closing(Server()) as server:
        yield server


@pytest.fixture
def billing(billing_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Return the server with an empty database `billing`, which the environment variables select."""
    select_server(billing_server, monkeypatch)
    with closing(billing_server.database.connect()) as connection:
        create_billing(connection)
    yield billing_server  # a test may restart it
    with closing(billing_server.database.connect()) as connection:
        for database in ("billing", "restored"):
            connection.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)".encode())
        for (role,) in connection.execute(SELECT_ROLES.encode()).fetchall():
            connection.execute(f'DROP ROLE "{role}"'.encode())


@pytest.fixture(scope="module")
def roles_server() -> Iterator[Server]:
    """Start a server with the databases that `roles` and `server` copy, and with the page's roles."""
    with (
        closing(Server()) as started,
        pytest.MonkeyPatch.context() as monkeypatch,
        closing(started.database.connect()) as connection,
    ):
        select_server(started, monkeypatch)
        create_billing(connection)
        with open_as("billing") as metering:
            metering.meters.configure("tokens", **TOKENS)
            record(metering, "of the owner")
            assert acme_total(metering) == 10
        execute_sql_of_the_page("Roles")
        connection.execute("CREATE DATABASE with_roles TEMPLATE billing")
        with open_as("billing") as metering:
            metering.key_value_store()
        execute_sql_of_the_page("A role for a server")
        connection.execute("ALTER DATABASE billing RENAME TO with_server")
        yield started


@pytest.fixture
def roles(roles_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Execute the page's SQL as an administrator, after the owner has created a ledger with 10 tokens."""
    select_server(roles_server, monkeypatch)
    with copy_of_database(roles_server, "with_roles"):
        yield


@pytest.fixture
def server(roles_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Create also the page's role for a server, after the owner has created its table."""
    select_server(roles_server, monkeypatch)
    with copy_of_database(roles_server, "with_server"):
        yield


def select_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment variables that select a server for clients that name only a database or a user."""
    monkeypatch.setenv("PGHOST", str(server.folder))
    monkeypatch.setenv("PGPORT", "5432")
    monkeypatch.setenv("PGUSER", "postgres")  # an administrator, if a URL names no user
    for variable in ("PGDATABASE", "PGPASSWORD", "PGSERVICE", "POSTGRES_ENABLE_DB_FUNCTIONS"):
        monkeypatch.delenv(variable, raising=False)


def create_billing(administrator: Connection) -> None:
    """Create an empty database `billing` and its owner."""
    administrator.execute("CREATE ROLE billing LOGIN")
    administrator.execute("CREATE DATABASE billing OWNER billing")


def execute_sql_of_the_page(heading: str) -> None:
    """Execute the SQL of a section as an administrator."""
    (block,) = (block for block in section(ON_POSTGRES, heading) if block.language == "sql")
    with psycopg.connect("postgresql:///billing") as administrator:
        administrator.execute(block.text.encode())


@contextmanager
def copy_of_database(server: Server, template: str) -> Generator[None]:
    """Create the database `billing` as a copy; drop it, and new roles and memberships, at the end."""
    with closing(server.database.connect()) as connection:
        connection.execute(f"CREATE DATABASE billing OWNER billing TEMPLATE {template}".encode())
        roles = set(connection.execute(SELECT_ROLES.encode()).fetchall())
        memberships = set(connection.execute(SELECT_MEMBERSHIPS.encode()).fetchall())
        yield
        connection.execute(b"DROP DATABASE billing WITH (FORCE)")
        for (role,) in set(connection.execute(SELECT_ROLES.encode()).fetchall()) - roles:
            connection.execute(f'DROP ROLE "{role}"'.encode())
        for role, member in set(connection.execute(SELECT_MEMBERSHIPS.encode()).fetchall()) - memberships:
            connection.execute(f"REVOKE {role} FROM {member}".encode())
