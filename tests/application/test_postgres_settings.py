"""PostgreSQL ledger URLs, and the effect of the settings on connections."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from psycopg.conninfo import conninfo_to_dict
from tallybook.application import Metering, PostgresSettings, TallybookError
from tallybook.application.storage.postgres.store import PostgresStore
from tallybook.application.storage.url import resolve_store

from tests.postgres import Database


@pytest.mark.parametrize(
    ("url", "parameters", "schema"),
    [
        ("postgresql:///billing", {"dbname": "billing"}, "tallybook"),
        ("postgresql://", {}, "tallybook"),
        ("postgresql:///billing?schema=usage", {"dbname": "billing"}, "usage"),
        ("postgres://me@db/billing?schema=u%20s", {"host": "db", "user": "me", "dbname": "billing"}, "u s"),
        ("postgresql://?schema=usage&options=-c%20jit%3Doff", {"options": "-c jit=off"}, "usage"),
        ("postgresql://?password=a+b%26c", {"password": "a+b&c"}, "tallybook"),
        ("postgresql://?schema=one&schema=one", {}, "one"),
    ],
)
def test_libpq_parses_everything_but_the_schema(url: str, parameters: dict[str, str], schema: str) -> None:
    """Parameters that are not in the URL are left to libpq, which reads its environment."""
    settings = PostgresSettings.parse(url)
    assert conninfo_to_dict(settings.url.get_secret_value()) == parameters
    assert settings.schema_name == schema


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db/billing?schema=",
        "postgresql://?schema=a&schema=b",
        "postgresql://?colour=red",
        "postgresql://?a",
    ],
)
def test_a_url_that_libpq_cannot_parse_is_rejected(url: str) -> None:
    """A URL with an empty schema or with several is rejected too."""
    with pytest.raises(TallybookError) as exc_info:
        Metering.open(url)
    assert (exc_info.value.code, exc_info.value.field) == ("invalid_ledger_url", "url")


@pytest.mark.parametrize("prepared", [True, False])
def test_statements_are_prepared_only_if_connections_are_persistent(postgres: Database, prepared: bool) -> None:
    """Behind a connection pooler, the next connection would not have the prepared statement, or another one."""
    url = PostgresSettings.parse(postgres.fresh_url())
    settings = url.model_copy(update={"prepared_statements": prepared, "max_connections": 2})
    store = resolve_store(settings)
    assert isinstance(store, PostgresStore)
    recorder = store.open_recorder()
    try:
        for _ in range(10):
            recorder.select_stream_positions("meter/tokens")
        with recorder.store.transaction_for("read") as connection:
            row = connection.execute("SELECT count(*) > 0 FROM pg_prepared_statements").fetchone()
    finally:
        recorder.close()
    assert row == (prepared,)


def test_no_more_connections_are_open_than_are_allowed(postgres: Database) -> None:
    """However many threads record and query; all are closed with the ledger."""
    name = f"t{time.monotonic_ns()}"
    settings = PostgresSettings.parse(postgres.fresh_url()).model_copy(
        update={"parameters": {"application_name": name}, "max_connections": 4}
    )
    now = datetime.now(UTC)

    def record(metering: Metering, writer: int) -> None:
        for number in range(10):
            metering.record("tokens", {"customer": "acme", "tokens": "1"}, identifier=f"{writer}-{number}")
            metering.total("tokens", "acme", now - timedelta(days=1), now + timedelta(days=1))

    def count() -> int:
        statement = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        ((connections,),) = observer.execute(statement, (name,)).fetchall()
        return connections

    with closing(postgres.connect()) as observer:
        with Metering.open(settings) as metering, ThreadPoolExecutor(8) as threads:
            metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
            working = [threads.submit(record, metering, writer) for writer in range(8)]
            counts: set[int] = set()
            while not all(future.done() for future in working):
                counts.add(count())
                time.sleep(0.01)
            for future in working:
                future.result()
        assert 1 <= max(counts) <= 4
        deadline = time.monotonic() + 10
        while count():
            assert time.monotonic() < deadline
            time.sleep(0.05)
