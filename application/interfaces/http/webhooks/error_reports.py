"""Error reports: one event for all rejected meter events of a window and a meter."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from .....domain.errors import InvalidParameter, MeterNotFound
from .....domain.timestamps import from_microseconds, to_microseconds
from ....storage.key_value import EntryExists, KeyValueEntry
from ..api_types import to_rfc3339
from ..ledgers import ServedLedger
from ..rejected_events import REJECTED_EVENT_KIND, UNREPORTED_KIND, RejectedEvent, decode_rejected
from ..settings import WebhookSettings
from .deliveries import new_deliveries
from .endpoints import Endpoint
from .events import ERROR_REPORT, NO_METER_FOUND, EventV2, new_event_id, to_entry
from .meter_events_source import related_meter

REPORT_SEQUENCE_KIND = "report_number"
BATCH_SIZE = 5_000
MAX_SAMPLES = 5
_NO_METER_CODE = "no_meter"


class _ReportKey(NamedTuple):
    """The window of a report, by number, and its meter, if the meter exists."""

    window: int
    event_name: str | None


class _RejectedEvent(NamedTuple):
    id: str
    event: RejectedEvent


def create_error_reports(ledger: ServedLedger, endpoints: Sequence[Endpoint], settings: WebhookSettings) -> int:
    """Report the rejected events of ended windows. Return how many, up to BATCH_SIZE.

    One transaction stores the reports and deletes the `unreported` entries. The sequence number is read before these
    entries: if two processes report the same events, both insert the same number, and one of them fails and retries.
    """
    now, window_size = ledger.now(), settings.window_microseconds
    until = to_microseconds(now) // window_size * window_size - 1
    if not ledger.key_values.due_before(UNREPORTED_KIND, until, 1):
        return 0
    sequence = 1 + max(
        (int(entry.key) for entry in ledger.key_values.scan(REPORT_SEQUENCE_KIND, limit=1, newest_first=True)),
        default=0,
    )
    unreported = ledger.key_values.due_before(UNREPORTED_KIND, until, BATCH_SIZE)
    reports = [
        to_entry(_build_report(report_key, rejected, ledger, now, settings, sequence * BATCH_SIZE + index), now)
        for index, (report_key, rejected) in enumerate(_group_by_window_and_meter(ledger, unreported, window_size))
    ]
    sequence_entry = KeyValueEntry(REPORT_SEQUENCE_KIND, f"{sequence:020d}", to_microseconds(now), b"")
    try:
        ledger.key_values.apply(
            insert=[sequence_entry, *reports, *new_deliveries(reports, endpoints, now)],
            delete=[(UNREPORTED_KIND, entry.key) for entry in unreported],
        )
    except EntryExists:
        return 0  # another process has created the reports
    return len(unreported)


def _group_by_window_and_meter(
    ledger: ServedLedger, unreported: Sequence[KeyValueEntry], window_size: int
) -> Iterable[tuple[_ReportKey, list[_RejectedEvent]]]:
    entries = ledger.key_values.get(REJECTED_EVENT_KIND, [unreported_entry.key for unreported_entry in unreported])
    meter_exists: dict[str, bool] = {}
    groups: defaultdict[_ReportKey, list[_RejectedEvent]] = defaultdict(list)
    for unreported_entry in unreported:
        if unreported_entry.key not in entries:
            continue  # it has expired
        event = decode_rejected(entries[unreported_entry.key].body)
        name = event.event_name
        if name not in meter_exists:
            meter_exists[name] = _is_meter(ledger, name)
        has_meter = event.code != _NO_METER_CODE and meter_exists[name]
        groups[_ReportKey(unreported_entry.at // window_size, name if has_meter else None)].append(
            _RejectedEvent(unreported_entry.key, event)
        )
    return groups.items()


def _is_meter(ledger: ServedLedger, event_name: str) -> bool:
    try:
        ledger.metering.meters.get(event_name)
    except (MeterNotFound, InvalidParameter):
        return False
    return True


def _build_report(
    report_key: _ReportKey,
    rejected: Sequence[_RejectedEvent],
    ledger: ServedLedger,
    now: datetime,
    settings: WebhookSettings,
    number: int,
) -> EventV2:
    window_size = settings.window_microseconds
    start = from_microseconds(report_key.window * window_size)
    count_text = "is 1 invalid event" if len(rejected) == 1 else f"are {len(rejected)} invalid events"
    return EventV2(
        id=new_event_id(now, number, "r", livemode=ledger.livemode),
        type=NO_METER_FOUND if report_key.event_name is None else ERROR_REPORT,
        created=to_rfc3339(now),
        livemode=ledger.livemode,
        related_object=None if report_key.event_name is None else related_meter(report_key.event_name),
        data={
            "developer_message_summary": f"There {count_text}",
            "reason": {"error_count": len(rejected), "error_types": _error_types(rejected)},
            "validation_start": to_rfc3339(start),
            "validation_end": to_rfc3339(start + timedelta(microseconds=window_size)),
        },
    )


def _error_types(rejected: Iterable[_RejectedEvent]) -> list[dict[str, Any]]:
    by_code: defaultdict[str, list[_RejectedEvent]] = defaultdict(list)
    for rejected_event in rejected:
        by_code[rejected_event.event.code].append(rejected_event)
    return [
        {
            "code": code,
            "error_count": len(rejected_events),
            "sample_errors": [_sample_error(rejected_event) for rejected_event in rejected_events[:MAX_SAMPLES]],
        }
        for code, rejected_events in by_code.items()
    ]


def _sample_error(rejected: _RejectedEvent) -> dict[str, Any]:
    """Return a sample error. `request` is Stripe's; `meter_event_error` is an extension that names the event."""
    event = rejected.event
    return {
        "error_message": event.message,
        "request": {"identifier": event.idempotency_key or event.request_id},
        "meter_event_error": {"id": rejected.id, "event_name": event.event_name, "identifier": event.identifier},
    }
