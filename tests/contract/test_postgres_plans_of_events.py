"""PostgreSQL finds stored events by index, also with statements that were prepared while the ledger was empty.

It plans a statement for the table as it is then, and keeps the plan until the table is analyzed, minutes later.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from tallybook.application import Metering

from ..postgres import CONFIGURATION, Server

WARM_UP = 8
"""A statement is prepared when it has been executed five times, and its plan is kept after five more."""
RECORDED_AFTER = 8_000
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 2, tzinfo=UTC)


def usage(number: int) -> dict[str, object]:
    """Return a meter event of October."""
    at = OCTOBER[0] + timedelta(minutes=number * 5)
    payload = {"customer": f"customer-{number % 20}", "value": "1", "model": f"model-{number % 3}"}
    return {"event_name": "tokens", "identifier": f"use-{number}", "timestamp": at, "payload": payload}


CALLS: dict[str, Callable[[Metering, int], object]] = {
    "record": lambda metering, turn: metering.record_many([usage(100_000 + turn)]),
    "record a duplicate": lambda metering, turn: metering.record_many([usage(turn % 5), usage(200_000 + turn)]),
    "cancel": lambda metering, turn: metering.cancel("tokens", f"use-{turn % 5}"),
    "event": lambda metering, turn: metering.event(f"use-{turn % 5}"),
    "events": lambda metering, _: metering.events("tokens", limit=10),
    "total": lambda metering, turn: metering.total("tokens", f"customer-{turn % 20}", *OCTOBER),
    "total as of a time": lambda metering, turn: metering.total("tokens", f"customer-{turn}", *OCTOBER, as_of=NOW),
    "totals": lambda metering, _: metering.totals("tokens", *OCTOBER),
    "totals by model": lambda metering, _: metering.totals("tokens", *OCTOBER, group_by=["model"]),
    "summaries": lambda metering, _: metering.summaries("tokens", "customer-1", *OCTOBER, window="day"),
    "explain": lambda metering, turn: metering.explain("tokens", f"customer-{turn}", *OCTOBER),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that analyzes no table by itself."""
    with closing(Server((*CONFIGURATION, "autovacuum=off"))) as started:
        yield started


def test_no_call_reads_all_events(server: Server) -> None:
    """Each call is made in a ledger of a few events, and again when thousands were recorded."""
    with Metering.open(server.database.at("ledger"), clock=lambda: NOW) as metering:
        metering.meters.configure("tokens", customer_key="customer", dimension_keys=["model"])
        metering.record_many(usage(number) for number in range(20))
        for turn in range(WARM_UP + 5):
            for call in CALLS.values():
                call(metering, turn)
        metering.record_many([usage(number) for number in range(20, RECORDED_AFTER)], strict=True)
        metering.catch_up()
        for turn in range(2):
            for call in CALLS.values():
                call(metering, turn)
    assert rows_of_sequential_scans(server) < RECORDED_AFTER


def rows_of_sequential_scans(server: Server) -> int:
    """Return how many events were read by scans of the whole table. A connection reports them when it is closed."""
    with psycopg.connect(server.database.url) as connection:
        statement = (
            "SELECT seq_tup_read FROM pg_stat_user_tables WHERE schemaname = 'ledger' AND relname = 'stored_events'"
        )
        row = connection.execute(statement).fetchone()
        assert row is not None
        return row[0]
