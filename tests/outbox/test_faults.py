"""If any statement of a relay fails, or its response is lost, each row is recorded once, by this relay or the next.

The statements are those on the outbox, in PostgreSQL, and those on the ledger, in SQLite.
"""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tallybook.application import Metering, Outbox, TallybookError

from ..faults.fault_injector import FaultInjector
from ..faults.statements import observe_statements
from ..simulate.patches import short_lock_timeout
from ..waiting import wait_until
from .hosts import HostDatabase

MIN_STATEMENTS = {"once": 10, "connection lost": 10, "response lost": 2}
"""The least number of statements that fail in each mode. The response of a commit is lost."""


@contextmanager
def open_outbox(folder: Path, host: HostDatabase) -> Generator[Outbox]:
    """Open an outbox in PostgreSQL with a ledger in a file."""
    with (
        Metering.open(f"sqlite:///{folder / 'usage.db'}") as metering,
        Outbox(metering, host.url, table=host.table) as outbox,
    ):
        yield outbox


def insert(host: HostDatabase, number: int) -> None:
    """Commit a row that the ledger accepts, and one that it rejects."""
    for event_name in ("tokens", "images"):
        host.execute(
            "INSERT INTO {prefix}tallybook_outbox"
            " (format, event_name, identifier, payload, submitted_at, state) VALUES"
            f' (1, \'{event_name}\', \'{event_name}-{number}\', \'{{{{"customer":"acme","tokens":"1"}}}}\','
            " '2026-11-01T00:00:00.000000Z', 'waiting')"
        )


def relay_with_fault(folder: Path, host: HostDatabase, injector: FaultInjector) -> None:
    """Relay while a statement fails. The relay may raise an error."""
    with observe_statements(injector), open_outbox(folder, host) as outbox:
        outbox.lag()  # connects
        with injector.armed(), suppress(TallybookError):
            outbox.relay()


@pytest.mark.slow
@pytest.mark.parametrize("mode", MIN_STATEMENTS)
def test_a_relay_survives_a_fault_at_any_statement(tmp_path: Path, postgres_host: HostDatabase, mode: str) -> None:
    """Statement after statement fails, until a relay has no more of them."""
    with short_lock_timeout(), open_outbox(tmp_path, postgres_host) as outbox:
        with Metering.open(f"sqlite:///{tmp_path / 'usage.db'}") as metering:
            metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
        number, was_reached = 0, True
        while was_reached:
            number += 1
            insert(postgres_host, number)
            injector = FaultInjector(mode, number)
            relay_with_fault(tmp_path, postgres_host, injector)

            def is_relayed(outbox: Outbox = outbox) -> bool:
                outbox.relay()  # the server may still roll back the transaction of a lost connection
                return outbox.lag().waiting == 0

            wait_until(is_relayed)
            assert outbox.lag().rejected == number
            was_reached = injector.was_reached
        assert number > MIN_STATEMENTS[mode]
        with Metering.open(f"sqlite:///{tmp_path / 'usage.db'}") as metering:
            assert metering.imports.ledger.head() == 1 + number  # the meter, and one event of each round
