"""What PostgreSQL promises beyond the contract: events that nobody can change, and positions without gaps."""

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
from tallybook.application.ledger_url import locate
from tallybook.application.stores.postgres_settings import PostgresSettings

from ..postgres import Database, Server
from .histories import END, START, answers, configure, record_history
from .kept_stores import PostgresSchema, Refused, SQLiteFile, Step
from .stores import ANY_TIME, NOW

AT_ONCE_SECONDS = 3
PERIOD = START, START.replace(day=20)
HEAD = 29
INSERT = "INSERT INTO stored_events (position, originator_id, originator_version, topic, state)"


@pytest.fixture
def recorded(postgres_store: PostgresSchema) -> PostgresSchema:
    """A ledger of 29 events."""
    with postgres_store.metering() as metering:
        record_history(metering, 20)
        answers(metering)
    assert stored(postgres_store)[-1][0] == HEAD
    return postgres_store


def stored(store: PostgresSchema) -> list[tuple[object, ...]]:
    """All rows of the ledger."""
    return list(store.ledger_rows("SELECT * FROM stored_events ORDER BY position"))


def refusal(url: str) -> TallybookError:
    """How opening a ledger is refused, which takes no longer than a moment."""
    began = time.monotonic()
    with pytest.raises(TallybookError) as refused:
        Metering.open(url).close()
    assert time.monotonic() - began < AT_ONCE_SECONDS
    return refused.value


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
def test_stored_events_cannot_be_changed_or_deleted(recorded: PostgresSchema, statement: str) -> None:
    """A plain connection of the owner's is refused by the table itself, and changes nothing."""
    before = stored(recorded)
    with pytest.raises(Refused, match=r"stored events are never (changed|deleted)"):
        recorded.execute("ledger", Step(statement))
    assert stored(recorded) == before


def likeness(*positions: int) -> list[tuple[object, ...]]:
    """Events like the one at position 5, under identifiers of their own, at other positions."""
    return [(position, f"event/like-{place}-{position}", 1) for place, position in enumerate(positions)]


REFUSED_POSITIONS = [
    (HEAD + 2,), (0,), (-1,), (1,), (HEAD,), (HEAD + 1, HEAD + 1), (HEAD + 1, HEAD + 3), (HEAD + 2, HEAD + 3),
    (HEAD, HEAD + 1), (0, 1), (HEAD + 1, 5), (2**63 - 1,),
]  # fmt: skip


@pytest.mark.parametrize("positions", REFUSED_POSITIONS)
@pytest.mark.parametrize("by", ["INSERT", "COPY"])
def test_no_position_but_the_next_is_taken(recorded: PostgresSchema, positions: tuple[int, ...], by: str) -> None:
    """A gap, 0, a position that is taken or one given twice: all of the statement is refused."""
    before = stored(recorded)
    with pytest.raises((psycopg.IntegrityError, psycopg.DataError)):
        append(recorded, positions, by)
    assert stored(recorded) == before


@pytest.mark.parametrize("by", ["INSERT", "COPY"])
@pytest.mark.parametrize("positions", [(HEAD + 1,), (HEAD + 1, HEAD + 2, HEAD + 3), (HEAD + 2, HEAD + 1)])
def test_the_next_positions_can_be_taken_by_anyone(
    recorded: PostgresSchema, positions: tuple[int, ...], by: str
) -> None:
    """A plain connection may append, in whatever order it gives them; the application goes on after that."""
    append(recorded, positions, by)
    with recorded.metering() as metering:
        receipt = metering.record("tokens", {"customer": "acme", "value": "1"})
        assert receipt.position == HEAD + len(positions) + 1
        assert metering.verify().is_equal


def append(store: PostgresSchema, positions: tuple[int, ...], by: str) -> None:
    """Store events past the application, all in one statement."""
    ((topic, state),) = store.ledger_rows(
        "SELECT topic, state FROM stored_events WHERE topic = 'UsageRecorded' LIMIT 1"
    )
    rows = [(*one, topic, state) for one in likeness(*positions)]
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


