"""The fold: from stored events to usages and cancels, by meter."""

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from itertools import count

import pytest
from tallybook.domain.counting import Usage
from tallybook.domain.errors import LedgerUnavailable, NotPermitted, ProjectionStopped, TallybookError
from tallybook.projections.fold import MeterPage, dimensions_key
from tallybook.projections.fold import fold as fold_events
from tallybook.projections.rows import LedgerEvent, ProjectedMeter
from tallybook.projections.stored_events import read_rows

METER = (
    b'{"recorded_at":"1970-01-01T00:00:00Z","event_name":"calls",'
    b'"rules":{"customer_key":"c","value_key":"v","dimension_keys":["r"]}}'
)
USE = (
    b'{"recorded_at":"1970-01-01T00:00:02Z","event_name":"calls","payload":{"c":"acme","v":"-0.5","r":"eu"},'
    b'"occurred_at":"1970-01-01T00:00:01Z"}'
)
CANCEL = (
    b'{"recorded_at":"1970-01-01T00:00:03Z","event_name":"calls","payload":{"c":"acme","v":"-0.5","r":"eu"},'
    b'"occurred_at":"1970-01-01T00:00:01Z","recorded_position":2,"reason":null,"by":null}'
)


def fold(
    rows: list[LedgerEvent], meters: Mapping[str, ProjectedMeter], customers: Mapping[str, int]
) -> list[MeterPage]:
    """What rows of the ledger say, by meter."""
    return fold_events(read_rows(rows), meters, customers, {})


def usages(page: MeterPage) -> list[Usage]:
    """The new usages of a page."""
    return [usage for bucket in page.usages.values() for usage in bucket]


def numbers() -> defaultdict[str, int]:
    """A number for each customer that is asked for."""
    following = count(1)
    return defaultdict(lambda: next(following))


def test_a_page_is_told_by_meter() -> None:
    """New usages in order, and cancels with where their usage lies."""
    (page,) = fold([(1, "Configured", METER), (2, "UsageRecorded", USE), (3, "EventCancelled", CANCEL)], {}, numbers())
    assert (page.meter.event_name, page.has_news) == ("calls", True)
    assert usages(page) == [Usage(1, 1_000_000, 2, '["eu"]', Decimal("-0.5"), 2_000_000)]
    (mark,) = page.marks
    assert (mark.position, mark.cancelled_at, mark.cancelled_position) == (2, 3_000_000, 3)


def test_a_meter_is_known_from_an_earlier_page() -> None:
    """A later page is folded by the rules that the meter was configured with; one without usage gives nothing."""
    (first,) = fold([(1, "Configured", METER)], {}, numbers())
    meters = {"calls": first.meter}
    (second,) = fold([(2, "UsageRecorded", USE)], meters, numbers())
    assert (second.meter, second.has_news, len(usages(second))) == (first.meter, False, 1)
    assert fold([(3, "Renamed", b"{}"), (4, "Deactivated", b"{}"), (5, "Reactivated", b"{}")], meters, numbers()) == []


STOPPING: dict[str, LedgerEvent] = {
    "unknown topic": (2, "Unheard", b"{}"),
    "unknown meter": (2, "UsageRecorded", USE.replace(b"calls", b"other")),
    "not JSON": (2, "UsageRecorded", b"{"),
    "missing field": (2, "UsageRecorded", b"{}"),
    "no customer": (2, "UsageRecorded", USE.replace(b'"c":', b'"d":')),
    "no number": (2, "UsageRecorded", USE.replace(b"-0.5", b"1e3")),
    "cancel of an unknown meter": (2, "EventCancelled", CANCEL.replace(b"calls", b"other")),
    "unknown formula": (2, "Configured", b'{"event_name":"x","rules":{"formula":"median"}}'),
    "unknown rule": (2, "Configured", b'{"event_name":"x","rules":{"rounding":"up"}}'),
}


@pytest.mark.parametrize("event", STOPPING.values(), ids=STOPPING)
def test_it_stops_at_the_first_event_that_cannot_be_folded(event: LedgerEvent) -> None:
    """It names the position and the topic, and skips nothing."""
    with pytest.raises(ProjectionStopped) as stopped:
        fold([(1, "Configured", METER), event, (3, "UsageRecorded", USE)], {}, numbers())
    assert stopped.value.position == 2
    assert event[1] in stopped.value.message


@pytest.mark.parametrize("failure", [LedgerUnavailable, NotPermitted])
def test_a_store_that_fails_is_not_taken_for_an_event_that_cannot_be_folded(failure: type[TallybookError]) -> None:
    """Numbers of customers are looked up while events are folded: what goes wrong there may go well the next time."""

    class Lost(dict[str, int]):
        def __missing__(self, customer: str) -> int:
            raise failure("the connection was lost")

    with pytest.raises(failure):
        fold([(1, "Configured", METER), (2, "UsageRecorded", USE)], {}, Lost())


def test_dimension_values_are_kept_apart() -> None:
    """No two combinations of values have one key, whatever characters are in them."""
    combinations = [("a", "b"), ("a,b",), ('a","b',), ("ab",), ("a", "", "b"), ("a\0b",), ("",), ("", ""), ()]
    assert len({dimensions_key(values) for values in combinations}) == len(combinations)
