"""Guarantees of PostgreSQL beyond the contract: names of any length, the bytes of SQLite, and closing."""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from psycopg import sql
from tallybook.application import Metering, TallybookError
from tallybook.application.storage.postgres.settings import PostgresSettings

from ..postgres import Database
from .histories import END, START, configure, query_results, record_history
from .persistent_stores import PostgresSchema, SQLiteFile, StoreRejected
from .recorded_postgres import IMMEDIATE_SECONDS, opening_error
from .stores import ANY_TIME, NOW

PERIOD = START, START.replace(day=20)


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


RECORD_SETTING_OF_READ_MODELS_SQL = """
CREATE FUNCTION {read_models}.see() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO {schema}.seen VALUES (TG_ARGV[0] || ' ' || current_setting('synchronous_commit'));
        RETURN NULL;
    END $$;
CREATE TRIGGER see AFTER INSERT OR UPDATE ON {read_models}.tracking EXECUTE FUNCTION {read_models}.see('page');
CREATE TRIGGER see AFTER UPDATE OF state ON {read_models}.generations EXECUTE FUNCTION {read_models}.see('state');
"""


def test_only_pages_of_the_read_models_are_committed_without_waiting_for_the_disk(postgres: Database) -> None:
    """A page that a crash loses is projected again; a promotion that it loses would go unnoticed."""
    url = postgres.fresh_url()
    schema = PostgresSettings.parse(url).schema_name
    names = {"schema": sql.Identifier(schema), "read_models": sql.Identifier(f"{schema}_read_models")}
    with Metering.open(url) as metering, closing(postgres.connect()) as connection:

        def settings_of(action: Callable[[], object]) -> list[str]:
            action()
            rows = connection.execute(sql.SQL("DELETE FROM {schema}.seen RETURNING setting").format(**names)).fetchall()
            return sorted({setting for (setting,) in rows})

        configure(metering)
        metering.catch_up()
        connection.execute(sql.SQL(RECORD_SETTING_SQL + RECORD_SETTING_OF_READ_MODELS_SQL).format(**names))
        for project in (metering.catch_up, partial(metering.total, "tokens", "acme", START, END)):
            metering.record("tokens", {"customer": "acme", "value": "1"})
            assert settings_of(project) == ["on", "page off"]
        assert settings_of(metering.generations.rebuild) == ["page off", "state on"]
        assert settings_of(partial(metering.generations.promote, 2)) == ["state on"]


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
