"""Error reports: refused events of one window of time, gathered by meter and told once."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from ....domain.errors import InvalidParameter, NoMeter
from ....domain.instants import instant, microseconds
from ...stores.kept import AlreadyKept, KeptRow
from ..desk import Desk
from ..refused_events import REFUSED_EVENT, UNREPORTED, RefusedEvent
from ..times import rfc3339
from .deliveries import deliveries
from .endpoints import Endpoint
from .event_types import ERROR_REPORT, NO_METER_FOUND
from .events import EventV2, event_id, kept
from .meter_changes import related_meter
from .settings import WebhookSettings

REPORT_NUMBER = "report_number"
AT_A_TIME = 5_000
MOST_SAMPLES = 5
_NO_METER = "no_meter"


class _Group(NamedTuple):
    """What one report is of: a window, by its number, and a meter, if there is one."""

    window: int
    event_name: str | None


class _Refused(NamedTuple):
    id: str
    event: RefusedEvent


def report_refused_events(desk: Desk, endpoints: Sequence[Endpoint], settings: WebhookSettings) -> int:
    """Report refused events of windows that are over; give how many, up to AT_A_TIME.

    Reports are kept in the transaction that takes away the marks of what they report. Their number was read before
    the marks were: two processes that report the same at once add the same number, and one of them does nothing.
    """
    now, size = desk.now(), settings.window_microseconds
    until = microseconds(now) // size * size - 1
    if not desk.keeper.due(UNREPORTED, until, 1):
        return 0
    number = 1 + max((int(row.key) for row in desk.keeper.select(REPORT_NUMBER, limit=1, newest_first=True)), default=0)
    marks = desk.keeper.due(UNREPORTED, until, AT_A_TIME)
    reports = [
        kept(_report(group, refused, desk, now, settings, number * AT_A_TIME + at), now)
        for at, (group, refused) in enumerate(_groups(desk, marks, size))
    ]
    fence = KeptRow(REPORT_NUMBER, f"{number:020d}", microseconds(now), b"")
    try:
        desk.keeper.change(
            add=[fence, *reports, *deliveries(reports, endpoints, now)],
            remove=[(UNREPORTED, mark.key) for mark in marks],
        )
    except AlreadyKept:
        return 0  # another process was faster
    return len(marks)


def _groups(desk: Desk, marks: Sequence[KeptRow], size: int) -> Iterable[tuple[_Group, list[_Refused]]]:
    rows = desk.keeper.get(REFUSED_EVENT, [mark.key for mark in marks])
    meters: dict[str, bool] = {}
    groups: defaultdict[_Group, list[_Refused]] = defaultdict(list)
    for mark in marks:
        event = _decode(rows[mark.key].body)
        name = event.event_name
        if name not in meters:
            meters[name] = _is_meter(desk, name)
        has_meter = event.code != _NO_METER and meters[name]
        groups[_Group(mark.at // size, name if has_meter else None)].append(_Refused(mark.key, event))
    return groups.items()


def _is_meter(desk: Desk, event_name: str) -> bool:
    try:
        desk.metering.meter(event_name)
    except (NoMeter, InvalidParameter):
        return False
    return True


def _report(
    group: _Group, refused: Sequence[_Refused], desk: Desk, now: datetime, settings: WebhookSettings, number: int
) -> EventV2:
    size = settings.window_microseconds
    start = instant(group.window * size)
    many = "is 1 invalid event" if len(refused) == 1 else f"are {len(refused)} invalid events"
    return EventV2(
        id=event_id(now, number, "r", livemode=desk.livemode),
        type=NO_METER_FOUND if group.event_name is None else ERROR_REPORT,
        created=rfc3339(now),
        livemode=desk.livemode,
        related_object=None if group.event_name is None else related_meter(group.event_name),
        data={
            "developer_message_summary": f"There {many}",
            "reason": {"error_count": len(refused), "error_types": _error_types(refused)},
            "validation_start": rfc3339(start),
            "validation_end": rfc3339(start + timedelta(microseconds=size)),
        },
    )


def _error_types(refused: Iterable[_Refused]) -> list[dict[str, Any]]:
    by_code: defaultdict[str, list[_Refused]] = defaultdict(list)
    for one in refused:
        by_code[one.event.code].append(one)
    return [
        {"code": code, "error_count": len(those), "sample_errors": [_sample(one) for one in those[:MOST_SAMPLES]]}
        for code, those in by_code.items()
    ]


def _sample(refused: _Refused) -> dict[str, Any]:
    """An error. Stripe names its request by the idempotency key; which event of that request it was is ours to add."""
    event = refused.event
    return {
        "error_message": event.message,
        "request": {"identifier": event.idempotency_key or event.request_id},
        "meter_event_error": {"id": refused.id, "event_name": event.event_name, "identifier": event.identifier},
    }


_decode = msgspec.json.Decoder(RefusedEvent).decode
