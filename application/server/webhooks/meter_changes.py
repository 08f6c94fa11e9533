"""Events of what happens to meters, made by following the ledger: whoever changed them, and whenever."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import msgspec

from ....domain.instants import microseconds
from ...results import MeterChange, MeterView
from ...stores.kept import AlreadyKept, KeptRow
from ..desk import Desk
from ..ids import METER, id_of
from ..resources.meters import URL, billing_meter
from ..times import rfc3339, unix
from .deliveries import deliveries
from .endpoints import Endpoint
from .event_types import HAPPENED, SNAPSHOTS, UPDATED
from .events import Event, EventV2, RelatedObject, Snapshot, event_id, kept

REACHED = "meter_changes_reached"
AT_A_TIME = 100
READABLE = timedelta(days=30)
"""How long events can be read."""


class MeterFollower:
    """Follows what the ledger says of meters, from where it was last followed to, by whichever process."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._reached: int | None = None

    def follow(self, endpoints: Sequence[Endpoint]) -> int:
        """Keep the events of what happened to meters since the last time; give how much did, up to AT_A_TIME.

        They are kept together with how far that reached, so that each is kept once, whatever is killed when. Of two
        processes that follow at once one does nothing, and no process ever goes back.
        """
        desk = self._desk
        reached = self._begin() if self._reached is None else self._reached
        changes = desk.metering.meter_changes(after=reached, limit=AT_A_TIME)
        if not changes:
            return 0
        now = desk.now()
        rows = [row for change in changes if now - change.meter.updated_at < READABLE for row in _events(change, desk)]
        told = deliveries(rows, endpoints, now)
        self._reached = None  # until it is kept
        mark = KeptRow(REACHED, _place(changes[-1].position), microseconds(now), b"")
        try:
            desk.keeper.change(add=[mark, *_counted(rows, told), *told], remove=[(REACHED, _place(reached))])
        except AlreadyKept:
            return 0  # another process was faster
        self._reached = changes[-1].position
        return len(changes)

    def _begin(self) -> int:
        rows = self._desk.keeper.select(REACHED, limit=1, newest_first=True)
        self._reached = int(rows[0].key) if rows else 0
        return self._reached


def related_meter(event_name: str) -> RelatedObject:
    """The meter that an event is about."""
    meter_id = id_of(METER, event_name)
    return RelatedObject(meter_id, "billing.meter", f"{URL}/{meter_id}")


def _place(position: int) -> str:
    """The key of a position: greater ones come later."""
    return f"{position:020d}"


def _events(change: MeterChange, desk: Desk) -> tuple[KeptRow, KeptRow]:
    """Both forms of an event."""
    at, name = change.meter.updated_at, HAPPENED[change.happened]
    snapshot_id = event_id(at, change.position, "s", livemode=desk.livemode)
    snapshot = Event(
        id=snapshot_id, created=unix(at), data=_snapshot(change, desk), livemode=desk.livemode, type=name
    )  # fmt: skip
    thin = EventV2(
        id=event_id(at, change.position, "t", livemode=desk.livemode),
        type=f"v1.{name}",
        created=rfc3339(at),
        livemode=desk.livemode,
        related_object=related_meter(change.meter.event_name),
        snapshot_event=snapshot_id,
    )
    return kept(snapshot, at), kept(thin, at)


def _snapshot(change: MeterChange, desk: Desk) -> Snapshot:
    after = _as_json(change.meter, desk)
    is_update = HAPPENED[change.happened] == UPDATED
    if change.before is None or not is_update:
        return Snapshot(object=after)
    return Snapshot(object=after, previous_attributes=_before(_as_json(change.before, desk), after))


def _as_json(meter: MeterView, desk: Desk) -> dict[str, Any]:
    return cast(dict[str, Any], msgspec.to_builtins(billing_meter(meter, desk)))


def _before(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What was otherwise before, as it was."""
    changed: dict[str, Any] = {}
    for name, value in before.items():
        if value != after[name]:
            is_nested = isinstance(value, dict) and isinstance(after[name], dict)
            changed[name] = _before(cast(dict[str, Any], value), after[name]) if is_nested else value
    return changed


def _counted(rows: Sequence[KeptRow], told: Sequence[KeptRow]) -> list[KeptRow]:
    """Events, snapshots of them with how many deliveries there are to be."""
    counts = Counter(row.key for row in told)
    return [_with_count(row, counts[row.key]) if row.kind in SNAPSHOTS else row for row in rows]


def _with_count(row: KeptRow, count: int) -> KeptRow:
    event = msgspec.json.decode(row.body, type=Event)
    event.pending_webhooks = count
    return row._replace(body=msgspec.json.encode(event))
