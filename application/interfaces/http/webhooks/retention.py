"""Retention: deletes expired entries in small batches, so that recording is not blocked."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from .....domain.timestamps import to_microseconds
from ..authentication import SESSION_KIND
from ..idempotency import RESPONSE_KIND
from ..ledgers import ServedLedger
from ..rejected_events import REJECTED_EVENT_KIND
from ..rejected_events import RETENTION as REJECTED_EVENT_RETENTION
from .deliveries import DELIVERED, GIVEN_UP
from .error_reports import REPORT_SEQUENCE_KIND
from .events import SNAPSHOT_TYPES, THIN_TYPES
from .meter_events_source import EVENT_RETENTION

_DAY = timedelta(days=1)
RETENTION_BY_KIND: Mapping[str, timedelta] = {
    RESPONSE_KIND: _DAY,
    SESSION_KIND: _DAY,
    DELIVERED: _DAY,
    GIVEN_UP: EVENT_RETENTION,
    REPORT_SEQUENCE_KIND: EVENT_RETENTION,
    REJECTED_EVENT_KIND: REJECTED_EVENT_RETENTION,
    **dict.fromkeys((*SNAPSHOT_TYPES, *THIN_TYPES), EVENT_RETENTION),
}
"""How long entries of a kind are stored after their time."""
BATCH_SIZE = 500
_PAUSE_SECONDS = 0.05


async def run_retention(ledger: ServedLedger, interval_seconds: float) -> None:
    """Delete expired entries, in intervals, until cancelled."""
    while True:
        for kind, max_age in RETENTION_BY_KIND.items():
            await _purge(ledger, kind, max_age)
        await asyncio.sleep(interval_seconds)


async def _purge(ledger: ServedLedger, kind: str, max_age: timedelta) -> None:
    until = to_microseconds(ledger.now() - max_age)
    while ledger.key_values.due_before(kind, until, 1):  # a read does not block recording
        ledger.key_values.delete_due_before(kind, until, BATCH_SIZE)
        await asyncio.sleep(_PAUSE_SECONDS)
