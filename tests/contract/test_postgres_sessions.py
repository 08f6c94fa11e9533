"""What a program may meet on PostgreSQL: settings of its user's, others that stand still, and a server that is gone."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from urllib.parse import quote

import pytest
from pydantic import SecretStr
from tallybook.application import Metering, PostgresSettings, TallybookError
from tallybook.application.ledger_url import locate
from tallybook.application.stores.postgres_views import PostgresViews
from tallybook.domain.rules import Formula

from ..postgres import Server
from .histories import END, START, answers, record_history
from .kept_stores import PostgresSchema
from .stores import ANY_TIME, NOW

PATIENCE_SECONDS = 20
SECRET = "sesame"


def opened(store: PostgresSchema, *, timeout_seconds: float = 30, max_connections: int = 10, **said: str) -> Metering:
    """The ledger, with settings of its user's."""
    options = " ".join(f"-c {name}={value}" for name, value in said.items())
    settings = PostgresSettings(
        url=SecretStr(store.database.url),
        parameters={"options": options, "application_name": store.schema},
        schema_name=store.schema,
        max_connections=max_connections,
        timeout_seconds=timeout_seconds,
    )
    return Metering.open(settings, policy=ANY_TIME, clock=lambda: NOW)


def views_of(store: PostgresSchema, timeout_seconds: float = 30) -> PostgresViews:
    """The read models by themselves."""
    settings = PostgresSettings(
        url=SecretStr(store.database.url), schema_name=store.schema, timeout_seconds=timeout_seconds
    )
    views = locate(settings).views(dict)
    assert isinstance(views, PostgresViews)
    return views


def test_a_connection_that_the_server_ended_for_its_idleness_is_replaced(postgres_store: PostgresSchema) -> None:
    """Whatever is done next: it is no failure."""
    with opened(postgres_store, idle_session_timeout="100ms") as metering:
        record_history(metering, 5)
        for ask in (metering.meters, lambda: answers(metering), metering.verify, metering.rebuild):
            time.sleep(0.3)
            assert ask()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "WIN1252"])
def test_texts_are_utf8_whatever_the_user_s_encoding_is(postgres_store: PostgresSchema, encoding: str) -> None:
    """All that is recorded can be written and read."""
    with opened(postgres_store, client_encoding=encoding) as metering:
        metering.configure_meter("tokens", customer_key="customer")
        metering.record("tokens", {"customer": "zoë 日本", "value": "1"}, identifier="日", timestamp=START)
        assert [one.customer for one in metering.totals("tokens", START, END)] == ["zoë 日本"]
        assert metering.verify().is_equal


def test_a_cursor_that_is_read_to_its_end_is_closed(postgres_store: PostgresSchema) -> None:
    """A page of cancels reads a bucket for each: the server's memory would be full of them."""
    with postgres_store.metering() as metering:
        record_history(metering, 20)
        answers(metering)
    with closing(views_of(postgres_store)) as views, views.reading() as rows:
        for _ in range(3):
            assert list(rows.records("usage"))
            assert rows.select("SELECT name FROM pg_cursors WHERE name LIKE 'rows_%'") == []


def test_two_verifications_do_not_wait_for_each_other(postgres_store: PostgresSchema) -> None:
    """Their tables are their own: what stands still in the one is in nobody's way."""
    postgres_store.opened().close()
    with (
        closing(views_of(postgres_store, timeout_seconds=0.5)) as views,
        views.scratch({}) as one,
        views.scratch({}) as other,
        one.writing(),
        other.writing() as rows,
    ):
        assert rows.position() == 0


