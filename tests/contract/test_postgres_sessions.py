"""Sessions on PostgreSQL: settings of the user, stalled clients, lost connections and a missing server."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from urllib.parse import quote

import pytest
from pydantic import SecretStr
from tallybook.application import LedgerUnavailable, Metering, PostgresSettings, TallybookError
from tallybook.application.storage.postgres.read_models import PostgresReadModelStore
from tallybook.application.storage.url import resolve_store
from tallybook.domain.formulas import Formula

from ..postgres import Server
from ..waiting import wait_until
from .histories import END, START, query_results, record_history
from .persistent_stores import PostgresSchema
from .stores import ANY_TIME, NOW

TIMEOUT_SECONDS = 20
SECRET = "sesame"


def open_ledger(
    store: PostgresSchema, *, timeout_seconds: float = 30, max_connections: int = 10, **user_settings: str
) -> Metering:
    """Open the ledger with settings of its user."""
    options = " ".join(f"-c {name}={value}" for name, value in user_settings.items())
    settings = PostgresSettings(
        url=SecretStr(store.database.url),
        parameters={"options": options, "application_name": store.schema},
        schema_name=store.schema,
        max_connections=max_connections,
        timeout_seconds=timeout_seconds,
    )
    return Metering.open(settings, policy=ANY_TIME, clock=lambda: NOW)


def open_read_models(store: PostgresSchema, timeout_seconds: float = 30) -> PostgresReadModelStore:
    """Open the read models without the ledger."""
    settings = PostgresSettings(
        url=SecretStr(store.database.url), schema_name=store.schema, timeout_seconds=timeout_seconds
    )
    read_models = resolve_store(settings).open_read_models(dict)
    assert isinstance(read_models, PostgresReadModelStore)
    return read_models


def connections_of(store: PostgresSchema) -> int:
    """Return the number of connections that `open_ledger` has opened for a store."""
    statement = "SELECT count(*) FROM pg_stat_activity WHERE application_name = ?"
    return store.ledger_rows(statement, store.schema)[0][0]


def test_a_connection_that_the_server_ended_for_its_idleness_is_replaced(postgres_store: PostgresSchema) -> None:
    """Any operation succeeds after that."""
    with open_ledger(postgres_store, idle_session_timeout="100ms") as metering:
        record_history(metering, 5)
        for operation in (
            metering.meters.list,
            lambda: query_results(metering),
            metering.verify,
            metering.generations.rebuild,
        ):
            wait_until(lambda: connections_of(postgres_store) == 0)
            assert operation()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "WIN1252"])
def test_text_is_utf8_with_any_client_encoding_of_the_user(postgres_store: PostgresSchema, encoding: str) -> None:
    """All text can be recorded and read."""
    with open_ledger(postgres_store, client_encoding=encoding) as metering:
        metering.meters.configure("tokens", customer_key="customer")
        metering.record("tokens", {"customer": "zoë 日本", "value": "1"}, identifier="日", timestamp=START)
        assert [total.customer for total in metering.totals("tokens", START, END)] == ["zoë 日本"]
        assert metering.verify().is_equal


def test_a_cursor_that_is_read_to_its_end_is_closed_by_the_next(postgres_store: PostgresSchema) -> None:
    """A page reads a bucket for each cancellation, so open cursors would fill the server's memory."""
    with postgres_store.metering() as metering:
        record_history(metering, 20)
        query_results(metering)
    with closing(open_read_models(postgres_store)) as views, views.read_session() as rows:
        for _ in range(3):
            assert list(rows.table_rows("usage"))
            (open_cursor,) = rows.select("SELECT count(*) FROM pg_cursors WHERE name LIKE 'rows_%'")
            assert open_cursor == (1,)


def test_two_verifications_do_not_wait_for_each_other(postgres_store: PostgresSchema) -> None:
    """Each verification has its own temporary tables, so a stalled one doesn't block another."""
    postgres_store.open().close()
    with (
        closing(open_read_models(postgres_store, timeout_seconds=0.5)) as views,
        views.temporary({}) as first,
        views.temporary({}) as second,
        first.write_session(),
        second.write_session() as rows,
    ):
        assert rows.position() == 0


def test_a_query_that_has_projected_an_event_does_not_lock_the_projection(postgres_store: PostgresSchema) -> None:
    """Its transaction goes on as one that only reads: others project and read meanwhile, and it doesn't see that."""
    with open_ledger(postgres_store) as metering, open_ledger(postgres_store, timeout_seconds=1) as other:
        record_history(metering, 5)
        metering.meters.configure("calls", formula="count", customer_key="customer")
        for client in (metering, other):
            client.total("calls", "acme", START, END)
        metering.record("calls", {"customer": "acme"}, identifier="first", timestamp=START)
        with metering.open_explanation("calls", "acme", START, END) as explanation:
            other.record("calls", {"customer": "acme"}, identifier="second", timestamp=START)
            assert other.total("calls", "acme", START, END).count == 2
            assert [event.identifier for event in explanation.events] == ["first"]
        assert metering.total("calls", "acme", START, END).count == 2