def test_an_appended_statement_takes_nothing_that_is_not_committed_yet(recorded: PostgresSchema) -> None:
    """Somebody who appends without the lock can't store after what another has not committed, whose place may stay
    empty."""
    with closing(recorded.database.connect()) as one, one.transaction(force_rollback=True):
        one.execute(f"SET LOCAL search_path TO {recorded.schema}".encode())
        row = "SELECT %s, %s, 1, topic, state FROM stored_events WHERE position = 10"
        one.execute(f"{INSERT} {row}".encode(), (HEAD + 1, "event/undecided"))
        with pytest.raises(psycopg.IntegrityError):
            append(recorded, (HEAD + 2,), "INSERT")
    append(recorded, (HEAD + 1,), "INSERT")


def test_an_operator_of_somebody_s_own_lets_nobody_pass(recorded: PostgresSchema) -> None:
    """Who may append can't leave a gap by a search_path in which nothing is greater than anything."""
    before, evil = stored(recorded), f"{recorded.schema}_evil"
    with closing(recorded.database.connect()) as one:
        for statement in (
            f"CREATE SCHEMA {evil}",
            f"CREATE FUNCTION {evil}.never(bigint, integer) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
            f"CREATE OPERATOR {evil}.> (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = {evil}.never)",
            f"SET search_path TO {evil}, pg_catalog, {recorded.schema}",
        ):
            one.execute(statement.encode())
        row = "SELECT 1000, 'event/far', 1, topic, state FROM stored_events WHERE position = 5"
        with pytest.raises(psycopg.IntegrityError):
            one.execute(f"{INSERT} {row}".encode())
        one.execute(f"DROP SCHEMA {evil} CASCADE".encode())
    assert stored(recorded) == before


# --- names of any length --------------------------------------------------------------------------

LETTERS = "äßłжяλ中文字日本語한국어עברيةไทย😀𝄞€/%:'\"\\ "


def long_name(seed: int, length: int = 5_000) -> str:
    """Letters of many scripts, of which no two names begin alike."""
    rng = random.Random(seed)
    return "".join(
        rng.choice(LETTERS) if rng.random() < 0.2 else chr(rng.randrange(0x4E00, 0x9FFF)) for _ in range(length)
    )


def test_names_and_dimension_values_of_any_length_are_counted(postgres_store: PostgresSchema) -> None:
    """Customers and dimension values of 5,000 letters that no index can hold: recorded, asked for, closed and reopened
    as short ones are."""
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
            closed = metering.close_period("tokens", customer, *PERIOD)
            assert (closed.customer, closed.quantity) == (customer, value)
        first = next(iter(customers))
        metering.reopen_period("tokens", first, *PERIOD, reason="a test", by="ops")
        again = metering.close_period("tokens", first, *PERIOD)
        assert (again.customer, again.quantity) == (first, customers[first])
        standing = metering.closed_periods("tokens")
        assert sorted(one.quantity for one in standing) == sorted(customers.values())
        assert metering.closed_periods("tokens", first)[0].customer == first
        assert metering.verify().is_equal


def test_long_names_that_differ_at_their_end_are_two(postgres_store: PostgresSchema) -> None:
    """Neither is cut."""
    common = long_name(5, 4_999)
    with postgres_store.metering() as metering:
        configure(metering)
        for end in "ab":
            for region in "cd":
                payload = {"customer": common + end, "value": "1", "region": common + region}
                metering.record("jobs", payload, timestamp=START)
        totals = metering.totals("jobs", START, END)
        assert {(one.customer, one.value) for one in totals} == {(common + "a", 2), (common + "b", 2)}
        for end in "ab":
            assert metering.close_period("jobs", common + end, *PERIOD).quantity == 2
        assert len(metering.closed_periods("jobs")) == 2


# --- opening --------------------------------------------------------------------------------------


def made(store: PostgresSchema) -> list[tuple[object, ...]]:
    """All that was ever made in the two schemas, and when."""
    return list(
        store.ledger_rows(
            "SELECT nspname, relname, pg_class.oid::bigint, relfilenode::bigint FROM pg_class JOIN pg_namespace"
            " ON relnamespace = pg_namespace.oid WHERE starts_with(nspname, ?) ORDER BY 1, 2",
            store.schema,
        )
    )


def test_a_second_opening_makes_nothing_anew(recorded: PostgresSchema) -> None:
    """All tables are the ones that were there."""
    before = made(recorded)
    with recorded.opened() as metering:
        answers(metering)
    assert made(recorded) == before
    assert len(before) > 10


