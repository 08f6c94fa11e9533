"""Creates webhook events from the changes of meters in the ledger, by whichever interface they were made."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import msgspec

from .....domain.timestamps import to_microseconds
from ....meter_views import MeterChange, MeterView
from ....storage.key_value import EntryExists, KeyValueEntry
from ..api_types import to_rfc3339, to_unix
from ..ledgers import ServedLedger
from ..meter_objects import METERS_URL, billing_meter
from ..object_ids import METER_PREFIX, encode_id
from .deliveries import new_deliveries
from .endpoints import Endpoint
from .events import (
    EVENT_TYPE_BY_METER_CHANGE,
    METER_UPDATED,
    SNAPSHOT_TYPES,
    Event,
    EventData,
    EventV2,
    RelatedObject,
    new_event_id,
    to_entry,
)

POSITION_KIND = "meter_changes_reached"
BATCH_SIZE = 100
EVENT_RETENTION = timedelta(days=30)
"""How long events stay readable."""


class MeterEventSource:
    """Reads the changes of meters from the stored position on. The position is shared by all processes."""

    def __init__(self, ledger: ServedLedger) -> None:
        self._ledger = ledger
        self._position: int | None = None

    def create_events(self, endpoints: Sequence[Endpoint]) -> int:
        """Store the events of new meter changes. Return the number of changes, up to BATCH_SIZE.

        One transaction stores the events and the new position, so that each event is stored once even if a process is
        killed. If two processes do it concurrently, one of them stores nothing, and the position never decreases.
        """
        ledger = self._ledger
        position = self._initial_position() if self._position is None else self._position
        changes = ledger.metering.meters.changes(after=position, limit=BATCH_SIZE)
        if not changes:
            return 0
        now = ledger.now()
        events = [
            event
            for change in changes
            if now - change.meter.updated_at < EVENT_RETENTION
            for event in _build_events(change, ledger)
        ]
        deliveries = new_deliveries(events, endpoints, now)
        self._position = None  # unknown until the transaction commits
        position_entry = KeyValueEntry(POSITION_KIND, _position_key(changes[-1].position), to_microseconds(now), b"")
        try:
            ledger.key_values.apply(
                insert=[position_entry, *_with_pending_counts(events, deliveries), *deliveries],
                delete=[(POSITION_KIND, _position_key(position))],
            )
        except EntryExists:
            return 0  # another process has stored the events
        self._position = changes[-1].position
        return len(changes)

    def _initial_position(self) -> int:
        entries = self._ledger.key_values.scan(POSITION_KIND, limit=1, newest_first=True)
        self._position = int(entries[0].key) if entries else 0
        return self._position


def related_meter(event_name: str) -> RelatedObject:
    """Return the reference to a meter."""
    meter_id = encode_id(METER_PREFIX, event_name)
    return RelatedObject(meter_id, "billing.meter", f"{METERS_URL}/{meter_id}")


def _position_key(position: int) -> str:
    """Return the entry key of a position. Keys sort like positions."""
    return f"{position:020d}"


def _build_events(change: MeterChange, ledger: ServedLedger) -> tuple[KeyValueEntry, KeyValueEntry]:
    """Return the snapshot event and the thin event of a change."""
    at, event_type = change.meter.updated_at, EVENT_TYPE_BY_METER_CHANGE[change.change]
    snapshot_id = new_event_id(at, change.position, "s", livemode=ledger.livemode)
    snapshot = Event(
        id=snapshot_id, created=to_unix(at), data=_snapshot(change, ledger), livemode=ledger.livemode, type=event_type
    )  # fmt: skip
    thin = EventV2(
        id=new_event_id(at, change.position, "t", livemode=ledger.livemode),
        type=f"v1.{event_type}",
        created=to_rfc3339(at),
        livemode=ledger.livemode,
        related_object=related_meter(change.meter.event_name),
        snapshot_event=snapshot_id,
    )
    return to_entry(snapshot, at), to_entry(thin, at)


def _snapshot(change: MeterChange, ledger: ServedLedger) -> EventData:
    after = _as_json(change.meter, ledger)
    is_update = EVENT_TYPE_BY_METER_CHANGE[change.change] == METER_UPDATED
    if change.before is None or not is_update:
        return EventData(object=after)
    return EventData(object=after, previous_attributes=_previous_attributes(_as_json(change.before, ledger), after))


def _as_json(meter: MeterView, ledger: ServedLedger) -> dict[str, Any]:
    return cast(dict[str, Any], msgspec.to_builtins(billing_meter(meter, ledger)))


def _previous_attributes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return the previous values of the fields that differ."""
    changed: dict[str, Any] = {}
    for name, value in before.items():
        if value != after[name]:
            changed[name] = _previous_attributes(value, after[name]) if _have_same_fields(value, after[name]) else value
    return changed


def _have_same_fields(before: Any, after: Any) -> bool:
    return isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys()


def _with_pending_counts(events: Sequence[KeyValueEntry], deliveries: Sequence[KeyValueEntry]) -> list[KeyValueEntry]:
    """Return the events; snapshot events with the number of their deliveries."""
    counts = Counter(entry.key for entry in deliveries)
    return [
        _with_pending_count(entry, counts[entry.key]) if entry.kind in SNAPSHOT_TYPES else entry for entry in events
    ]


def _with_pending_count(entry: KeyValueEntry, count: int) -> KeyValueEntry:
    event = msgspec.json.decode(entry.body, type=Event)
    event.pending_webhooks = count
    return entry._replace(body=msgspec.json.encode(event))
