"""The fold: from stored events to records and cancellations of each meter."""

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from itertools import count

import pytest
from tallybook.domain.errors import DatabasePermissionDenied, LedgerUnavailable, ProjectionStopped, TallybookError
from tallybook.projections.blocks import BucketKey, UsageRow, by_bucket
from tallybook.projections.dimensions import encode_dimensions
from tallybook.projections.fold import fold_page as fold_events
from tallybook.projections.models import LedgerEvent, ProjectedMeter
from tallybook.projections.page_usage import MeterPageUsage
from tallybook.projections.stored_events import EventChunk, decode_rows

METER = (
    b'{"recorded_at":"1970-01-01T00:00:00Z","event_name":"calls",'
    b'"rules":{"customer_key":"c","value_key":"v","dimension_keys":["r"]}}'
)
USAGE_STATE = (
    b'{"recorded_at":"1970-01-01T00:00:02Z","event_name":"calls","payload":{"c":"acme","v":"-0.5","r":"eu"},'
    b'"occurred_at":"1970-01-01T00:00:01Z"}'
)
CANCEL = (
    b'{"recorded_at":"1970-01-01T00:00:03Z","event_name":"calls","payload":{"c":"acme","v":"-0.5","r":"eu"},'
    b'"occurred_at":"1970-01-01T00:00:01Z","recorded_position":2,"reason":null,"by":null}'
)


def fold_rows(
    rows: list[LedgerEvent], meters: Mapping[str, ProjectedMeter], customers: Mapping[str, int]
) -> list[MeterPageUsage]:
    """Return the usage of each meter in rows of the ledger."""
    return fold_events([EventChunk.of(decode_rows(rows))], meters, customers, {}).changed


def usage_rows(page: MeterPageUsage) -> list[tuple[BucketKey, UsageRow]]:
    """Return the new records of a page, with their bucket."""
    return [
        ((customer_id, start, dimensions), row)
        for part in page.parts
        for (customer_id, dimensions), rows_by_start in by_bucket(part.rows, part.bucket_seconds).items()
        for start, rows in rows_by_start.items()
        for row in rows
    ]


def customer_ids() -> defaultdict[str, int]:
    """Return a mapping that numbers the customers."""
    following = count(1)
    return defaultdict(lambda: next(following))


def test_a_page_is_grouped_by_meter() -> None:
    """New records in order, and cancellations with the bucket and position of their record."""
    (page,) = fold_rows(
        [(1, "Configured", METER), (2, "UsageRecorded", USAGE_STATE), (3, "EventCancelled", CANCEL)], {}, customer_ids()
    )
    assert (page.meter.event_name, page.has_meter_changes) == ("calls", True)
    assert usage_rows(page) == [((1, 0, '["eu"]'), UsageRow(1_000_000, 2, Decimal("-0.5"), 2_000_000))]
    (cancellation,) = page.parts[0].cancellations
    assert (cancellation.position, cancellation.changed_position) == (2, 3)


def test_a_meter_is_known_from_an_earlier_page() -> None:
    """A later page is folded under the configured rules; a meter without usage has no entry."""
    (first,) = fold_rows([(1, "Configured", METER)], {}, customer_ids())
    meters = {"calls": first.meter}
    (second,) = fold_rows([(2, "UsageRecorded", USAGE_STATE)], meters, customer_ids())
    assert (second.meter, second.has_meter_changes, len(usage_rows(second))) == (first.meter, False, 1)
    assert (
        fold_rows([(3, "Renamed", b"{}"), (4, "Deactivated", b"{}"), (5, "Reactivated", b"{}")], meters, customer_ids())
        == []
    )


UNFOLDABLE_EVENTS: dict[str, LedgerEvent] = {
    "unknown topic": (2, "Unheard", b"{}"),
    "unknown meter": (2, "UsageRecorded", USAGE_STATE.replace(b"calls", b"other")),
    "not JSON": (2, "UsageRecorded", b"{"),
    "missing field": (2, "UsageRecorded", b"{}"),
    "no customer": (2, "UsageRecorded", USAGE_STATE.replace(b'"c":', b'"d":')),
    "no number": (2, "UsageRecorded", USAGE_STATE.replace(b"-0.5", b"1e3")),
    "cancel of an unknown meter": (2, "EventCancelled", CANCEL.replace(b"calls", b"other")),
    "unknown formula": (2, "Configured", b'{"event_name":"x","rules":{"formula":"median"}}'),
    "unknown rule": (2, "Configured", b'{"event_name":"x","rules":{"tiers":"up"}}'),
}


@pytest.mark.parametrize("event", UNFOLDABLE_EVENTS.values(), ids=UNFOLDABLE_EVENTS)
def test_it_stops_at_the_first_event_that_cannot_be_folded(event: LedgerEvent) -> None:
    """The error has the position and the topic; no event is skipped."""
    with pytest.raises(ProjectionStopped) as stopped:
        fold_rows([(1, "Configured", METER), event, (3, "UsageRecorded", USAGE_STATE)], {}, customer_ids())
    assert stopped.value.position == 2
    assert event[1] in stopped.value.message


@pytest.mark.parametrize("failure", [LedgerUnavailable, DatabasePermissionDenied])
def test_a_store_error_is_not_reported_as_an_unfoldable_event(failure: type[TallybookError]) -> None:
    """Customer ids are looked up during the fold; a database error there may be temporary."""

    class Lost(dict[str, int]):
        def __missing__(self, customer: str) -> int:
            raise failure("the connection was lost")

    with pytest.raises(failure):
        fold_rows([(1, "Configured", METER), (2, "UsageRecorded", USAGE_STATE)], {}, Lost())


def test_dimension_values_are_distinguished() -> None:
    """No two combinations of values have the same key, whatever characters they contain."""
    combinations = [("a", "b"), ("a,b",), ('a","b',), ("ab",), ("a", "", "b"), ("a\0b",), ("",), ("", ""), ()]
    assert len({encode_dimensions(values) for values in combinations}) == len(combinations)
