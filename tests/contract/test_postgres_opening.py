"""Opening a ledger on PostgreSQL: schemas, versions, foreign tables, and servers that are unavailable."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from tallybook.application import Metering, TallybookError
from tallybook.application.storage.postgres.settings import PostgresSettings
from tallybook.application.storage.url import resolve_store

from ..postgres import Database, Server
from .histories import START, query_results, record_history
from .persistent_stores import PostgresSchema
from .recorded_postgres import opening_error, stored_rows

# --- opening --------------------------------------------------------------------------------------


def created_objects(store: PostgresSchema) -> list[tuple[object, ...]]:
    """Return all objects of the two schemas with the ids of their files."""
    return list(
        store.ledger_rows(
            "SELECT nspname, relname, pg_class.oid::bigint, relfilenode::bigint FROM pg_class JOIN pg_namespace"
            " ON relnamespace = pg_namespace.oid WHERE starts_with(nspname, ?) ORDER BY 1, 2",
            store.schema,
        )
    )


def test_a_second_opening_creates_nothing(recorded_store: PostgresSchema) -> None:
    """Tables and their files are the same after the second opening."""
    before = created_objects(recorded_store)
    with recorded_store.open() as metering:
        query_results(metering)
    assert created_objects(recorded_store) == before
    assert len(before) > 10


def test_threads_that_open_an_empty_schema_concurrently_share_one_ledger(postgres_store: PostgresSchema) -> None:
    """One thread creates the tables, and the others use them."""
    together = threading.Barrier(6)
    results: list[object] = []

    def open_ledger(number: int) -> None:
        together.wait()
        try:
            with postgres_store.open() as metering:
                metering.meters.configure("tokens", customer_key="customer")
                metering.record("tokens", {"customer": "acme", "value": str(number)}, timestamp=START)
                results.append(metering.total("tokens", "acme", *PERIOD).count > 0)
        except BaseException as failure:
            results.append(failure)

    threads = [threading.Thread(target=open_ledger, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 6
    with postgres_store.open() as metering:
        assert metering.total("tokens", "acme", *PERIOD).sum == sum(range(6))


PERIOD = START, START.replace(day=20)
OPEN_PROGRAM = """
import sys
from tallybook.application import Metering
with Metering.open(sys.argv[1]) as metering:
    metering.meters.configure("tokens", customer_key="customer")
    metering.record("tokens", {"customer": "acme", "value": "1"})
