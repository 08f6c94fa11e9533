"""A PostgreSQL server that is read-only, locked, silent, starting or gone: no call exceeds its timeout by much."""

import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from itertools import count
from typing import Any, TypeVar

import psycopg
import pytest
from tallybook.application import LedgerUnavailable, Metering, PostgresSettings, TallybookError, Unavailable
from tallybook.application.storage.postgres.connection import PostgresDatastore
from tallybook.application.storage.url import resolve_store

from ..postgres import Server
from ..waiting import wait_until
from .operations import DAY, NEXT_PERIOD, NOW, meter_event, set_up_ledger
from .tcp_proxy import TcpProxy

TIMEOUT_SECONDS = 2.0
LIMIT_SECONDS = 3 * TIMEOUT_SECONDS
"""The limit of each call: twice the timeout, and time for a slow machine."""
WAIT_SECONDS = 20
NAME = "outage"
SCHEMAS = count(1)

OPERATIONS: dict[str, Callable[[Metering], Any]] = {
    "record": lambda metering: metering.record_many([meter_event(50)]),
    "cancel": lambda metering: metering.cancel("tokens", "use-30", reason="a test"),
    "configure": lambda metering: metering.meters.configure("jobs", formula="count"),
    "close a period": lambda metering: metering.periods.close("tokens", "beta", *NEXT_PERIOD, allow_empty=True),
    "total": lambda metering: metering.total("tokens", None, DAY, NOW),
    "list meters": lambda metering: metering.meters.list(),
    "rebuild": lambda metering: metering.generations.rebuild(),
    "verify": lambda metering: metering.verify(),
    "key-value store": lambda metering: metering.key_value_store().scan("any", limit=1),
}
Result = TypeVar("Result")
WRITING = ("record", "cancel", "configure", "close a period")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that other tests don't use."""
    with closing(Server()) as started:
        yield started


@pytest.fixture
def proxy(server: Server) -> Iterator[TcpProxy]:
    """A proxy in front of the server."""
    with TcpProxy(server) as opened:
        yield opened


def open_ledger(
    url: str, timeout_seconds: float = TIMEOUT_SECONDS, name: str = NAME, **settings_for_pooler: bool
) -> Metering:
    """Open a ledger in a new schema, with usage that is not projected."""
    settings = PostgresSettings.model_validate(
        {
            "url": url,
            "schema_name": f"outage_{next(SCHEMAS)}",
            "timeout_seconds": timeout_seconds,
            "parameters": {"application_name": name},
            **settings_for_pooler,
        }
    )
    metering = Metering.open(settings, clock=lambda: NOW)
    set_up_ledger(metering)
    return metering


@contextmanager
def open_ledgers(
    url: str, operations: Iterable[str], timeout_seconds: float = TIMEOUT_SECONDS
) -> Generator[dict[str, Metering]]:
    """Open a ledger for each operation, with its name as the application: they run at once, and each is observed."""
    with ExitStack() as opened:
        yield {name: opened.enter_context(open_ledger(url, timeout_seconds, name)) for name in operations}


def at_once(check: Callable[[Callable[[], Any]], Result], ledgers: Mapping[str, Metering]) -> list[Result]:
    """Return the results of a check of each operation on its ledger."""
    with ThreadPoolExecutor(len(ledgers)) as threads:
        calls = (partial(OPERATIONS[name], metering) for name, metering in ledgers.items())
        return list(threads.map(check, calls))


@contextmanager
def read_only(admin: "psycopg.Connection[Any]") -> Generator[None]:
    """Close all connections of the ledgers, and let the server accept no changes inside the block."""
    admin.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
    try:
        admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name <> ''")
        yield
    finally:
        admin.execute("SET default_transaction_read_only = off")
        admin.execute("ALTER DATABASE postgres RESET default_transaction_read_only")


def unavailability(call: Callable[[], object]) -> TallybookError:
    """Return the error of a call that ends in time with `ledger_unavailable`."""
    started_at = time.monotonic()
    with pytest.raises(TallybookError) as exc_info:
        call()
    assert time.monotonic() - started_at < LIMIT_SECONDS
    assert exc_info.value.code == "ledger_unavailable", exc_info.value
    return exc_info.value


# --- read-only ------------------------------------------------------------------------------------


def test_calls_wait_for_the_end_of_a_failover(server: Server) -> None:
    """Connections that were opened while the server was read-only are closed, and those after it are used."""
    operations = (*WRITING, "total", "rebuild")
    pids: dict[str, set[int]] = defaultdict(set)

    def connected_again(operation: str) -> bool:
        rows = admin.execute("SELECT pid FROM pg_stat_activity WHERE application_name = %s", (operation,)).fetchall()
        pids[operation].update(pid for (pid,) in rows)
        return len(pids[operation]) > 1

    with (
        open_ledgers(server.database.url, operations, timeout_seconds=15) as ledgers,
        closing(server.database.connect()) as admin,
        ThreadPoolExecutor(len(operations)) as threads,
    ):
        with read_only(admin):
            calls = {operation: threads.submit(OPERATIONS[operation], ledgers[operation]) for operation in operations}
            wait_until(lambda: all(call.done() or connected_again(name) for name, call in calls.items()))
        for name, call in calls.items():
            assert call.result(WAIT_SECONDS), name
        for again in OPERATIONS.values():
            list(threads.map(again, ledgers.values()))


