"""Readiness: /readyz fails while nothing can be recorded, on both stores, and probes leave one small row behind."""

import asyncio
import os
import resource
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from tallybook.application.clock import utc_now
from tallybook.application.interfaces.http.health import ReadinessProbe
from tallybook.application.interfaces.http.ledgers import LedgerRegistry
from tallybook.application.storage.key_value import KeyValueEntry
from tallybook.application.storage.sqlite.store import SQLiteStore
from tallybook.application.storage.url import resolve_store
from tallybook.domain.acceptance_policy import AcceptancePolicy

from tests.faults.forked import run_in_child
from tests.http.running_server import RunningServer, create_key, serve
from tests.postgres import Database, Server

from .test_observability import wait_for_status

EVENT = {"event_name": "tokens", "payload[stripe_customer_id]": "acme", "payload[value]": "1"}
METER = {"display_name": "Tokens", "event_name": "tokens", "default_aggregation[formula]": "sum"}
UNPRIVILEGED_USER_ID = 65_534
PROBES = 200


@contextmanager
def full_disk(server: RunningServer) -> Generator[None]:
    """Let all writes to files of a server fail, as on a full disk."""
    _, max_bytes = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, max_bytes))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (max_bytes, max_bytes))


@contextmanager
def read_only(server: Server) -> Generator[None]:
    """Make a PostgreSQL server read-only, as a standby is, also for connections that are open."""

    def set_default(value: str) -> None:
        with psycopg.connect(server.database.url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}".encode())
            connection.execute("SELECT pg_reload_conf()")

    set_default("on")
    yield
    set_default("off")


def assert_follows(
    server: RunningServer, url: str, fault: AbstractContextManager[None], status_meanwhile: int = 503
) -> None:
    """Check that a server is ready exactly while it can record. An event sent meanwhile is answered with a status."""
    key = create_key(url, "admin")
    with server.client(key) as client, ThreadPoolExecutor(1) as thread:
        client.post("/v1/billing/meters", data=METER).raise_for_status()
        wait_for_status(server, 200)
        with fault:
            response = thread.submit(client.post, "/v1/billing/meter_events", data=EVENT)
            wait_for_status(server, 503)
            assert server.get("/readyz").json() == {"status": "unavailable"}
            assert server.get("/livez").status_code == 200
        assert response.result().status_code == status_meanwhile
        wait_for_status(server, 200)
        client.post("/v1/billing/meter_events", data=EVENT).raise_for_status()


def test_a_server_on_a_full_disk_is_not_ready(tmp_path: Path) -> None:
    """It is ready again when there is space."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    with serve(url) as server:
        assert_follows(server, url, full_disk(server))


def test_a_server_on_a_read_only_postgresql_is_not_ready() -> None:
    """It is ready again when the database accepts writes."""
    with closing(Server()) as postgres_server:
        url = postgres_server.url("served")
        with serve(url) as server:
            assert_follows(server, url, read_only(postgres_server), status_meanwhile=200)  # it waits


@contextmanager
def open_registry(url: str) -> Generator[LedgerRegistry]:
    """Open the ledgers of a server."""
    with closing(LedgerRegistry(url, AcceptancePolicy(), utc_now)) as ledgers:
        yield ledgers


def probe(url: str, times: int = 1) -> list[str]:
    """Return the results of probes that are not cached."""

    async def probe_often(ledgers: LedgerRegistry) -> list[str]:
        readiness = ReadinessProbe(ledgers, cache_seconds=0)
        return [(await readiness.check()).status for _ in range(times)]

    with open_registry(url) as ledgers:
        return asyncio.run(probe_often(ledgers))


def test_a_server_of_a_read_only_file_is_not_ready(tmp_path: Path) -> None:
    """Its totals can still be read."""
    url, file = f"sqlite:///{tmp_path}/ledger.db", tmp_path / "ledger.db"
    assert probe(url) == ["ready"]
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.owner() == tmp_path.owner() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o777)
    for path in tmp_path.iterdir():
        path.chmod(0o666)
    file.chmod(0o444)

    def probe_unprivileged() -> list[str]:
        if os.getuid() == 0:  # permissions do not bind the administrator
            os.setgid(UNPRIVILEGED_USER_ID)
            os.setuid(UNPRIVILEGED_USER_ID)
        return probe(url)

    assert run_in_child(probe_unprivileged) == (0, ["unavailable"])
    file.chmod(0o666)
    assert run_in_child(lambda: probe(url)) == (0, ["ready"])


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new ledger on each store."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    postgres: Database = request.getfixturevalue("postgres")
    return postgres.fresh_url()


def test_probes_do_not_grow_the_ledger(url: str) -> None:
    """Each replaces the row of the one before, and no event is recorded."""
    with open_registry(url) as ledgers:
        ledger = ledgers.for_mode(livemode=True)
        assert probe(url, PROBES) == ["ready"] * PROBES
        assert len(ledger.key_values.scan("probe", limit=10)) == 1
        assert ledger.metering.catch_up() == 0
        store = resolve_store(url)
    if isinstance(store, SQLiteStore):
        assert Path(store.events_database).stat().st_size < 100_000


def test_probes_of_many_requests_are_cached(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one a second writes."""
    write_count = 0

    async def probe_at_once(readiness: ReadinessProbe) -> None:
        await asyncio.gather(*(readiness.check() for _ in range(PROBES)))

    with open_registry(url) as ledgers:
        key_values = ledgers.for_mode(livemode=True).key_values
        apply = key_values.apply

        def count_and_apply(*, upsert: Sequence[KeyValueEntry]) -> None:
            nonlocal write_count
            write_count += 1
            apply(upsert=upsert)

        monkeypatch.setattr(key_values, "apply", count_and_apply)
        asyncio.run(probe_at_once(ReadinessProbe(ledgers, cache_seconds=60)))
    assert write_count == 1
