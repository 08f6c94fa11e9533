"""A ledger of 29 events on PostgreSQL, and what is in its table."""

import time

import pytest
from tallybook.domain.errors import TallybookError

from tallybook import Metering

from .histories import query_results, record_history
from .persistent_stores import PostgresSchema

IMMEDIATE_SECONDS = 3
HEAD = 29


def record_29_events(store: PostgresSchema) -> None:
    """Record a history of 29 events."""
    with store.metering() as metering:
        record_history(metering, 20)
        query_results(metering)
    assert stored_rows(store)[-1][0] == HEAD


def stored_rows(store: PostgresSchema) -> list[tuple[object, ...]]:
    """Return all rows of the ledger."""
    return list(store.ledger_rows("SELECT * FROM stored_events ORDER BY position"))


def opening_error(url: str) -> TallybookError:
    """Return the error of opening a ledger, which is raised within a few seconds."""
    started_at = time.monotonic()
    with pytest.raises(TallybookError) as exc_info:
        Metering.open(url).close()
    assert time.monotonic() - started_at < IMMEDIATE_SECONDS
    return exc_info.value