def test_a_server_that_stays_read_only_is_unavailable(server: Server) -> None:
    """The error says what the reason may be."""
    with open_ledgers(server.database.url, WRITING) as ledgers, closing(server.database.connect()) as admin:
        with read_only(admin):
            for error in at_once(unavailability, ledgers):
                assert "The server accepts no changes: it is a standby" in error.message
        assert all(OPERATIONS[operation](metering) for operation, metering in ledgers.items())


def test_a_standby_serves_reads_and_after_its_promotion_writes() -> None:
    """A standby serves projected totals; writes wait for its promotion."""
    with closing(Server()) as server, open_ledger(server.database.url, timeout_seconds=15) as metering:
        total = OPERATIONS["total"](metering)
        with closing(server.database.connect()) as admin:
            admin.execute("CHECKPOINT")  # otherwise the server loses the page that was projected
        server.stop_immediately()
        (server.folder / "data" / "standby.signal").touch()
        server.start()
        assert OPERATIONS["total"](metering) == total
        with closing(server.database.connect()) as admin, ThreadPoolExecutor() as threads:
            calls = [threads.submit(OPERATIONS[operation], metering) for operation in WRITING]
            pid = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
            wait_until(lambda: admin.execute(pid, (NAME,)).fetchone() != (0,))
            admin.execute("SELECT pg_promote()")
            assert all(call.result(WAIT_SECONDS) for call in calls)
        assert metering.verify().is_equal


# --- crashes --------------------------------------------------------------------------------------


def test_pages_that_a_crash_loses_are_projected_again(server: Server) -> None:
    """An open ledger has read rows that are lost: a new customer's, whose id the next new customer would get."""
    with open_ledger(server.database.url, timeout_seconds=15) as metering:
        customers = {"acme", "beta"}
        for number, customer in enumerate(("gamma", "delta"), 50):
            metering.record_many([meter_event(number, customer=customer)])
            customers.add(customer)
            assert {total.customer for total in metering.totals("tokens", DAY, NOW)} == customers
            server.stop_immediately()
            server.start()
            assert {total.customer for total in metering.totals("tokens", DAY, NOW)} == customers
        assert metering.verify().is_equal


# --- locks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("table", "operations"), [
    ("stored_events", [*WRITING, "total", "list meters", "rebuild", "verify"]),
    ("appending", WRITING),
    ("_read_models.totals_1", ["total", "verify"]),
])  # fmt: skip
def test_a_call_waits_for_a_locked_table_no_longer_than_the_timeout(
    server: Server, table: str, operations: list[str]
) -> None:
    """The error names the session that holds the lock."""
    with open_ledger(server.database.url) as metering, closing(server.database.connect()) as holder:
        OPERATIONS["total"](metering)
        metering.record_many([meter_event(60)])
        schema = f"outage_{next(SCHEMAS) - 1}"
        locked = f"{schema}{table}" if table.startswith("_") else f"{schema}.{table}"
        with holder.transaction():
            holder.execute(f"SET application_name = 'vacuum'; LOCK TABLE {locked} IN ACCESS EXCLUSIVE MODE".encode())
            for error in at_once(unavailability, dict.fromkeys(operations, metering)):
                assert f"Process {holder.info.backend_pid} (vacuum) holds AccessExclusiveLock" in error.message
        for operation in operations:
            assert OPERATIONS[operation](metering)


def test_a_setting_of_the_session_is_not_needed_behind_a_pooler(server: Server) -> None:
    """Without prepared statements, each query has its lock timeout in a transaction, and leaves no setting behind."""
    with (
        open_ledger(server.database.url, prepared_statements=False) as metering,
        closing(server.database.connect()) as holder,
    ):
        recorder: Any = metering._ledger.ledger_recorder  # pyright: ignore[reportPrivateUsage]
        with recorder.store.pool.connection() as pooled:
            assert pooled.execute("SHOW lock_timeout").fetchone() == ("0",)
        with holder.transaction():
            holder.execute(f"LOCK TABLE outage_{next(SCHEMAS) - 1}.stored_events IN ACCESS EXCLUSIVE MODE".encode())
            at_once(unavailability, dict.fromkeys(("list meters", "record", "total"), metering))
        assert OPERATIONS["record"](metering)


# --- silence --------------------------------------------------------------------------------------


