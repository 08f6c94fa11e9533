"""What happens between the COMMIT of a projected page and the read in its place: each event counts exactly once."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NoReturn

import psycopg
import pytest
from psycopg import Cursor
from tallybook.application import Metering
from tallybook.application.storage.postgres.monitored_connection import MonitoredConnection

from .persistent_stores import PostgresSchema
from .stores import NOW

RANGE = NOW - timedelta(days=1), NOW + timedelta(days=1)
Interrupt = Callable[[MonitoredConnection, Metering], object]


def lose_before_commit(connection: MonitoredConnection, _: Metering) -> NoReturn:
    """Lose the connection."""
    connection.pgconn.finish()
    raise psycopg.OperationalError("the connection was lost")


def lose_after_commit(connection: MonitoredConnection, _: Metering) -> NoReturn:
    """Commit, and lose the connection."""
    commit(connection)
    lose_before_commit(connection, _)


def promote_after_commit(connection: MonitoredConnection, other: Metering) -> None:
    """Commit, and promote another generation in another process."""
    commit(connection)
    other.rules.change("tokens", {"formula": "count"}, reason="the contract changed")


def commit(connection: MonitoredConnection) -> None:
    """Commit what was written."""
    connection.execute("COMMIT")
    connection.end_pipeline()


@pytest.mark.parametrize("interrupt", [lose_before_commit, lose_after_commit, promote_after_commit])
def test_each_event_counts_once(
    postgres_store: PostgresSchema, monkeypatch: pytest.MonkeyPatch, interrupt: Interrupt
) -> None:
    """Also those of a customer whose id was assigned in the interrupted transaction."""
    read_after_commit = MonitoredConnection.read_after_commit
    calls: list[MonitoredConnection] = []

    def interrupted(connection: MonitoredConnection, begin: Sequence[str]) -> Cursor[Any]:
        calls.append(connection)
        if len(calls) == 1:
            interrupt(connection, other)
        return read_after_commit(connection, begin)

    with postgres_store.metering() as metering, postgres_store.metering() as other:
        metering.meters.configure("tokens", customer_key="customer", value_key="value")
        record(metering, "acme", "1")
        assert metering.totals("tokens", *RANGE)
        monkeypatch.setattr(MonitoredConnection, "read_after_commit", interrupted)
        counted = [("acme", "1"), ("new", "2")]
        record(metering, "new", "2")
        assert totals(metering) == counted
        record(metering, "newer", "4")
        assert totals(metering) == totals(other) == [*counted, ("newer", "4")]
        assert len(calls) >= 2
        assert metering.verify().is_equal


def record(metering: Metering, customer: str, value: str) -> None:
    """Record usage of a customer."""
    metering.record("tokens", {"customer": customer, "value": value}, timestamp=NOW)


def totals(metering: Metering) -> list[tuple[str | None, str]]:
    """Return the sum of each customer."""
    return [(total.customer, str(total.sum)) for total in metering.totals("tokens", *RANGE)]
