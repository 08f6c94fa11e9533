"""The fold: from stored events to usages and cancels. Pure; the same for live, rebuild, audit and tests."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from ..domain.counting import Usage
from ..domain.errors import LedgerUnavailable, NotPermitted, ProjectionStopped, TallybookError
from ..domain.instants import EPOCH, microseconds
from ..domain.meter_event import ReportedUse
from ..domain.rules import Rules
from .buckets import bucket_end, bucket_sizes, bucket_start
from .rows import BucketKey, LedgerEvent, Mark, ProjectedMeter, RulesInForce

EVENT_CANCELLED = "EventCancelled"


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
    events: Iterable[LedgerEvent],
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
    position, topic = 0, ""
    moment, recorded_at = EPOCH, 0
    try:
        for position, topic, state in events:
            if topic == "UsageRecorded":
                use = _decode_use(state)
                if use.recorded_at != moment:  # a batch shares its moment
                    moment, recorded_at = use.recorded_at, microseconds(use.recorded_at)
                page = pages[use.event_name]
                name, value, values = page.read(use.payload)
                customer, occurred_at = customers[name], microseconds(use.occurred_at)
                dimensions = dimensions_key(values) if values else ""
                # The start of its bucket, as bucket_start gives it, without the call: every use passes here.
                page.usages[customer, occurred_at - occurred_at % page.width, dimensions].append(
                    Usage(customer, occurred_at, position, dimensions, value, recorded_at)
                )
            elif topic == EVENT_CANCELLED:
                cancelled = _decode_cancel(state)
                _fold_cancel(position, cancelled, pages[cancelled.event_name], customers)
            elif topic == "Configured":
                _fold_meter(position, _decode_meter(state), pages, pinned)
            elif topic == "RulesChanged":
                _fold_rules(position, _decode_rules(state), pages)
            elif topic not in _WITHOUT_USAGE:
                raise KeyError(f"unknown topic {topic!r}; a later Tallybook may have written it")
    except (LedgerUnavailable, NotPermitted):
        raise  # the store has failed to give a customer's number; nothing is wrong with the event
    except (msgspec.MsgspecError, ArithmeticError, KeyError, TallybookError, TypeError, ValueError) as error:
        raise ProjectionStopped(
            f"The event at position {position} ({topic}) can't be folded: {type(error).__name__}: {error}", position
        ) from error
    return [page for page in pages.values() if page.has_news or page.usages or page.marks]


def dimensions_key(values: tuple[str, ...]) -> str:
    """Dimension values as one text, so that rows can be kept by it."""
    return msgspec.json.encode(values).decode() if values else ""


class _StoredCancel(msgspec.Struct):
    recorded_at: datetime
    event_name: str
    payload: dict[str, str]
    occurred_at: datetime
    recorded_position: int


class _StoredMeter(msgspec.Struct):
    recorded_at: datetime
    event_name: str
    rules: msgspec.Raw


class _StoredRules(msgspec.Struct):
    recorded_at: datetime
    event_name: str
    revision: int
    rules: msgspec.Raw


_decode_use = msgspec.json.Decoder(ReportedUse).decode
_decode_cancel = msgspec.json.Decoder(_StoredCancel).decode
_decode_meter = msgspec.json.Decoder(_StoredMeter).decode
_decode_rules = msgspec.json.Decoder(_StoredRules).decode
_WITHOUT_USAGE = frozenset(
    {
        "Renamed", "Deactivated", "Reactivated", "PeriodClosed", "PeriodReopened", "AccessKeyCreated",
        "AccessKeyRevoked",
    }
)  # fmt: skip


def _fold_cancel(position: int, cancelled: _StoredCancel, page: MeterPage, customers: Mapping[str, int]) -> None:
    customer, _, dimensions = page.read(cancelled.payload)
    start = bucket_start(microseconds(cancelled.occurred_at), page.bucket_seconds)
    key = (customers[customer], start, dimensions_key(dimensions))
    page.marks.append(Mark(key, cancelled.recorded_position, microseconds(cancelled.recorded_at), position))


def _fold_meter(
    position: int, configured: _StoredMeter, pages: dict[str, MeterPage], pinned: Mapping[str, Rules]
) -> None:
    name = configured.event_name
    if name in pages:
        raise ValueError(f"the meter {name!r} is configured already")
    rules = Rules.model_validate_json(bytes(configured.rules))
    first = RulesInForce(1, rules, position, microseconds(configured.recorded_at))
    pages[name] = MeterPage(ProjectedMeter(len(pages) + 1, name, pinned.get(name, rules), (first,)), has_news=True)


def _fold_rules(position: int, changed: _StoredRules, pages: dict[str, MeterPage]) -> None:
    """Remember what is in force now; the usage stays folded under the rules that it is."""
    page = pages[changed.event_name]
    rules = Rules.model_validate_json(bytes(changed.rules))
    now = RulesInForce(changed.revision, rules, position, microseconds(changed.recorded_at))
    page.meter = page.meter._replace(history=(*page.meter.history, now))
    page.has_news = True
