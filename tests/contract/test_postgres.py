"""Guarantees of PostgreSQL beyond the contract: stored events are immutable, and positions have no gaps."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg import sql
from tallybook.application import Metering, TallybookError
from tallybook.application.storage.postgres.settings import PostgresSettings
from tallybook.application.storage.url import resolve_store

from ..postgres import Database, Server
from .histories import END, START, configure, query_results, record_history
from .persistent_stores import PostgresSchema, SQLiteFile, Step, StoreRejected
from .stores import ANY_TIME, NOW

IMMEDIATE_SECONDS = 3
PERIOD = START, START.replace(day=20)
HEAD = 29
INSERT = "INSERT INTO stored_events (position, originator_id, originator_version, topic, state)"


@pytest.fixture
def recorded_store(postgres_store: PostgresSchema) -> PostgresSchema:
    """Return a ledger of 29 events."""
    with postgres_store.metering() as metering:
        record_history(metering, 20)
        query_results(metering)
    assert stored_rows(postgres_store)[-1][0] == HEAD
    return postgres_store


def stored_rows(store: PostgresSchema) -> list[tuple[object, ...]]:
    """Return all rows of the ledger."""
    return list(store.ledger_rows("SELECT * FROM stored_events ORDER BY position"))


def opening_error(url: str) -> TallybookError:
    """Return the error of opening a ledger, which is raised within a few seconds."""
    started_at = time.monotonic()
    with pytest.raises(TallybookError) as exc_info:
        Metering.open(url).close()
    assert time.monotonic() - started_at < IMMEDIATE_SECONDS
    return exc_info.value


# --- stored events are never changed --------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stored_events SET state = '{}' WHERE position = 5",
        "UPDATE stored_events SET originator_id = 'event/x'",
        "UPDATE stored_events SET position = position + 1000",
        "DELETE FROM stored_events WHERE position = 5",
        "DELETE FROM stored_events",
        "TRUNCATE stored_events",
        "TRUNCATE stored_events CASCADE",
        f"{INSERT} SELECT * FROM stored_events WHERE position = 5 ON CONFLICT (position) DO UPDATE SET state = '{{}}'",
        "MERGE INTO stored_events USING (SELECT 5 AS at) AS given ON position = at WHEN MATCHED THEN DELETE",
    ],
)
def test_stored_events_cannot_be_changed_or_deleted(recorded_store: PostgresSchema, statement: str) -> None:
    """Triggers of the table reject such statements, also those of the table's owner."""
    before = stored_rows(recorded_store)
    with pytest.raises(StoreRejected, match=r"stored events are never (changed|deleted)"):
        recorded_store.execute("ledger", Step(statement))
    assert stored_rows(recorded_store) == before


def similar_events(*positions: int) -> list[tuple[object, ...]]:
    """Return copies of the event at position 5 with new identifiers and the given positions."""
    return [(position, f"event/like-{index}-{position}", 1) for index, position in enumerate(positions)]


REJECTED_POSITIONS = [
    (HEAD + 2,), (0,), (-1,), (1,), (HEAD,), (HEAD + 1, HEAD + 1), (HEAD + 1, HEAD + 3), (HEAD + 2, HEAD + 3),
    (HEAD, HEAD + 1), (0, 1), (HEAD + 1, 5), (2**63 - 1,),
]  # fmt: skip


@pytest.mark.parametrize("positions", REJECTED_POSITIONS)
@pytest.mark.parametrize("by", ["INSERT", "COPY"])
def test_only_the_next_position_is_accepted(
    recorded_store: PostgresSchema, positions: tuple[int, ...], by: str
) -> None:
    """A statement with a gap, position 0, an existing position or a repeated position is rejected as a whole."""
    before = stored_rows(recorded_store)
    with pytest.raises((psycopg.IntegrityError, psycopg.DataError)):
        append(recorded_store, positions, by)
    assert stored_rows(recorded_store) == before


