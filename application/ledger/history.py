"""Stored events as entries of the history, with the author that an import or a bulk cancellation states for them."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, cast

from eventsourcing.persistence import Notification
from pydantic_core import from_json

from ...domain.bulk_cancellation import BulkCancellation
from ...domain.import_run import STREAM_PREFIX as IMPORT_PREFIX
from ...domain.meter import Meter
from ...projections.ports import USAGE_RECORDED
from ..history_results import Authorship, HistoryEntry
from .ledger import Ledger
from .unreadable_events import UNREADABLE_ERRORS, corrupted_error

_APPROVAL_FIELDS = ("approved_by", "proposal_id")
_COMMON_FIELDS = {"recorded_at", "by", "via", "on_behalf_of", *_APPROVAL_FIELDS, "reason", "accepted_under"}
_SECRET_FIELDS = {"salt", "hash"}
_NOT_RECORDED = Authorship()


class _ImportedRange(NamedTuple):
    """Positions of meter events between two events of imports, and who imported them."""

    positions: range
    author: Authorship


class HistoryReader:
    """Makes entries of the history from stored events. It remembers what it has looked up for the last ones."""

    def __init__(self, ledger: Ledger) -> None:
        self._recorder = ledger.ledger_recorder
        self._first_state = lru_cache(maxsize=64)(self._read_first_state)
        self._imported = _ImportedRange(range(0), _NOT_RECORDED)

    def concerns(self, stored: Notification, event_name: str) -> bool:
        """Return whether an event is about a meter. All are, except those of bulk cancellations of other meters."""
        stream = str(stored.originator_id)
        if not stream.startswith(BulkCancellation.stream_id("")):
            return True
        return self._first_state(stream).get("event_name") == event_name

    def entry(self, stored: Notification) -> HistoryEntry:
        """Return the entry of an event. Raises LedgerCorrupted if it can't be read."""
        stream = str(stored.originator_id)
        try:
            state = cast(dict[str, Any], from_json(stored.state))
            recorded_at = datetime.fromisoformat(state["recorded_at"])
        except UNREADABLE_ERRORS as error:
            raise corrupted_error(stream, stored.id, error) from error
        return HistoryEntry(
            stored.id,
            recorded_at,
            stored.topic,
            stream,
            replace(self._author(stored, state), **{name: state.get(name) for name in _APPROVAL_FIELDS}),
            state.get("reason"),
            state.get("accepted_under") or {},
            {name: value for name, value in state.items() if name not in _COMMON_FIELDS | _SECRET_FIELDS},
            self._changed_rules(stored, state) if stored.topic == Meter.RulesChanged.__name__ else {},
        )

    def _author(self, stored: Notification, state: Mapping[str, Any]) -> Authorship:
        by, via, on_behalf_of = (cast(str | None, state.get(name)) for name in ("by", "via", "on_behalf_of"))
        decision = state.get("cancellation_id")
        if via is None and decision is not None:  # the events of a bulk cancellation are caused by its decision
            decided = self._first_state(BulkCancellation.stream_id(decision))
            return Authorship.of(by, decided.get("via"), decided.get("on_behalf_of"))
        if stored.topic == USAGE_RECORDED and via is None:
            return self._author_of_import(stored.id) if by is None else Authorship.of(by, "library", on_behalf_of)
        return Authorship.of(by, via, on_behalf_of)

    def _author_of_import(self, position: int) -> Authorship:
        """Return who imported a meter event; an empty authorship if it belongs to no import.

        The next event of an import says how many meter events before it belong to that import.
        """
        if position in self._imported.positions:
            return self._imported.author
        following = self._recorder.select_by_prefix_after(IMPORT_PREFIX, position, 1)
        if not following:
            self._imported = _ImportedRange(range(position, 2**63), _NOT_RECORDED)
            return _NOT_RECORDED
        (batch,) = following
        first = batch.id - int(from_json(batch.state).get("count", 0))
        if position < first:
            self._imported = _ImportedRange(range(position, first), _NOT_RECORDED)
            return _NOT_RECORDED
        stream = str(batch.originator_id)
        started = self._first_state(stream)
        run_id = stream.removeprefix(IMPORT_PREFIX)
        author = Authorship(started.get("by"), "import", import_run=run_id, on_behalf_of=started.get("on_behalf_of"))
        self._imported = _ImportedRange(range(first, batch.id), author)
        return author

    def _changed_rules(self, stored: Notification, state: Mapping[str, Any]) -> dict[str, tuple[object, object]]:
        """Return the old and the new value of each rule that differs from the revision before."""
        stream = self._recorder.select_stream(str(stored.originator_id))
        earlier = [event for event in stream if event.topic in _REVISION_TOPICS and event.id < stored.id]
        before, after = from_json(earlier[-1].state)["rules"], state["rules"]
        names = dict.fromkeys([*before, *after])
        return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}

    def _read_first_state(self, stream: str) -> Mapping[str, Any]:
        first = self._recorder.select_first_events([stream])
        return from_json(first[0].state) if first else {}


_REVISION_TOPICS = (Meter.Configured.__name__, Meter.RulesChanged.__name__)
