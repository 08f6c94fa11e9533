"""The fold: from stored events to usages and cancels. Pure; the same for live, rebuild, audit and tests."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from ..domain.counting import Usage
from ..domain.errors import LedgerUnavailable, NotPermitted, ProjectionStopped, TallybookError
from ..domain.instants import EPOCH, MICROSECOND, microseconds
from ..domain.meter_event import ReportedUse
from ..domain.rules import Rules
from .buckets import bucket_end, bucket_sizes, bucket_start
from .rows import BucketKey, Mark, ProjectedMeter, RulesInForce
from .stored_events import Cancel, NewMeter, NewRules, StoredEvent, stopped, topic_of


class MeterPage:
    """What one page of the ledger says about one meter.

    New usages, in order, by the bucket that they lie in; cancels, of these or of earlier ones; and whether the meter
    itself is new or has other rules in force.
    """

    def __init__(self, meter: ProjectedMeter, *, has_news: bool = False) -> None:
        self.meter = meter
        self.has_news = has_news
        self.read = meter.rules.reader()
        self.bucket_seconds = bucket_sizes(meter.rules.event_time_window)[-1]
        self.width = bucket_end(0, self.bucket_seconds)
        self.usages: defaultdict[BucketKey, list[Usage]] = defaultdict(list)
        self.marks: list[Mark] = []


def fold(
    events: Iterable[StoredEvent],
    meters: Mapping[str, ProjectedMeter],
    customers: Mapping[str, int],
    pinned: Mapping[str, Rules],
) -> list[MeterPage]:
    """What `events` say, by meter.

    `meters` are those known before; `customers` gives each customer's number, a new one where it has none. New meters
    are folded under the rules that are `pinned` for them, or else under those that they are configured with.
    Raises ProjectionStopped at the first event that can't be folded.
    """
    pages = {event_name: MeterPage(meter) for event_name, meter in meters.items()}
    position, event = 0, None
    moment, recorded_at = EPOCH, 0
    try:
        for position, event in events:
            if type(event) is ReportedUse:
                if event.recorded_at != moment:  # a batch shares its moment
                    moment, recorded_at = event.recorded_at, microseconds(event.recorded_at)
                page = pages[event.event_name]
                name, value, values = page.read(event.payload)
                customer = customers[name]
                dimensions = dimensions_key(values) if values else ""
                # As microseconds and bucket_start give them, without the calls: every use passes here.
                occurred_at = (event.occurred_at - EPOCH) // MICROSECOND
                page.usages[customer, occurred_at - occurred_at % page.width, dimensions].append(
                    Usage(customer, occurred_at, position, dimensions, value, recorded_at)
                )
            elif isinstance(event, Cancel):
                _fold_cancel(position, event, pages[event.event_name], customers)
            elif isinstance(event, NewMeter):
                _fold_meter(position, event, pages, pinned)
            elif isinstance(event, NewRules):
                _fold_rules(position, event, pages)
    except (LedgerUnavailable, NotPermitted, ProjectionStopped):
        raise  # a row that can't be read says so itself; where the store failed, nothing is wrong with the event
    except (ArithmeticError, KeyError, TallybookError, TypeError, ValueError) as error:
        raise stopped(position, topic_of(event), error) from error
    return [page for page in pages.values() if page.has_news or page.usages or page.marks]


def dimensions_key(values: tuple[str, ...]) -> str:
    """Dimension values as one text, so that rows can be kept by it."""
    return msgspec.json.encode(values).decode() if values else ""


def _fold_cancel(position: int, cancel: Cancel, page: MeterPage, customers: Mapping[str, int]) -> None:
    customer, _, dimensions = page.read(cancel.payload)
    start = bucket_start(microseconds(cancel.occurred_at), page.bucket_seconds)
    key = (customers[customer], start, dimensions_key(dimensions))
    page.marks.append(Mark(key, cancel.recorded_position, microseconds(cancel.recorded_at), position))


def _fold_meter(position: int, meter: NewMeter, pages: dict[str, MeterPage], pinned: Mapping[str, Rules]) -> None:
    name = meter.event_name
    if name in pages:
        raise ValueError(f"the meter {name!r} is configured already")
    rules = Rules.model_validate_json(bytes(meter.rules))
    first = RulesInForce(1, rules, position, microseconds(meter.recorded_at))
    pages[name] = MeterPage(ProjectedMeter(len(pages) + 1, name, pinned.get(name, rules), (first,)), has_news=True)


def _fold_rules(position: int, changed: NewRules, pages: dict[str, MeterPage]) -> None:
    """Remember what is in force now; the usage stays folded under the rules that it is."""
    page = pages[changed.event_name]
    rules = Rules.model_validate_json(bytes(changed.rules))
    now = RulesInForce(changed.revision, rules, position, microseconds(changed.recorded_at))
    page.meter = page.meter._replace(history=(*page.meter.history, now))
    page.has_news = True