def test_threads_that_wait_for_a_promotion_share_one_connection(postgres_store: PostgresSchema) -> None:
    """Any number of waiting queries leave connections of the server to other clients."""
    with postgres_store.metering() as metering:
        record_history(metering, 20)
        query_results(metering)
    with closing(open_read_models(postgres_store)) as views, open_ledger(postgres_store, max_connections=2) as metering:
        with views.generation_lock("being slow"):
            meter = metering._ledger.meter("tokens")  # pyright: ignore[reportPrivateUsage]
            rules = meter.rules.model_copy(update={"formula": Formula.COUNT})
            meter.change_rules(rules, reason="a test", by=None, at=NOW)
            metering._ledger.append(meter.collect_events())  # pyright: ignore[reportPrivateUsage]
            results: list[object] = []
            threads = [
                threading.Thread(target=lambda: results.append(metering.total("tokens", "acme", START, END).value))
                for _ in range(20)
            ]
            for thread in threads:
                thread.start()
            time.sleep(1.5)  # the threads wait; none may open a connection of its own in the meantime
            assert connections_of(postgres_store) <= 3
        for thread in threads:
            thread.join(TIMEOUT_SECONDS)
        assert len(results) == 20
        assert len(set(results)) == 1


def test_a_projection_survives_a_stalled_projector(postgres_store: PostgresSchema) -> None:
    """It continues when the stalled projector ends, even if that takes longer than its lock timeout."""
    stop = threading.Event()
    with (
        closing(open_read_models(postgres_store)) as views,
        open_ledger(postgres_store, timeout_seconds=0.2) as metering,
    ):
        record_history(metering, 5)
        projection = threading.Thread(target=metering.run_projection, args=(stop,))
        with views.write_session():
            projection.start()
            time.sleep(1.5)  # longer than the lock timeout, several times
            assert projection.is_alive()
        wait_until(lambda: postgres_store.read_model_rows("SELECT * FROM tracking"))
        stop.set()
        projection.join(TIMEOUT_SECONDS)


STOPPED_PROGRAM = """
import sys
from datetime import UTC, datetime
from tallybook.application import Metering
from tallybook.application.storage.postgres import connection
connection.TRANSACTION_TIMEOUT_SECONDS = 3
payload = {"customer": "a" * 4_000, "value": "1"}
meter_events = [{"event_name": "tokens", "payload": payload, "timestamp": datetime.now(UTC)} for _ in range(20_000)]
with Metering.open(sys.argv[1]) as metering:
    metering.record_many(meter_events)
"""


def test_a_client_that_stalls_while_sending_is_disconnected(postgres_store: PostgresSchema) -> None:
    """Such a client holds the append lock and is not idle, so only the transaction timeout ends it."""
    with postgres_store.open() as metering, closing(postgres_store.database.connect()) as connection:
        if connection.info.server_version < 17_00_00:
            pytest.skip("limits on transactions came with PostgreSQL 17")
        metering.meters.configure("tokens", customer_key="customer")
        sending = (
            "SELECT FROM pg_stat_activity WHERE application_name = %s AND state = 'active'"
            " AND wait_event = 'ClientRead' AND query LIKE 'INSERT INTO %%stored_events%%'"
        )
        name = f"stopped-{postgres_store.schema}"
        url = f"{postgres_store.url}&application_name={quote(name)}"
        with subprocess.Popen([sys.executable, "-c", STOPPED_PROGRAM, url]) as process:
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while connection.execute(sending, (name,)).fetchone() is None:
                assert time.monotonic() < deadline
            process.send_signal(signal.SIGSTOP)
            assert metering.record("tokens", {"customer": "acme", "value": "1"}, timestamp=START).position == 2
            process.kill()
        assert metering.total("tokens", "acme", START, END).count == 1


def test_a_missing_server_is_waited_for_once() -> None:
    """A query fails within the timeout of the settings."""
    with closing(Server()) as server:
        store = PostgresSchema.create(server.database)
        with open_ledger(store, timeout_seconds=1.5) as metering:
            record_history(metering, 5)
            query_results(metering)
            server.stop_immediately()
            queried_at = time.monotonic()
            with pytest.raises(TallybookError) as exc_info:
                metering.total("tokens", "acme", START, END)
            assert exc_info.value.code == "ledger_unavailable"
            assert time.monotonic() - queried_at < 3


def test_a_dump_of_the_database_does_not_delay_the_next_generation(postgres_store: PostgresSchema) -> None:
    """A generation that could be dropped stays while its tables are locked, and no lock is waited for."""
    with open_ledger(postgres_store) as metering, closing(open_read_models(postgres_store)) as views:
        record_history(metering, 5)
        unused = metering.generations.build_candidate("tokens", {"multiplier": "2"}).number
        lock = f"BEGIN; LOCK TABLE {postgres_store.schema}_read_models.usage_{unused} IN ACCESS SHARE MODE"
        with views.datastore.dedicated_connection() as dump:
            dump.execute(lock.encode())
            started_at = time.monotonic()
            with pytest.raises(LedgerUnavailable, match="lock timeout"):
                views.drop(unused, is_awaited=False)
            assert time.monotonic() - started_at < 10
        views.drop(unused, is_awaited=False)
        assert unused not in [generation.number for generation in metering.generations.list()]
