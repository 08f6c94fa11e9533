"""Looks up recorded meter events by identifier, where one that can't be read must not hold up the others."""

from collections.abc import Iterable

from ...domain.errors import ArchiveMismatch, ArchiveUnavailable
from ...domain.meter_event import MeterEvent
from .ledger import Ledger, StoredMeterEvent

KnownEvent = StoredMeterEvent | ArchiveUnavailable | ArchiveMismatch
"""A recorded meter event, or why it can't be read from its archive."""


def find_known_events(ledger: Ledger, identifiers: Iterable[str]) -> dict[str, KnownEvent]:
    """Return the recorded meter events among `identifiers`, by identifier; an error for each that can't be read."""
    wanted = {MeterEvent.stream_id(identifier): identifier for identifier in identifiers}
    try:
        return dict(ledger.find_meter_events(wanted.values()))
    except (ArchiveUnavailable, ArchiveMismatch) as error:
        pruned = {wanted.pop(stream) for stream in ledger.ledger_recorder.select_pruned_streams(list(wanted))}
        unreadable = dict.fromkeys(pruned, error)
    return {**unreadable, **ledger.find_meter_events(wanted.values())}