"""


def test_processes_that_open_an_empty_schema_concurrently_share_one_ledger(postgres_store: PostgresSchema) -> None:
    """Web workers do this at the first deployment."""
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN_PROGRAM, postgres_store.url], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in processes] == [("", 0)] * 4
    with postgres_store.open() as metering:
        assert metering.catch_up() == 5


@pytest.mark.parametrize(("part", "table"), [("", "ledger"), ("_read_models", "read_models")])
def test_tables_of_a_later_version_are_rejected(recorded_store: PostgresSchema, part: str, table: str) -> None:
    """The tables are not changed."""
    with closing(recorded_store.database.connect()) as connection:
        connection.execute(f"UPDATE {recorded_store.schema}{part}.{table} SET version = 1000".encode())
    before = created_objects(recorded_store)
    error = opening_error(recorded_store.url)
    assert (error.code, error.field) == ("unsupported_schema_version", "url")
    assert created_objects(recorded_store) == before


def test_read_models_of_an_earlier_version_are_rebuilt(recorded_store: PostgresSchema) -> None:
    """The results are the same after the rebuild."""
    with recorded_store.open() as metering:
        before = query_results(metering)
    recorded_store.corrupt_read_models("UPDATE read_models SET version = 0")
    with recorded_store.open() as metering:
        assert query_results(metering) == before
        assert metering.verify().is_equal


FOREIGN_TABLES = [
    ("", "stored_events (id bigint)"),
    ("", "ledger (account text, amount numeric)"),
    ("", "ledger (version text)"),
    ("", "appending (id bigint)"),
    ("_read_models", "generations (id bigint)"),
    ("_read_models", "read_models (name text)"),
    ("_read_models", "tracking (parcel text)"),
    ("_read_models", "holder (id bigint)"),
]


@pytest.mark.parametrize(("part", "table"), FOREIGN_TABLES)
def test_foreign_tables_are_rejected(postgres_store: PostgresSchema, part: str, table: str) -> None:
    """A schema with a foreign table under a name that Tallybook uses is rejected and not changed."""
    name = table.partition(" ")[0]
    with closing(postgres_store.database.connect()) as connection:
        connection.execute(f"CREATE SCHEMA {postgres_store.schema}{part}".encode())
        connection.execute(f"CREATE TABLE {postgres_store.schema}{part}.{table}".encode())
        error = opening_error(postgres_store.url)
        assert (error.code, error.field) == ("not_a_ledger", "url")
        assert name in error.message
        connection.execute(f"SELECT * FROM {postgres_store.schema}{part}.{name}".encode())


def test_a_foreign_table_is_not_used_as_the_key_value_table(recorded_store: PostgresSchema) -> None:
    """Only the key-value store raises an error; the ledger can still be used."""
    recorded_store.ledger_rows("CREATE TABLE key_values AS SELECT 7 AS paid")
    with recorded_store.open() as metering:
        with pytest.raises(TallybookError, match="'key_values'") as exc_info:
            metering.key_value_store()
        assert (exc_info.value.code, exc_info.value.field) == ("not_a_ledger", "url")
        assert metering.verify().is_equal
    assert recorded_store.ledger_rows("SELECT * FROM key_values") == [(7,)]


def test_other_tables_in_the_schemas_are_not_changed(postgres_store: PostgresSchema) -> None:
    """Tables of other applications in the same schemas are not changed, also if the read models are rebuilt."""
    with closing(postgres_store.database.connect()) as connection:
        for part in ("", "_read_models"):
            connection.execute(f"CREATE SCHEMA {postgres_store.schema}{part}".encode())
            connection.execute(f"CREATE TABLE {postgres_store.schema}{part}.invoices AS SELECT 7 AS paid".encode())
            connection.execute(f"CREATE TABLE {postgres_store.schema}{part}.usage_reports AS SELECT 7 AS paid".encode())
        with postgres_store.open() as metering:
            record_history(metering, 10)
            query_results(metering)
        postgres_store.corrupt_read_models("UPDATE read_models SET version = 0")
        with postgres_store.open() as metering:
            query_results(metering)
            metering.generations.promote(metering.generations.rebuild().number)
            metering.generations.drop(1)
        for part in ("", "_read_models"):
            for table in ("invoices", "usage_reports"):
                paid = connection.execute(f"SELECT paid FROM {postgres_store.schema}{part}.{table}".encode()).fetchone()
                assert paid == (7,)


@pytest.mark.parametrize(
    "schema",
    [
        "select",
        """Usage "Ledger" it's {braces}""",
        "a+b&c=d $1 back\\slash a.b 日本",
        "x" * 51,
        "ä" * 25,
    ],
)
def test_a_schema_may_have_any_name(postgres: Database, schema: str) -> None:
    """Spaces, capitals, quotes and SQL keywords are allowed, as long as the name of the read-model schema fits."""
    store = PostgresSchema(
        url=postgres.at(quote(schema)),
        location=resolve_store(postgres.at(quote(schema))),
        database=postgres,
        schema=schema,
    )
    try:
        with store.open() as metering:
            record_history(metering, 10)
            before = query_results(metering)
            metering.generations.promote(metering.generations.rebuild().number)
            assert metering.verify().is_equal
        store.delete_read_models()
        with store.open() as metering:
            assert query_results(metering) == before
        assert stored_rows(store)
    finally:
        store.delete()


@pytest.mark.parametrize(
    "query",
    [
        "scheme=a", "sslmod=require", "max_connection=5", "host=%00", "schema=", "schema=a&schema=b", "schema=a%00b",
        "schema=pg_toast", "schema=100%25", "schema=what%3F", f"schema={'x' * 52}", f"schema={quote('ä' * 26)}",
    ],
)  # fmt: skip
def test_unknown_parameters_are_rejected(query: str) -> None:
    """The error is raised before a connection is opened, and contains no password."""
    error = opening_error(f"postgresql://postgres:sesame@/postgres?{query}")
    assert (error.code, error.field) == ("invalid_ledger_url", "url")
    assert "sesame" not in f"{error!r} {error} {error.as_dict()}"