def test_threads_that_wait_for_a_promotion_share_one_connection(postgres_store: PostgresSchema) -> None:
    """However many ask meanwhile, others can connect to the server too."""
    with postgres_store.metering() as metering:
        record_history(metering, 20)
        answers(metering)
    with closing(views_of(postgres_store)) as views, opened(postgres_store, max_connections=2) as metering:
        with views.alone("being slow"):
            meter = metering._ledger.meter("tokens")  # pyright: ignore[reportPrivateUsage]
            rules = meter.rules.model_copy(update={"formula": Formula.COUNT})
            meter.change_rules(rules, reason="a test", by=None, at=NOW)
            metering._ledger.append(meter.collect_events())  # pyright: ignore[reportPrivateUsage]
            asked: list[object] = []
            threads = [
                threading.Thread(target=lambda: asked.append(metering.total("tokens", "acme", START, END).value))
                for _ in range(20)
            ]
            for thread in threads:
                thread.start()
            time.sleep(1.5)
            statement = "SELECT count(*) FROM pg_stat_activity WHERE application_name = ?"
            assert postgres_store.ledger_rows(statement, postgres_store.schema)[0][0] <= 3
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        assert len(asked) == 20
        assert len(set(asked)) == 1


def test_a_projection_outlasts_who_folds_and_stands_still(postgres_store: PostgresSchema) -> None:
    """It takes over once that one is gone, though that takes longer than it waits for a lock."""
    stop = threading.Event()
    with closing(views_of(postgres_store)) as views, opened(postgres_store, timeout_seconds=0.2) as metering:
        record_history(metering, 5)
        projection = threading.Thread(target=metering.run_projection, args=(stop,))
        with views.writing():
            projection.start()
            time.sleep(1.5)
            assert projection.is_alive()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while postgres_store.views_rows("SELECT * FROM tracking") == [] and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.set()
        projection.join(PATIENCE_SECONDS)
        assert postgres_store.views_rows("SELECT * FROM tracking") != []


STOPPED = """
import sys
from datetime import UTC, datetime
from tallybook.application import Metering
from tallybook.application.stores import postgres
postgres.LONGEST_SECONDS = 3
payload = {"customer": "a" * 4_000, "value": "1"}
reports = [{"event_name": "tokens", "payload": payload, "timestamp": datetime.now(UTC)} for _ in range(20_000)]
with Metering.open(sys.argv[1]) as metering:
    metering.record_many(reports)
"""


def test_who_stands_still_in_the_middle_of_sending_is_let_go_of(postgres_store: PostgresSchema) -> None:
    """To the server it isn't idle: it holds the lock and waits for the rest."""
    with postgres_store.opened() as metering, closing(postgres_store.database.connect()) as watch:
        if watch.info.server_version < 17_00_00:
            pytest.skip("limits on transactions came with PostgreSQL 17")
        metering.configure_meter("tokens", customer_key="customer")
        sending = (
            "SELECT FROM pg_stat_activity WHERE application_name = %s AND state = 'active'"
            " AND wait_event = 'ClientRead' AND query LIKE 'WITH appended%%'"
        )
        name = f"stopped-{postgres_store.schema}"
        url = f"{postgres_store.url}&application_name={quote(name)}"
        with subprocess.Popen([sys.executable, "-c", STOPPED, url]) as process:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while watch.execute(sending, (name,)).fetchone() is None:
                assert time.monotonic() < deadline
            process.send_signal(signal.SIGSTOP)
            assert metering.record("tokens", {"customer": "acme", "value": "1"}, timestamp=START).position == 2
            process.kill()
        assert metering.total("tokens", "acme", START, END).count == 1


def test_a_server_that_is_gone_is_waited_for_once() -> None:
    """A question takes no longer than its settings say."""
    with closing(Server()) as server:
        store = PostgresSchema.fresh(server.database)
        with opened(store, timeout_seconds=1.5) as metering:
            record_history(metering, 5)
            answers(metering)
            server.stop_immediately()
            asked_at = time.monotonic()
            with pytest.raises(TallybookError) as refused:
                metering.total("tokens", "acme", START, END)
            assert refused.value.code == "ledger_unavailable"
            assert time.monotonic() - asked_at < 3
