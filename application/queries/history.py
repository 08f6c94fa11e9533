"""The history of a ledger: who did what, when, how and why."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from heapq import merge
from itertools import islice
from operator import attrgetter
from urllib.parse import quote

from eventsourcing.persistence import Notification

from ...domain.access_key import AccessKey
from ...domain.bulk_cancellation import STREAM_PREFIX as CANCELLATION_PREFIX
from ...domain.customer_periods import STREAM_PREFIX as PERIOD_PREFIX
from ...domain.customer_periods import CustomerPeriods
from ...domain.errors import AccessKeyNotFound, InvalidParameter, MeterEventNotFound
from ...domain.meter import Meter
from ...domain.meter_event import MeterEvent
from ...domain.timestamps import MIN_DATETIME, ensure_time_range, ensure_utc
from ..history_results import HistoryEntry, HistoryPage
from ..interruption import check_interruption
from ..ledger.history import HistoryReader
from ..ledger.ledger import Ledger
from ..ledger.retry import retry_on_connection_loss
from ..validation import optional_customer, optional_note, require_bool, require_event_name, require_int, require_text
from .meter_query import MeterQueryFactory

MAX_LIMIT = 1_000
_PAGE_SIZE = 1_000
_MAX_POSITION = 2**63 - 1
_Source = Callable[[int], Sequence[Notification]]
"""Returns some of the events after a position, in order; none at the end."""


class HistoryQueries:
    """The history of a ledger: `metering.history`."""

    def __init__(self, ledger: Ledger, meter_queries: MeterQueryFactory) -> None:
        self._ledger = ledger
        self._as_of = meter_queries.as_of

    @retry_on_connection_loss
    def list(
        self,
        *,
        event_name: str | None = None,
        customer: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        identifier: str | None = None,
        key_id: str | None = None,
        by: str | None = None,
        recorded_from: datetime | None = None,
        recorded_until: datetime | None = None,
        after: int = 0,
        until: int | None = None,
        include_usage: bool = False,
        limit: int = 100,
    ) -> HistoryPage:
        """Return what happened, each event with its author, reason and details, in the order of positions.

        With an `event_name`: the changes of the meter and of its rules, its closings, reopenings and settlements, and
        its bulk cancellations; with a `customer` too, the closings of this customer, or only those of the period
        [start, end). With an `identifier`: a meter event and its cancellations. With a `key_id`: an access key. With
        none of them: everything in the ledger, but recorded usage only if `include_usage` is set.

        `by` selects what one author did, or what was done on behalf of this name. `recorded_from` and `recorded_until`
        are times of recording, `after` and `until` positions. At most `limit` entries (1 to 1,000) are returned; the
        next page starts `after` the position `next_after` of this one.

        Raises MeterNotFound, MeterEventNotFound, AccessKeyNotFound, InvalidParameter or InvalidTimeRange.
        """
        limit = require_int(limit, "limit", 1, MAX_LIMIT)
        by = optional_note(by, "by")
        first, last = self._positions(recorded_from, recorded_until, after, until)
        sources = self._sources(event_name, customer, identifier, key_id, last, require_bool(include_usage, "usage"))
        bounds = None
        if start is not None or end is not None:
            if customer is None or start is None or end is None:
                raise InvalidParameter(
                    "A period needs an event name, a customer, a start and an end. For the time of recording use "
                    "recorded_from and recorded_until.",
                    field="start",
                    value=start,
                )
            bounds = ensure_time_range(start, end)
        reader = HistoryReader(self._ledger)
        stored = merge(*(_events_of(source, first, last) for source in sources), key=attrgetter("id"))
        entries = (reader.entry(event) for event in stored if event_name is None or reader.concerns(event, event_name))
        selected = (
            entry
            for entry in entries
            if (by is None or entry.author.names(by)) and (bounds is None or _bounds(entry) == bounds)
        )
        page = list(islice(selected, limit + 1))
        shown = tuple(page[:limit])
        return HistoryPage(shown, len(page) > limit, shown[-1].position if shown else first)

    def _positions(
        self, recorded_from: datetime | None, recorded_until: datetime | None, after: object, until: object
    ) -> tuple[int, int]:
        """Return the position to begin after, and the last one. A time stands for a position as `as_of` does."""
        first = require_int(after, "after", 0, _MAX_POSITION)
        last = _MAX_POSITION if until is None else require_int(until, "until", 0, _MAX_POSITION)
        if recorded_from is not None:
            first = max(first, self._position_before(recorded_from, "recorded_from"))
        if recorded_until is not None:
            last = min(last, self._position_before(recorded_until, "recorded_until"))
        return first, last

    def _position_before(self, at: datetime, field: str) -> int:
        utc = ensure_utc(at, field)
        if utc == MIN_DATETIME:
            return 0
        known = self._as_of(utc - timedelta(microseconds=1))
        assert known is not None
        return known.position

    def _sources(
        self, event_name: object, customer: object, identifier: object, key_id: object, last: int, include_usage: bool
    ) -> Sequence[_Source]:
        """Return what to read the events from, each in the order of positions."""
        recorder = self._ledger.ledger_recorder
        named = [name for name in (event_name, identifier, key_id) if name is not None]
        if len(named) > 1 or (customer is not None and event_name is None):
            raise InvalidParameter(
                "Ask for the history of one thing: a meter (event_name), a customer's closed periods on it (event_name "
                "and customer), a meter event (identifier) or an access key (key_id).",
                field="event_name",
            )
        if identifier is not None:
            return [self._stream(MeterEvent.stream_id(require_text(identifier, "identifier", 100)), identifier)]
        if key_id is not None:
            return [self._stream(AccessKey.stream_id(require_text(key_id, "key_id", 100)), key_id)]
        if event_name is None:
            return [lambda after: recorder.select_changes(after, last, _PAGE_SIZE, include_usage=include_usage)]
        meter, known_customer = require_event_name(event_name), optional_customer(customer)
        self._ledger.meter(meter)
        if known_customer is not None:
            return [self._stream(CustomerPeriods.stream_id(meter, known_customer))]
        prefixes = (f"{PERIOD_PREFIX}{quote(meter, safe='')}/", CANCELLATION_PREFIX)
        return [self._stream(Meter.stream_id(meter)), *map(self._prefix, prefixes)]

    def _stream(self, stream: str, name: object = None) -> _Source:
        """Return the source of one stream. Raises MeterEventNotFound or AccessKeyNotFound if what is named has none."""
        recorder = self._ledger.ledger_recorder
        if name is not None and not recorder.select_stream_positions(stream):
            is_key = stream.startswith(AccessKey.stream_id(""))
            not_found = AccessKeyNotFound if is_key else MeterEventNotFound
            kind = "access key has the id" if is_key else "meter event is recorded under the identifier"
            raise not_found(f"No {kind} {name!r}.", field="key_id" if is_key else "identifier", value=name)
        return lambda after: [event for event in recorder.select_stream(stream) if event.id > after]

    def _prefix(self, prefix: str) -> _Source:
        recorder = self._ledger.ledger_recorder
        return lambda after: recorder.select_by_prefix_after(prefix, after, _PAGE_SIZE)


def _events_of(source: _Source, after: int, last: int) -> Iterator[Notification]:
    """Yield the events of a source after a position, up to the position `last`."""
    while events := source(after):
        check_interruption()
        for event in events:
            if event.id > last:
                return
            yield event
        after = events[-1].id


def _bounds(entry: HistoryEntry) -> tuple[datetime, datetime] | None:
    start, end = entry.details.get("start"), entry.details.get("end")
    if not isinstance(start, str) or not isinstance(end, str):
        return None
    return datetime.fromisoformat(start), datetime.fromisoformat(end)
