"""What every kind of connection must do: the usage of an order is stored if, and only if, the order is."""

from collections.abc import Callable
from contextlib import contextmanager
from decimal import Decimal

import pytest
from tallybook.application import InvalidParameter, Metering, Outbox

from .hosts import OF_POSTGRES, OF_SQLITE, Host, HostDatabase, OpenHost, open_psycopg, open_sqlite3

HOSTS = [
    pytest.param(database, open_host, id=f"{database} {open_host.__name__}")
    for database, open_hosts in (("sqlite_host", OF_SQLITE), ("postgres_host", OF_POSTGRES))
    for open_host in open_hosts
]
Work = Callable[[Host, Outbox], list[str]]
"""Work of a host, which returns the identifiers that it committed."""


def commit(host: Host, outbox: Outbox) -> list[str]:
    """Commit one order."""
    host.record(outbox, "first")
    host.commit()
    return ["first"]


def roll_back(host: Host, outbox: Outbox) -> list[str]:
    """Roll back one order, and commit the next."""
    host.record(outbox, "first")
    host.rollback()
    host.record(outbox, "second")
    host.commit()
    return ["second"]


def roll_back_to_savepoint(host: Host, outbox: Outbox) -> list[str]:
    """Roll back one of three orders to a savepoint."""
    host.record(outbox, "first")
    host.execute("SAVEPOINT before_second")
    host.record(outbox, "second")
    host.execute("ROLLBACK TO SAVEPOINT before_second")
    host.record(outbox, "third")
    host.commit()
    return ["first", "third"]


def disconnect(host: Host, outbox: Outbox) -> list[str]:
    """Close the connection without a commit."""
    host.record(outbox, "first")
    return []


@pytest.mark.parametrize("work", [commit, roll_back, roll_back_to_savepoint, disconnect])
@pytest.mark.parametrize(("database", "open_host"), HOSTS)
def test_usage_is_stored_with_its_order(
    database: str, open_host: OpenHost, work: Work, metering: Metering, request: pytest.FixtureRequest
) -> None:
    """Before the end of the transaction no other connection sees either; afterwards, the relay records the usage."""
    host_database: HostDatabase = request.getfixturevalue(database)
    with Outbox(metering, host_database.url, table=host_database.table) as outbox:
        with contextmanager(open_host)(host_database) as host:
            expected = work(host, outbox)
        assert [order for (order,) in host_database.execute("SELECT * FROM {prefix}orders")] == expected
        assert outbox.relay().recorded == len(expected)
    assert [event.identifier for event in metering.events("tokens")] == sorted(expected)


def test_record_many_inserts_all_or_none(outbox: Outbox, host_database: HostDatabase, metering: Metering) -> None:
    """An invalid event is an error before anything is inserted. Values and payloads arrive as they were submitted."""
    payload = {"customer": "Ærø \U0001f9ee", "tokens": Decimal("0.10"), "note": "\u0000 7' OR ''='"}
    identifiers = ["a", "b'\"%s?:x", "é" * 100]
    events = [{"event_name": "tokens", "payload": payload, "identifier": identifier} for identifier in identifiers]
    open_host = open_sqlite3 if host_database.is_sqlite else open_psycopg
    with contextmanager(open_host)(host_database) as host:
        with pytest.raises(InvalidParameter):
            outbox.record_many(host, events)
        with pytest.raises(Exception, match="'payload'"):
            outbox.record_many(host.connection, [*events, {"event_name": "tokens", "payload": {"tokens": 0.5}}])
        assert outbox.record_many(host.connection, events) == identifiers
        assert outbox.record_many(host.connection, []) == []
        host.commit()
    assert outbox.relay().recorded == 3
    stored = metering.events("tokens")
    assert [event.identifier for event in stored] == identifiers
    assert {**stored[0].payload, "tokens": Decimal(stored[0].payload["tokens"])} == payload
    assert stored[0].payload["tokens"] == "0.10"


def test_a_missing_identifier_is_generated_and_returned(metering: Metering, sqlite_host: HostDatabase) -> None:
    """Two events without identifiers are different ones."""
    outbox = Outbox(metering, sqlite_host.url)
    with contextmanager(open_sqlite3)(sqlite_host) as host:
        identifiers = [outbox.record(host.connection, "tokens", {"customer": "acme", "tokens": 1}) for _ in range(2)]
        host.commit()
    assert outbox.relay().recorded == 2
    assert {event.identifier for event in metering.events("tokens")} == set(identifiers)
