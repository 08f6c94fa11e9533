"""The users of docs/guides/postgresql.md: programs and plain connections as each of them."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from tallybook.application import Metering, PostgresSettings

DAY = timedelta(days=1)
TOKENS: dict[str, Any] = {"customer_key": "customer", "value_key": "tokens"}


def open_as(user: str, timeout_seconds: float = 10) -> Metering:
    """Open the ledger as one of the page's users."""
    parameters = {"dbname": "billing", "user": user}
    return Metering.open(PostgresSettings(parameters=parameters, timeout_seconds=timeout_seconds))


def connect_as(user: str) -> "psycopg.Connection[tuple[object, ...]]":
    """Connect without the program."""
    return psycopg.connect(f"postgresql://{user}@/billing", autocommit=True)


def acme_total(metering: Metering) -> int:
    """Return the total of acme."""
    now = datetime.now(UTC)
    return int(metering.total("tokens", "acme", now - DAY, now + DAY).value)


def record(metering: Metering, identifier: str) -> None:
    """Record ten tokens."""
    metering.record("tokens", {"customer": "acme", "tokens": "10"}, identifier=identifier)


@contextmanager
def run_projection() -> Generator[None]:
    """Run a projection as the page's user for it."""
    stop = threading.Event()
    with open_as("projector") as metering:
        projection = threading.Thread(target=metering.run_projection, args=(stop,))
        projection.start()
        try:
            yield
        finally:
            stop.set()
            projection.join()