@pytest.mark.parametrize("by", ["INSERT", "COPY"])
@pytest.mark.parametrize("positions", [(HEAD + 1,), (HEAD + 1, HEAD + 2, HEAD + 3), (HEAD + 2, HEAD + 1)])
def test_any_writer_can_insert_the_next_positions(
    recorded_store: PostgresSchema, positions: tuple[int, ...], by: str
) -> None:
    """Any connection can append rows in any order within a statement; the application continues after them."""
    append(recorded_store, positions, by)
    with recorded_store.metering() as metering:
        receipt = metering.record("tokens", {"customer": "acme", "value": "1"})
        assert receipt.position == HEAD + len(positions) + 1
        assert metering.verify().is_equal


def append(store: PostgresSchema, positions: tuple[int, ...], by: str) -> None:
    """Store events without the application, in one statement."""
    ((topic, state),) = store.ledger_rows(
        "SELECT topic, state FROM stored_events WHERE topic = 'UsageRecorded' LIMIT 1"
    )
    rows = [(*event, topic, state) for event in similar_events(*positions)]
    with closing(store.database.connect()) as connection, connection.transaction(), connection.cursor() as cursor:
        cursor.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(store.schema)))
        if by == "COPY":
            with cursor.copy("COPY stored_events FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int8", "text", "int8", "text", "bytea"])
                for row in rows:
                    copy.write_row(row)
        else:
            values = ",".join(["(%s, %s, %s, %s, %s)"] * len(rows))
            cursor.execute(f"{INSERT} VALUES {values}".encode(), [cell for row in rows for cell in row])


def test_an_insert_does_not_use_uncommitted_positions(recorded_store: PostgresSchema) -> None:
    """Without the append lock, a writer can't insert after an uncommitted position, which may be rolled back."""
    with closing(recorded_store.database.connect()) as connection, connection.transaction(force_rollback=True):
        connection.execute(f"SET LOCAL search_path TO {recorded_store.schema}".encode())
        row = "SELECT %s, %s, 1, topic, state FROM stored_events WHERE position = 10"
        connection.execute(f"{INSERT} {row}".encode(), (HEAD + 1, "event/undecided"))
        with pytest.raises(psycopg.IntegrityError):
            append(recorded_store, (HEAD + 2,), "INSERT")
    append(recorded_store, (HEAD + 1,), "INSERT")


def test_a_user_defined_operator_does_not_bypass_the_check(recorded_store: PostgresSchema) -> None:
    """A writer can't leave a gap with a search_path in which the operator `>` is redefined."""
    before, evil = stored_rows(recorded_store), f"{recorded_store.schema}_evil"
    with closing(recorded_store.database.connect()) as connection:
        for statement in (
            f"CREATE SCHEMA {evil}",
            f"CREATE FUNCTION {evil}.never(bigint, integer) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
            f"CREATE OPERATOR {evil}.> (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = {evil}.never)",
            f"SET search_path TO {evil}, pg_catalog, {recorded_store.schema}",
        ):
            connection.execute(statement.encode())
        row = "SELECT 1000, 'event/far', 1, topic, state FROM stored_events WHERE position = 5"
        with pytest.raises(psycopg.IntegrityError):
            connection.execute(f"{INSERT} {row}".encode())
        connection.execute(f"DROP SCHEMA {evil} CASCADE".encode())
    assert stored_rows(recorded_store) == before


# --- names of any length --------------------------------------------------------------------------

UNICODE_LETTERS = "äßłжяλ中文字日本語한국어עברيةไทย😀𝄞€/%:'\"\\ "


def long_name(seed: int, length: int = 5_000) -> str:
    """Return random letters of many scripts; names of different seeds start differently."""
    rng = random.Random(seed)
    return "".join(
        rng.choice(UNICODE_LETTERS) if rng.random() < 0.2 else chr(rng.randrange(0x4E00, 0x9FFF)) for _ in range(length)
    )