def test_calls_wait_for_a_silent_server_no_longer_than_the_timeout(proxy: TcpProxy) -> None:
    """Packets are acknowledged and lost, as behind a proxy whose server is gone. Later calls use new connections."""
    with open_ledgers(proxy.url, OPERATIONS) as ledgers:
        for metering in ledgers.values():
            OPERATIONS["total"](metering)
        proxy.fall_silent()
        for error in at_once(unavailability, ledgers):
            assert "has not answered" in error.message or "timeout expired" in error.message
        proxy.recover()
        for operation, metering in ledgers.items():
            with suppress(LedgerUnavailable):  # a connection that was begun during the silence may time out first
                OPERATIONS[operation](metering)
            assert OPERATIONS[operation](metering) is not None


def test_silent_connections_to_a_server_that_answers_are_replaced(proxy: TcpProxy) -> None:
    """A proxy may lose its present connections and serve new ones. The calls succeed on new connections."""
    with open_ledgers(proxy.url, (*WRITING, "total", "list meters"), timeout_seconds=6) as ledgers:
        proxy.fall_silent(for_new_connections=False)
        assert all(at_once(lambda call: call(), ledgers))


def until_available(operation: Callable[[], object]) -> object:
    """Return the result of an operation: a connection that was opened in an outage may time out after its end."""
    deadline = time.monotonic() + 15
    while True:
        try:
            return operation()
        except Unavailable:
            assert time.monotonic() < deadline


@pytest.mark.parametrize("for_new_connections", [False, True])
def test_a_lost_commit_is_reported_as_unknown(proxy: TcpProxy, for_new_connections: bool) -> None:
    """The identifier counts once: recording it again returns the event, or records it."""
    timeout_seconds = 4

    def swallow_commit(data: bytes) -> None:
        if b"; COMMIT\0" in data:
            proxy.on_bytes = lambda _: None
            proxy.fall_silent(for_new_connections=for_new_connections)

    with open_ledger(proxy.url, timeout_seconds) as metering:
        before = OPERATIONS["total"](metering).count
        proxy.on_bytes = swallow_commit
        started_at = time.monotonic()
        with pytest.raises(TallybookError, match="unknown whether the meter events are stored"):
            OPERATIONS["record"](metering)
        assert time.monotonic() - started_at < 3 * timeout_seconds  # of the commit, and of the query for it
        proxy.recover()
        assert until_available(lambda: OPERATIONS["record"](metering))
        assert OPERATIONS["total"](metering).count == before + 1


def test_a_long_statement_is_not_mistaken_for_a_silent_server(proxy: TcpProxy) -> None:
    """The server reports that it executes the statement, however long that takes."""
    settings = PostgresSettings.model_validate({"url": proxy.url, "timeout_seconds": 1})
    with closing(PostgresDatastore(settings, "public", 2)) as datastore:
        assert datastore.select(datastore.format_sql("SELECT 1 FROM pg_sleep(3.5)")) == [(1,)]


# --- opening --------------------------------------------------------------------------------------


def test_opening_a_ledger_waits_for_a_starting_server(proxy: TcpProxy) -> None:
    """It rejects connections with SQLSTATE 57P03 at first."""
    proxy.rejections = 4
    with open_ledger(proxy.url, timeout_seconds=15) as metering:
        assert metering.meters.list()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://postgres@/nowhere?host={folder}", "nowhere"),
        ("postgresql://nobody_here@/postgres?host={folder}", "nobody_here"),
        ("postgresql://postgres@127.0.0.1:1/postgres", "refused"),
        ("postgresql://postgres@nowhere.invalid/postgres", "nowhere.invalid"),
        ("postgresql://postgres@/postgres?host=/nowhere", "/nowhere"),
    ],
)
def test_a_wrong_address_is_reported_at_once(server: Server, url: str, reason: str) -> None:
    """The first call on a ledger reports it."""
    store = resolve_store(url.format(folder=server.folder))
    for call in (store.exists, store.open_recorder, store.delete_read_models):
        started_at = time.monotonic()
        with pytest.raises(TallybookError, match=reason) as exc_info:
            call()
        assert time.monotonic() - started_at < TIMEOUT_SECONDS
        assert exc_info.value.code == "ledger_unavailable"


def test_a_connection_is_attempted_about_every_second(server: Server, proxy: TcpProxy) -> None:
    """The interval does not grow during a long outage, so that a call notices the return of the server soon."""
    with open_ledger(proxy.url, WAIT_SECONDS) as metering, closing(server.database.connect()) as admin:
        proxy.rejections = rejections = 100
        started_at = time.monotonic()
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", (NAME,)
        )
        with ThreadPoolExecutor() as threads:
            call = threads.submit(OPERATIONS["record"], metering)
            wait_until(lambda: proxy.rejections <= rejections - 6)
            proxy.rejections = 0
            assert call.result(WAIT_SECONDS)
        assert time.monotonic() - started_at < WAIT_SECONDS / 2
