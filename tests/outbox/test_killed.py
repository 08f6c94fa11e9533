"""Hosts and relays that are killed: the usage of a committed order is recorded once, that of another one never.

Each test kills at one moment; TALLYBOOK_TEST_KILL_MOMENTS sets another number.
"""

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from subprocess import PIPE
from urllib.parse import urlsplit

import pytest
from tallybook.application import Metering, Outbox

from ..postgres import Database
from ..preloaded.program import Program
from ..waiting import wait_until
from .hosts import HostDatabase

KILL_COUNT = int(os.environ.get("TALLYBOOK_TEST_KILL_MOMENTS", "1"))
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture
def separate_url(postgres: Database) -> Iterator[str]:
    """Return the URL of a ledger in a database of its own, on the same server."""
    name = f"ledger_{os.getpid()}"
    with closing(postgres.connect()) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        yield urlsplit(postgres.url)._replace(path=f"/{name}").geturl()
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def start(program: str, *arguments: str) -> Program:
    """Start a program, and return when it works."""
    process = Program("-m", f"{__package__}.killed_programs", program, *arguments, folder=ROOT, stdout=PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill_at_a_moment(database: HostDatabase, ledger_url: str, moment: int) -> None:
    """Start a host and two relays, and kill them one after the other at seeded times."""
    rng = random.Random(moment)
    with ExitStack() as exit_stack:
        common = database.url, database.prefix, ledger_url
        processes = [start("sell", *common, str(moment)), *(start("relay", *common, size) for size in ("1", "7"))]
        for process in processes:
            exit_stack.enter_context(process)
            exit_stack.callback(process.kill)
        rng.shuffle(processes)
        for process in processes:
            time.sleep(rng.random() * 0.1)  # the kill comes at any moment
            assert process.poll() is None
            process.kill()


def assert_usage_is_that_of_orders(database: HostDatabase, ledger_url: str, checked: set[str]) -> set[str]:
    """Relay what is left, check that the ledger has one meter event for each committed order, and return the orders.

    Orders that were `checked` before are only counted. PostgreSQL may still commit or roll back transactions of killed
    processes, and hold their locks.
    """
    with Metering.open(ledger_url) as metering, Outbox(metering, database.url, table=database.table) as outbox:
        ledger = metering.imports.ledger
        orders: set[str] = set()

        def unrecorded() -> set[str]:
            assert outbox.relay().rejected == 0
            orders.update(order for (order,) in database.execute("SELECT identifier FROM {prefix}orders"))
            return orders - checked - ledger.find_meter_events(orders - checked).keys()

        wait_until(lambda: not unrecorded() and outbox.lag().waiting == 0, lambda: f"not recorded: {unrecorded()}")
        assert ledger.head() == 1 + len(orders)  # the first event is that of the meter
        assert outbox.lag().rejected == 0
    return orders


@pytest.mark.parametrize(
    ("database", "ledger"),
    [("sqlite_host", "sqlite"), ("postgres_host", "shared_url"), ("postgres_host", "separate_url")],
)
def test_usage_of_committed_orders_is_recorded_once(
    database: str, ledger: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """On SQLite, and with the ledger in the host's PostgreSQL database and in another one."""
    host_database: HostDatabase = request.getfixturevalue(database)
    ledger_url = f"sqlite:///{tmp_path / 'usage.db'}" if ledger == "sqlite" else request.getfixturevalue(ledger)
    with Metering.open(ledger_url) as metering:
        metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
    orders: set[str] = set()
    for moment in range(KILL_COUNT):
        kill_at_a_moment(host_database, ledger_url, moment)
        orders = assert_usage_is_that_of_orders(host_database, ledger_url, orders)
    assert orders


@pytest.fixture
def shared_url(postgres: Database) -> str:
    """Return the URL of a ledger in the host's database."""
    return postgres.fresh_url()