def test_names_and_dimension_values_of_any_length_are_counted(postgres_store: PostgresSchema) -> None:
    """Customers and dimension values of 5,000 letters exceed the limit of an index entry. They can be recorded,
    queried, closed and reopened like short ones."""
    customers = {long_name(seed).strip() or "x": seed for seed in (1, 2, 3)}
    regions = [long_name(seed) for seed in (11, 12)]
    with postgres_store.metering() as metering:
        configure(metering)
        for customer, value in customers.items():
            metering.record("tokens", {"customer": customer, "value": str(value)}, timestamp=START)
            for region in (*regions, regions[0]):
                metering.record("jobs", {"customer": customer, "value": "1", "region": region}, timestamp=START)
        assert {one.customer: one.sum for one in metering.totals("tokens", START, END)} == customers
        for customer, value in customers.items():
            assert metering.total("jobs", customer, START, END).value == len(regions)
            explained = metering.explain("tokens", customer, START, END)
            assert [(one.customer, one.value) for one in explained.events] == [(customer, value)]
            closed = metering.periods.close("tokens", customer, *PERIOD)
            assert (closed.customer, closed.quantity) == (customer, value)
        first = next(iter(customers))
        metering.periods.reopen("tokens", first, *PERIOD, reason="a test", by="ops")
        closed_again = metering.periods.close("tokens", first, *PERIOD)
        assert (closed_again.customer, closed_again.quantity) == (first, customers[first])
        closed_periods = metering.periods.list("tokens")
        assert sorted(one.quantity for one in closed_periods) == sorted(customers.values())
        assert metering.periods.list("tokens", first)[0].customer == first
        assert metering.verify().is_equal


def test_long_names_that_differ_at_their_end_are_two(postgres_store: PostgresSchema) -> None:
    """Long names are compared as a whole."""
    common = long_name(5, 4_999)
    with postgres_store.metering() as metering:
        configure(metering)
        for end in "ab":
            for region in "cd":
                payload = {"customer": common + end, "value": "1", "region": common + region}
                metering.record("jobs", payload, timestamp=START)
        totals = metering.totals("jobs", START, END)
        assert {(total.customer, total.value) for total in totals} == {(common + "a", 2), (common + "b", 2)}
        for end in "ab":
            assert metering.periods.close("jobs", common + end, *PERIOD).quantity == 2
        assert len(metering.periods.list("jobs")) == 2


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


# --- equality with SQLite -------------------------------------------------------------------------


def test_the_same_history_is_the_same_bytes_on_both_stores(
    postgres_store: PostgresSchema, file_store: SQLiteFile, tmp_path: Path
) -> None:
    """Stored events, digests of the read models, closed periods and checkpoint roots are equal."""
    results: list[object] = []
    for store in (postgres_store, file_store):
        folder = tmp_path / store.schema if isinstance(store, PostgresSchema) else tmp_path / "file"
        folder.mkdir()
        with store.metering() as metering:
            record_history(metering, 60)
            metering.periods.close("tokens", "acme", *PERIOD)
            metering.rules.change("jobs", {"formula": "sum", "dimension_keys": []}, reason="a test")
            metering.record("tokens", {"customer": "zoë 日本", "value": "0.001"}, identifier="ä/ö")
            queried = query_results(metering)
            verified = metering.verify()
            checkpoint = metering.checkpoints.create(folder / "usage.seals", name="usage")
            checked = metering.checkpoints.verify(folder / "usage.seals") if hasattr(metering, "verify_seals") else None
        rows = store.ledger_rows("SELECT * FROM stored_events ORDER BY position")
        tables = [(table.table, table.rows, table.digest, table.is_equal) for table in verified.tables]
        results.append((list(rows), queried, tables, checkpoint, checked))
    assert results[0] == results[1]


# --- closing --------------------------------------------------------------------------------------


def test_closing_leaves_no_connection_open(postgres_store: PostgresSchema) -> None:
    """This holds after any operation, and if opening the ledger raised an error."""
    name = f"test-{postgres_store.schema}"
    url = f"{postgres_store.url}&application_name={quote(name)}"
    with Metering.open(url, policy=ANY_TIME, clock=lambda: NOW) as metering:
        record_history(metering, 10)
        query_results(metering)
        metering.generations.promote(metering.generations.rebuild().number)
        assert metering.verify().is_equal
        assert connections(postgres_store, name) > 0
    metering.close()
    assert_no_connections(postgres_store, name)
    postgres_store.corrupt_read_models("UPDATE read_models SET version = 1000")
    assert opening_error(url).code == "unsupported_schema_version"
    assert_no_connections(postgres_store, name)


def connections(store: PostgresSchema, name: str) -> int:
    """Return the number of connections with an application name."""
    return store.ledger_rows("SELECT count(*) FROM pg_stat_activity WHERE application_name = ?", name)[0][0]


