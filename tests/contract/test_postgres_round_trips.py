"""How often a query waits for PostgreSQL: a round trip takes longer than the statements in it."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from tallybook.application import Metering

from ..faults.tcp_proxy import TcpProxy
from ..postgres import Server

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
IN_BERLIN = tuple(bound - timedelta(hours=2) for bound in OCTOBER)
NOW = datetime(2026, 10, 30, tzinfo=UTC)
CUSTOMER = "acme"
WARM_UP = 8
"""A statement is prepared when it has been executed five times."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that the proxy connects to."""
    with closing(Server()) as started:
        yield started


class RoundTrips:
    """A ledger behind a proxy that counts what a client sends before it waits for a response."""

    def __init__(self, metering: Metering, proxy: TcpProxy) -> None:
        self.metering = metering
        self._numbers = iter(range(10**6))
        self._count = 0
        self._is_waiting = False
        proxy.on_bytes = self._observe_request
        proxy.on_response = self._observe_response

    def record(self) -> None:
        """Record a meter event of an hour of October."""
        number = next(self._numbers)
        payload = {"customer": CUSTOMER, "value": "1"}
        at = OCTOBER[0] + timedelta(hours=number % 600)
        self.metering.record("tokens", payload, identifier=f"use-{number}", timestamp=at)

    def of(self, call: Callable[[], object]) -> int:
        """Return the number of round trips of a call."""
        self._count = 0
        call()
        return self._count

    def least(self, call: Callable[[], object], before: Callable[[], object] = lambda: None) -> int:
        """Return the least number of round trips of three calls: the proxy may receive one request in two parts."""
        counts: list[int] = []
        for _ in range(3):
            before()
            counts.append(self.of(call))
        return min(counts)

    def _observe_request(self, sent: bytes) -> None:
        """Count what is sent after a response, but for the ROLLBACK that ends a read session: nothing waits for it."""
        if not self._is_waiting and not sent.endswith(b"ROLLBACK\0"):
            self._count += 1
            self._is_waiting = True

    def _observe_response(self, _: bytes) -> None:
        self._is_waiting = False


@contextmanager
def open_ledger(server: Server, schema: str) -> Generator[RoundTrips]:
    """Open a ledger with usage that was queried before."""
    with (
        TcpProxy(server) as proxy,
        Metering.open(f"{proxy.url}&schema={schema}", clock=lambda: NOW) as metering,
    ):
        metering.meters.configure("tokens", customer_key="customer")
        ledger = RoundTrips(metering, proxy)
        for _ in range(WARM_UP):
            ledger.record()
            for query in QUERIES.values():
                query(metering)
        yield ledger


QUERIES: dict[str, Callable[[Metering], object]] = {
    "total": lambda metering: metering.total("tokens", CUSTOMER, *OCTOBER),
    "total in Berlin": lambda metering: metering.total("tokens", CUSTOMER, *IN_BERLIN),
    "totals": lambda metering: metering.totals("tokens", *OCTOBER),
    "summaries": lambda metering: metering.summaries("tokens", CUSTOMER, *OCTOBER, window="day"),
    "explain": lambda metering: metering.explain("tokens", CUSTOMER, *OCTOBER),
}


def test_a_query_takes_few_round_trips(server: Server) -> None:
    """One for the state, one or two for the rows, and one for what the ledger has of explained events."""
    with open_ledger(server, "round_trips") as ledger:
        counted = {name: ledger.least(lambda query=query: query(ledger.metering)) for name, query in QUERIES.items()}
        assert counted == {"total": 2, "total in Berlin": 2, "totals": 2, "summaries": 2, "explain": 3}


def test_a_total_after_one_event_takes_few_round_trips(server: Server) -> None:
    """A quota check: record, then read the total. The rows that the event changes are known from the page before."""
    with open_ledger(server, "round_trips_after_an_event") as ledger:
        recorded = ledger.of(ledger.record)
        counted = {
            name: ledger.least(lambda query=query: query(ledger.metering), before=ledger.record)
            for name, query in QUERIES.items()
        }
        assert recorded == 3
        assert counted == {"total": 3, "total in Berlin": 3, "totals": 3, "summaries": 3, "explain": 4}


def test_the_customers_of_a_page_are_looked_up_together(server: Server) -> None:
    """A process that has read no customer takes about as many round trips for 200 of them as for 2."""
    schema = "round_trips_of_customers"
    counted: dict[int, int] = {}
    with open_ledger(server, schema) as ledger:
        for count in (2, 200):
            page = [
                {"event_name": "tokens", "timestamp": NOW, "payload": {"customer": f"c{number % count}", "value": "1"}}
                for number in range(400)
            ]
            ledger.metering.record_many(page)
            ledger.metering.catch_up()
            ledger.metering.record_many(page)
            with TcpProxy(server) as proxy, Metering.open(f"{proxy.url}&schema={schema}", clock=lambda: NOW) as other:
                counted[count] = RoundTrips(other, proxy).of(other.catch_up)
    assert counted[200] < counted[2] + 10