def test_threads_that_open_an_empty_schema_at_once_all_open_one_ledger(postgres_store: PostgresSchema) -> None:
    """One makes the tables, and the others use them."""
    together = threading.Barrier(6)
    heard: list[object] = []

    def begin(number: int) -> None:
        together.wait()
        try:
            with postgres_store.opened() as metering:
                metering.configure_meter("tokens", customer_key="customer")
                metering.record("tokens", {"customer": "acme", "value": str(number)}, timestamp=START)
                heard.append(metering.total("tokens", "acme", *PERIOD).count > 0)
        except BaseException as failure:
            heard.append(failure)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == [True] * 6
    with postgres_store.opened() as metering:
        assert metering.total("tokens", "acme", *PERIOD).sum == sum(range(6))


OPENING = """
import sys
from tallybook.application import Metering
with Metering.open(sys.argv[1]) as metering:
    metering.configure_meter("tokens", customer_key="customer")
    metering.record("tokens", {"customer": "acme", "value": "1"})
"""


def test_processes_that_open_an_empty_schema_at_once_all_open_one_ledger(postgres_store: PostgresSchema) -> None:
    """As web workers do at the first deployment."""
    processes = [
        subprocess.Popen([sys.executable, "-c", OPENING, postgres_store.url], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in processes] == [("", 0)] * 4
    with postgres_store.opened() as metering:
        assert metering.catch_up() == 5


@pytest.mark.parametrize(("part", "table"), [("", "ledger"), ("_views", "read_models")])
def test_tables_of_a_later_version_are_refused(recorded: PostgresSchema, part: str, table: str) -> None:
    """They are left as they are."""
    with closing(recorded.database.connect()) as connection:
        connection.execute(f"UPDATE {recorded.schema}{part}.{table} SET version = 1000".encode())
    before = made(recorded)
    refused = refusal(recorded.url)
    assert (refused.code, refused.field) == ("newer_schema", "url")
    assert made(recorded) == before


def test_read_models_of_an_earlier_version_are_made_anew(recorded: PostgresSchema) -> None:
    """They lose nothing by that."""
    with recorded.opened() as metering:
        before = answers(metering)
    recorded.damage_views("UPDATE read_models SET version = 0")
    with recorded.opened() as metering:
        assert answers(metering) == before
        assert metering.verify().is_equal


FOREIGN = [
    ("", "stored_events (id bigint)"),
    ("", "ledger (account text, amount numeric)"),
    ("", "ledger (version text)"),
    ("", "appending (id bigint)"),
    ("_views", "generations (id bigint)"),
    ("_views", "read_models (name text)"),
    ("_views", "tracking (parcel text)"),
    ("_views", "holder (id bigint)"),
]


@pytest.mark.parametrize(("part", "table"), FOREIGN)
def test_tables_of_somebody_else_are_refused(postgres_store: PostgresSchema, part: str, table: str) -> None:
    """A schema with a table that has a name of ours and isn't ours is no ledger, and is left as it is."""
    name = table.partition(" ")[0]
    with closing(postgres_store.database.connect()) as connection:
        connection.execute(f"CREATE SCHEMA {postgres_store.schema}{part}".encode())
        connection.execute(f"CREATE TABLE {postgres_store.schema}{part}.{table}".encode())
        refused = refusal(postgres_store.url)
        assert (refused.code, refused.field) == ("not_a_ledger", "url")
        assert name in refused.message
        connection.execute(f"SELECT * FROM {postgres_store.schema}{part}.{name}".encode())


def test_a_table_of_somebody_else_s_is_not_taken_for_what_is_kept(recorded: PostgresSchema) -> None:
    """The ledger itself has no need of that name, and goes on."""
    recorded.ledger_rows("CREATE TABLE kept AS SELECT 7 AS paid")
    with recorded.opened() as metering:
        with pytest.raises(TallybookError, match="'kept'") as refused:
            metering.keeper()
        assert (refused.value.code, refused.value.field) == ("not_a_ledger", "url")
        assert metering.verify().is_equal
    assert recorded.ledger_rows("SELECT * FROM kept") == [(7,)]


def test_other_tables_in_its_schemas_are_left_alone(postgres_store: PostgresSchema) -> None:
    """Somebody's invoices stay where they are, whatever is made or made anew beside them."""
    with closing(postgres_store.database.connect()) as connection:
        for part in ("", "_views"):
            connection.execute(f"CREATE SCHEMA {postgres_store.schema}{part}".encode())
            connection.execute(f"CREATE TABLE {postgres_store.schema}{part}.invoices AS SELECT 7 AS paid".encode())
            connection.execute(f"CREATE TABLE {postgres_store.schema}{part}.usage_reports AS SELECT 7 AS paid".encode())
        with postgres_store.opened() as metering:
            record_history(metering, 10)
            answers(metering)
        postgres_store.damage_views("UPDATE read_models SET version = 0")
        with postgres_store.opened() as metering:
            answers(metering)
            metering.promote(metering.rebuild().number)
            metering.drop_generation(1)
        for part in ("", "_views"):
            for table in ("invoices", "usage_reports"):
                paid = connection.execute(f"SELECT paid FROM {postgres_store.schema}{part}.{table}".encode()).fetchone()
                assert paid == (7,)


@pytest.mark.parametrize(
    "schema",
    [
        "Usage Ledger",
        "select",
        'with "quotes"',
        "it's",
        "{braces}",
        "a+b&c=d",
        "$1",
        "back\\slash",
        "a.b",
        "日本",
        "x" * 57,
        "ä" * 28,
    ],
)
def test_a_schema_may_have_any_name(postgres: Database, schema: str) -> None:
    """Spaces, capitals, quotes, words of SQL; as long as its read models' schema has a name that PostgreSQL holds."""
    store = PostgresSchema(
        url=postgres.at(quote(schema)), place=locate(postgres.at(quote(schema))), database=postgres, schema=schema
    )
    try:
        with store.opened() as metering:
            record_history(metering, 10)
            before = answers(metering)
            metering.promote(metering.rebuild().number)
            assert metering.verify().is_equal
        store.delete_views()
        with store.opened() as metering:
            assert answers(metering) == before
        assert stored(store)
    finally:
        store.drop()


@pytest.mark.parametrize(
    "query",
    [
        "scheme=a", "sslmod=require", "max_connection=5", "host=%00", "schema=", "schema=a&schema=b", "schema=a%00b",
        "schema=pg_toast", "schema=100%25", "schema=what%3F", f"schema={'x' * 58}", f"schema={quote('ä' * 29)}",
    ],
)  # fmt: skip
def test_parameters_that_nobody_knows_are_refused(query: str) -> None:
    """Before anything is connected to."""
    refused = refusal(f"postgresql://postgres:sesame@/postgres?{query}")
    assert (refused.code, refused.field) == ("invalid_ledger_url", "url")
    assert "sesame" not in f"{refused!r} {refused} {refused.as_dict()}"


@pytest.mark.parametrize("name", ["", "x" * 58, "ä" * 29, "a\0b", "PG_catalog", "100%", "what?"])
def test_settings_have_a_schema_that_postgresql_can_hold(name: str) -> None:
    """As in a URL: by its bytes."""
    with pytest.raises(ValueError, match="57 bytes"):
        PostgresSettings(schema_name=name)


# --- servers that don't answer --------------------------------------------------------------------


def test_an_unknown_database_is_unavailable(postgres: Database) -> None:
    """Told at once, by its name."""
    url = urlsplit(postgres.url)._replace(path="/nowhere").geturl()
    refused = refusal(url)
    assert refused.code == "ledger_unavailable"
    assert "nowhere" in refused.message


@pytest.mark.parametrize(
    "place", ["postgres:sesame@/postgres?host=/nowhere", "postgres:sesame@127.0.0.1:1/postgres",
              "postgres:sesame@nowhere.invalid/postgres"],
)  # fmt: skip
def test_a_server_that_is_not_there_is_unavailable(place: str) -> None:
    """Told at once, with no password."""
    refused = refusal(f"postgresql://{place}")
    assert refused.code == "ledger_unavailable"
    assert "sesame" not in f"{refused!r} {refused} {refused.as_dict()}"


@pytest.fixture
def guarded() -> Iterator[Server]:
    """A server that asks for passwords of the user `meter`."""
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


def test_a_wrong_password_is_unavailable_and_shown_nowhere(guarded: Server) -> None:
    """Neither the wrong one nor the right one, which opens the ledger."""
    place = f"/postgres?host={guarded.folder}"
    for user in ("meter:abracadabra", "meter"):
        refused = refusal(f"postgresql://{user}@{place}")
        assert refused.code == "ledger_unavailable"
        assert "password" in refused.message
        assert "abracadabra" not in f"{refused!r} {refused} {refused.as_dict()}"
    url = f"postgresql://meter:{quote('open sesame')}@{place}"
    with Metering.open(url) as metering:
        assert "sesame" not in repr(vars(metering._ledger))  # pyright: ignore[reportPrivateUsage]
        metering.configure_meter("tokens")
    with Metering.open(url) as metering:
        assert [meter.event_name for meter in metering.meters()] == ["tokens"]


def test_a_database_that_is_not_in_utf8_is_refused(postgres: Database) -> None:
    """Before anything is made in it."""
    with closing(postgres.connect()) as connection:
        connection.execute("DROP DATABASE IF EXISTS tallybook_latin")
        connection.execute("CREATE DATABASE tallybook_latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            url = urlsplit(postgres.url)._replace(path="/tallybook_latin").geturl()
            refused = refusal(url)
            assert refused.code == "ledger_unavailable"
            assert "UTF8" in refused.message
            with closing(psycopg.connect(url)) as latin:
                assert latin.execute("SELECT to_regnamespace('tallybook')").fetchone() == (None,)
        finally:
            connection.execute("DROP DATABASE tallybook_latin WITH (FORCE)")


@pytest.mark.parametrize("value", ["y", "yes", "1", "true", "on", "TRUE"])
def test_the_library_s_way_of_storing_by_functions_is_refused(
    postgres_store: PostgresSchema, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """It takes no lock, and readers miss events that are committed late."""
    monkeypatch.setenv("POSTGRES_ENABLE_DB_FUNCTIONS", value)
    refused = refusal(postgres_store.url)
    assert refused.code == "ledger_unavailable"
    assert "POSTGRES_ENABLE_DB_FUNCTIONS" in refused.message
    monkeypatch.setenv("POSTGRES_ENABLE_DB_FUNCTIONS", "")
    postgres_store.opened().close()


# --- the same as on SQLite ------------------------------------------------------------------------


def test_the_same_history_is_the_same_bytes_on_both_stores(
    postgres_store: PostgresSchema, file_store: SQLiteFile, tmp_path: Path
) -> None:
    """Stored events, the digests of the read models, closed periods, and the roots of seals."""
    said: list[object] = []
    for store in (postgres_store, file_store):
        folder = tmp_path / store.schema if isinstance(store, PostgresSchema) else tmp_path / "file"
        folder.mkdir()
        with store.metering() as metering:
            record_history(metering, 60)
            metering.close_period("tokens", "acme", *PERIOD)
            metering.change_rules("jobs", {"formula": "sum", "dimension_keys": []}, reason="a test")
            metering.record("tokens", {"customer": "zoë 日本", "value": "0.001"}, identifier="ä/ö")
            asked = answers(metering)
            verified = metering.verify()
            seal = metering.seal(folder / "usage.seals", name="usage")
            checked = metering.verify_seals(folder / "usage.seals") if hasattr(metering, "verify_seals") else None
        rows = store.ledger_rows("SELECT * FROM stored_events ORDER BY position")
        tables = [(one.table, one.rows, one.digest, one.is_equal) for one in verified.tables]
        said.append((list(rows), asked, tables, seal, checked))
    assert said[0] == said[1]


# --- closing --------------------------------------------------------------------------------------


def test_closing_leaves_no_connection_open(postgres_store: PostgresSchema) -> None:
    """Whatever was done; also where opening was refused."""
    name = f"test-{postgres_store.schema}"
    url = f"{postgres_store.url}&application_name={quote(name)}"
    with Metering.open(url, policy=ANY_TIME, clock=lambda: NOW) as metering:
        record_history(metering, 10)
        answers(metering)
        metering.promote(metering.rebuild().number)
        assert metering.verify().is_equal
        assert connections(postgres_store, name) > 0
    metering.close()
    assert_none(postgres_store, name)
    postgres_store.damage_views("UPDATE read_models SET version = 1000")
    assert refusal(url).code == "newer_schema"
    assert_none(postgres_store, name)


def connections(store: PostgresSchema, name: str) -> int:
    """How many connections of a program there are."""
    return store.ledger_rows("SELECT count(*) FROM pg_stat_activity WHERE application_name = ?", name)[0][0]


def assert_none(store: PostgresSchema, name: str) -> None:
    """Hold that no connection is left, once the server has noticed."""
    deadline = time.monotonic() + AT_ONCE_SECONDS
    while connections(store, name) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert connections(store, name) == 0


def test_a_closed_ledger_says_so(recorded: PostgresSchema) -> None:
    """Whatever is asked of it."""
    metering = recorded.opened()
    metering.close()
    for ask in (metering.meters, lambda: answers(metering), lambda: metering.record("tokens", {"customer": "acme"})):
        with pytest.raises(TallybookError, match="was closed") as refused:
            ask()
        assert refused.value.code == "ledger_unavailable"


KILLED = """
import os, signal, sys
from tallybook.application import Metering
with Metering.open(sys.argv[1]) as metering:
    metering.verify(lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_what_a_killed_verification_was_folding_is_gone_with_its_connection(recorded: PostgresSchema) -> None:
    """Its tables were temporary."""
    name = f"killed-{recorded.schema}"
    before = recorded.belongings()
    url = f"{recorded.url}&application_name={quote(name)}"
    killed = subprocess.run([sys.executable, "-c", KILLED, url], timeout=60, check=False)
    assert killed.returncode < 0
    assert_none(recorded, name)
    assert recorded.belongings() == before


@pytest.mark.parametrize("table", ["usage", "totals"])
def test_a_changed_key_of_dimension_values_is_refused_or_found(recorded: PostgresSchema, table: str) -> None:
    """The one column that isn't SQLite's too is never taken as right where it is wrong."""
    with recorded.metering() as metering:
        answers(metering)
        try:
            recorded.damage_views(f"UPDATE {table}_1 SET dimensions_key = dimensions_key || 'x'")
        except Refused:
            return
        assert not metering.verify().is_equal


NOTICING = """
CREATE TABLE {schema}.seen (setting text);
CREATE FUNCTION {schema}.see() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO {schema}.seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
CREATE TRIGGER see AFTER INSERT ON {schema}.stored_events EXECUTE FUNCTION {schema}.see();
"""


@pytest.mark.parametrize(("given", "used"), [("off", "on"), ("on", "on"), ("local", "local"), ("remote_apply",) * 2])
def test_what_is_acknowledged_is_on_disk_whatever_a_user_is_set_to(postgres: Database, given: str, used: str) -> None:
    """A commit that doesn't wait for the disk is not taken for one; how standbys are waited for stays as it is."""
    url = f"{postgres.fresh_url()}&options=-c%20synchronous_commit%3D{given}"
    schema = sql.Identifier(PostgresSettings.parse(url).schema_name)
    with Metering.open(url) as metering, closing(postgres.connect()) as connection:
        connection.execute(sql.SQL(NOTICING).format(schema=schema))
        configure(metering)
        metering.record("tokens", {"customer": "acme", "value": "1"})
        seen = connection.execute(sql.SQL("SELECT DISTINCT setting FROM {}.seen").format(schema)).fetchall()
    assert seen == [(used,)]


def test_verifying_says_at_once_that_its_connections_are_lost(recorded: PostgresSchema, postgres: Database) -> None:
    """Its temporary tables are gone with them, so there is nothing to wait for."""
    mine = f"verify {recorded.schema}"
    settings = PostgresSettings.parse(recorded.url).model_copy(update={"parameters": {"application_name": mine}})
    with Metering.open(settings, policy=ANY_TIME, clock=lambda: NOW) as metering:

        def cut(_: object) -> None:
            with closing(postgres.connect()) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", (mine,)
                )

        began = time.monotonic()
        with pytest.raises(TallybookError) as refused:
            metering.verify(cut)
        assert refused.value.code == "ledger_unavailable"
        assert time.monotonic() - began < settings.timeout_seconds / 2
        assert metering.verify().is_equal
