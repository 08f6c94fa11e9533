"""Looks up recorded meter events by identifier, where one that can't be read must not hold up the others."""

import logging
from collections.abc import Iterable

from ...domain.errors import ArchiveMismatch, ArchiveUnavailable
from ...domain.meter_event import MeterEvent
from .ledger import Ledger, StoredMeterEvent

UnreadableEvent = ArchiveUnavailable | ArchiveMismatch
KnownEvent = StoredMeterEvent | UnreadableEvent
"""A recorded meter event, or the error for one that can't be read from its archive."""
_log = logging.getLogger("tallybook")


def find_known_events(ledger: Ledger, identifiers: Iterable[str]) -> dict[str, KnownEvent]:
    """Return the recorded meter events among `identifiers`, by identifier; an error for each that can't be read."""
    wanted = {MeterEvent.stream_id(identifier): identifier for identifier in identifiers}
    try:
        return dict(ledger.find_meter_events(wanted.values()))
    except (ArchiveUnavailable, ArchiveMismatch) as error:
        _log.warning("Pruned meter events can't be compared with those that were sent again: %s", error)
        pruned = {wanted.pop(stream) for stream in ledger.ledger_recorder.select_pruned_streams(list(wanted))}
        unreadable = {identifier: _unreadable(identifier, error) for identifier in pruned}
    return {**unreadable, **ledger.find_meter_events(wanted.values())}


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