@pytest.mark.parametrize("name", ["", "x" * 52, "ä" * 26, "a\0b", "PG_catalog", "100%", "what?"])
def test_settings_have_a_schema_that_postgresql_can_hold(name: str) -> None:
    """The limit is in bytes, as for a schema in a URL."""
    with pytest.raises(ValueError, match="51 bytes"):
        PostgresSettings(schema_name=name)


# --- unavailable servers --------------------------------------------------------------------------


def test_an_unknown_database_is_unavailable(postgres: Database) -> None:
    """The error is raised immediately and names the database."""
    url = urlsplit(postgres.url)._replace(path="/nowhere").geturl()
    error = opening_error(url)
    assert error.code == "ledger_unavailable"
    assert "nowhere" in error.message


@pytest.mark.parametrize(
    "location", ["postgres:sesame@/postgres?host=/nowhere", "postgres:sesame@127.0.0.1:1/postgres",
              "postgres:sesame@nowhere.invalid/postgres"],
)  # fmt: skip
def test_a_missing_server_is_unavailable(location: str) -> None:
    """The error is raised immediately and contains no password."""
    error = opening_error(f"postgresql://{location}")
    assert error.code == "ledger_unavailable"
    assert "sesame" not in f"{error!r} {error} {error.as_dict()}"


@pytest.fixture
def password_server() -> Iterator[Server]:
    """Start a server that requires a password of the user `meter`."""
    with closing(Server()) as server:
        with closing(server.database.connect()) as connection:
            connection.execute("CREATE ROLE meter LOGIN PASSWORD 'open sesame'")
            connection.execute("GRANT CREATE ON DATABASE postgres TO meter")
            file = connection.execute("SHOW hba_file").fetchone()
            assert file is not None
            rules = Path(file[0])
            rules.write_text("local all meter scram-sha-256\n" + rules.read_text())
            connection.execute("SELECT pg_reload_conf()")
        yield server


def test_an_invalid_password_is_unavailable_and_never_shown(password_server: Server) -> None:
    """Errors and reprs contain neither the invalid nor the valid password."""
    location = f"/postgres?host={password_server.folder}"
    for user in ("meter:abracadabra", "meter"):
        error = opening_error(f"postgresql://{user}@{location}")
        assert error.code == "ledger_unavailable"
        assert "password" in error.message
        assert "abracadabra" not in f"{error!r} {error} {error.as_dict()}"
    url = f"postgresql://meter:{quote('open sesame')}@{location}"
    with Metering.open(url) as metering:
        assert "sesame" not in repr(vars(metering._ledger))  # pyright: ignore[reportPrivateUsage]
        metering.meters.configure("tokens")
    with Metering.open(url) as metering:
        assert [meter.event_name for meter in metering.meters.list()] == ["tokens"]


def test_a_database_that_is_not_utf8_is_rejected(postgres: Database) -> None:
    """The error is raised before a schema is created."""
    with closing(postgres.connect()) as connection:
        connection.execute("DROP DATABASE IF EXISTS tallybook_latin")
        connection.execute("CREATE DATABASE tallybook_latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            url = urlsplit(postgres.url)._replace(path="/tallybook_latin").geturl()
            error = opening_error(url)
            assert error.code == "ledger_unavailable"
            assert "UTF8" in error.message
            with closing(psycopg.connect(url)) as latin:
                assert latin.execute("SELECT to_regnamespace('tallybook')").fetchone() == (None,)
        finally:
            connection.execute("DROP DATABASE tallybook_latin WITH (FORCE)")


@pytest.mark.parametrize("value", ["y", "yes", "1", "true", "on", "TRUE"])
def test_the_library_s_database_functions_are_rejected(
    postgres_store: PostgresSchema, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """The library's functions take no append lock, so readers could miss events that are committed late."""
    monkeypatch.setenv("POSTGRES_ENABLE_DB_FUNCTIONS", value)
    error = opening_error(postgres_store.url)
    assert error.code == "ledger_unavailable"
    assert "POSTGRES_ENABLE_DB_FUNCTIONS" in error.message
    monkeypatch.setenv("POSTGRES_ENABLE_DB_FUNCTIONS", "")
    postgres_store.open().close()
