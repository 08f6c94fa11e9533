"""Looks up recorded meter events by identifier. Those that are pruned are found without their archive."""

import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ...domain.errors import ArchiveMismatch, ArchiveUnavailable
from ...domain.meter_event import MeterEvent
from ..storage.ports import PositionedEventRow
from .ledger import Ledger, StoredMeterEvent, identifier_of, stored_meter_events


class PrunedMeterEvent(NamedTuple):
    """A recorded meter event whose data is in an archive: its row, with the leaf hash in place of the state."""

    row: PositionedEventRow


UnreadableEvent = ArchiveUnavailable | ArchiveMismatch
KnownEvent = StoredMeterEvent | PrunedMeterEvent | UnreadableEvent
"""A recorded meter event, or the error for one that can't be read from its archive."""
_log = logging.getLogger("tallybook")


def find_known_events(ledger: Ledger, identifiers: Iterable[str]) -> dict[str, KnownEvent]:
    """Return the recorded meter events among `identifiers`, by identifier, without reading an archive."""
    recorder = ledger.ledger_recorder
    rows = recorder.select_first_rows(list(map(MeterEvent.stream_id, identifiers)))
    pruned = recorder.covered_hashes(rows)
    known: dict[str, KnownEvent] = {identifier_of(row[1]): PrunedMeterEvent(row) for row in rows if row[0] in pruned}
    return known | stored_meter_events(row for row in rows if row[0] not in pruned)


def read_pruned_events(ledger: Ledger, known: Mapping[str, KnownEvent]) -> dict[str, KnownEvent]:
    """Return known events, with those that are pruned as their archive has them; an error if that can't be read."""
    rows = {identifier: event.row for identifier, event in known.items() if isinstance(event, PrunedMeterEvent)}
    try:
        return {**known, **stored_meter_events(ledger.ledger_recorder.restore(list(rows.values())))}
    except (ArchiveUnavailable, ArchiveMismatch) as error:
        _log.warning("Pruned meter events can't be compared with those that were sent again: %s", error)
        return {**known, **{identifier: _unreadable(identifier, error) for identifier in rows}}


def _unreadable(identifier: str, cause: UnreadableEvent) -> UnreadableEvent:
    """Return the error for a meter event. Its message is for whoever has sent it, so it doesn't name the archive."""
    error = type(cause)(
        f"The identifier {identifier!r} is taken by an old meter event, which can't be read from the archive. So "
        "it isn't known whether this one is the same; in any case it isn't recorded.",
        field="identifier",
        value=identifier,
    )
    error.__cause__ = cause
    return error
