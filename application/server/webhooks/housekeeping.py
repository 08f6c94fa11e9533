"""Housekeeping: what has had its time is taken away, in small steps, so that nobody who records waits for it."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from ....domain.instants import microseconds
from ..desk import Desk
from ..idempotency import ANSWER
from ..sessions import SESSION
from .deliveries import DELIVERED, GIVEN_UP
from .error_reports import REPORT_NUMBER
from .event_types import SNAPSHOTS, THIN
from .meter_changes import READABLE

_DAY = timedelta(days=1)
KEPT_FOR: Mapping[str, timedelta] = {
    ANSWER: _DAY,
    SESSION: _DAY,
    DELIVERED: _DAY,
    GIVEN_UP: READABLE,
    REPORT_NUMBER: READABLE,
    **dict.fromkeys((*SNAPSHOTS, *THIN), READABLE),
}
"""How long rows of a kind are kept after their time. Refused events are usage that isn't counted: they stay."""
AT_A_TIME = 500
_PAUSE_SECONDS = 0.05


async def keep_house(desk: Desk, every_seconds: float) -> None:
    """Take away what has had its time, now and then, for ever."""
    while True:
        for kind, age in KEPT_FOR.items():
            await _clear(desk, kind, age)
        await asyncio.sleep(every_seconds)


async def _clear(desk: Desk, kind: str, age: timedelta) -> None:
    until = microseconds(desk.now() - age)
    while desk.keeper.due(kind, until, 1):  # which costs those who record nothing
        desk.keeper.remove_until(kind, until, AT_A_TIME)
        await asyncio.sleep(_PAUSE_SECONDS)