def assert_no_connections(store: PostgresSchema, name: str) -> None:
    """Check that no connection remains, and wait until the server has noticed."""
    deadline = time.monotonic() + IMMEDIATE_SECONDS
    while connections(store, name) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert connections(store, name) == 0


def test_a_closed_ledger_is_reported_as_closed(recorded_store: PostgresSchema) -> None:
    """This applies to queries and commands."""
    metering = recorded_store.open()
    metering.close()
    for operation in (
        metering.meters.list,
        lambda: query_results(metering),
        lambda: metering.record("tokens", {"customer": "acme"}),
    ):
        with pytest.raises(TallybookError, match="was closed") as exc_info:
            operation()
        assert exc_info.value.code == "ledger_unavailable"


KILLED_PROGRAM = """
import os, signal, sys
from tallybook.application import Metering
with Metering.open(sys.argv[1]) as metering:
    metering.verify(lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_the_temporary_tables_of_a_killed_verification_are_dropped(recorded_store: PostgresSchema) -> None:
    """A verification uses temporary tables, which the server drops with the connection."""
    name = f"killed-{recorded_store.schema}"
    before = recorded_store.list_objects()
    url = f"{recorded_store.url}&application_name={quote(name)}"
    killed = subprocess.run([sys.executable, "-c", KILLED_PROGRAM, url], timeout=60, check=False)
    assert killed.returncode < 0
    assert_no_connections(recorded_store, name)
    assert recorded_store.list_objects() == before


@pytest.mark.parametrize("table", ["usage", "totals"])
def test_a_changed_dimension_key_is_rejected_or_detected(recorded_store: PostgresSchema, table: str) -> None:
    """A wrong value of the only column that SQLite doesn't have is rejected by the table or found by verification."""
    with recorded_store.metering() as metering:
        query_results(metering)
        try:
            recorded_store.corrupt_read_models(f"UPDATE {table}_1 SET dimensions_key = dimensions_key || 'x'")
        except StoreRejected:
            return
        assert not metering.verify().is_equal


RECORD_SETTING_SQL = """
CREATE TABLE {schema}.seen (setting text);
CREATE FUNCTION {schema}.see() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO {schema}.seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
CREATE TRIGGER see AFTER INSERT ON {schema}.stored_events EXECUTE FUNCTION {schema}.see();
"""


@pytest.mark.parametrize(
    ("configured", "effective"), [("off", "on"), ("on", "on"), ("local", "local"), ("remote_apply",) * 2]
)
def test_acknowledged_writes_are_durable_with_any_settings_of_the_user(
    postgres: Database, configured: str, effective: str
) -> None:
    """A commit always waits for the local disk. Settings that wait for standbys are not changed."""
    url = f"{postgres.fresh_url()}&options=-c%20synchronous_commit%3D{configured}"
    schema = sql.Identifier(PostgresSettings.parse(url).schema_name)
    with Metering.open(url) as metering, closing(postgres.connect()) as connection:
        connection.execute(sql.SQL(RECORD_SETTING_SQL).format(schema=schema))
        configure(metering)
        metering.record("tokens", {"customer": "acme", "value": "1"})
        settings = connection.execute(sql.SQL("SELECT DISTINCT setting FROM {}.seen").format(schema)).fetchall()
    assert settings == [(effective,)]


def test_verifying_fails_immediately_if_its_connections_are_lost(
    recorded_store: PostgresSchema, postgres: Database
) -> None:
    """The temporary tables are lost with the connections, so a retry is useless."""
    mine = f"verify {recorded_store.schema}"
    settings = PostgresSettings.parse(recorded_store.url).model_copy(update={"parameters": {"application_name": mine}})
    with Metering.open(settings, policy=ANY_TIME, clock=lambda: NOW) as metering:

        def drop_connections(_: object) -> None:
            with closing(postgres.connect()) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", (mine,)
                )

        started_at = time.monotonic()
        with pytest.raises(TallybookError) as exc_info:
            metering.verify(drop_connections)
        assert exc_info.value.code == "ledger_unavailable"
        assert time.monotonic() - started_at < settings.timeout_seconds / 2
        assert metering.verify().is_equal
