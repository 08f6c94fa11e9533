"""Auto-paging of Stripe's SDK for Python: each once, whatever comes or goes meanwhile."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from stripe import StripeClient
from tallybook.application import AcceptancePolicy, Metering
from tallybook.domain.report import Report

from .place import HOUR, Place, now, place
from .usage import create_meter

METERS, HOURS = 250, 1_000


@pytest.fixture(scope="module")
def meters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, list[str]]]:
    """250 meters, in the order of their creation."""
    with place(tmp_path_factory.mktemp("meters")) as server:
        with Metering.open(server.ledger) as metering:
            for number in range(METERS):
                metering.configure_meter(f"meter {number * 7 % METERS}")  # by name they are in another order
        client = server.client()
        ids = [meter.id for meter in client.v1.billing.meters.list({"limit": 100}).auto_paging_iter()][::-1]
        assert [client.v1.billing.meters.retrieve(ids[at]).event_name for at in (0, 1, METERS - 1)] == [
            "meter 0", "meter 7", f"meter {(METERS - 1) * 7 % METERS}",
        ]  # fmt: skip
        yield server, ids


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, str, int]]:
    """A server, a meter with usage in a thousand hours, and the first of these."""
    with place(tmp_path_factory.mktemp("hours")) as server:
        first = now() // HOUR * HOUR - (HOURS - 1) * HOUR
        meter_id = create_meter(server.client(), "tokens")
        at = datetime.fromtimestamp(first, UTC)
        reports = [
            Report("tokens", {"stripe_customer_id": "cus_1", "value": str(n)}, f"use {n}", at + timedelta(hours=n))
            for n in range(HOURS)
        ]
        with Metering.open(server.ledger, policy=AcceptancePolicy(max_age=None)) as metering:
            metering.record_many(reports)
        yield server, meter_id, first


@pytest.mark.parametrize("limit", [None, 1, 7, 100])
def test_250_meters_newest_first(meters: tuple[Place, list[str]], limit: int | None) -> None:
    """Each once, in pages of any size."""
    server, ids = meters
    count = 20 if limit == 1 else METERS
    listed = server.client().v1.billing.meters.list({} if limit is None else {"limit": limit})
    assert [meter.id for meter in islice(listed.auto_paging_iter(), count)] == ids[::-1][:count]


def test_meters_from_the_oldest_on(meters: tuple[Place, list[str]]) -> None:
    """With ending_before the SDK pages backwards: from the page before that meter, up to the newest."""
    server, ids = meters
    listed = server.client().v1.billing.meters.list({"ending_before": ids[0], "limit": 100})
    assert [meter.id for meter in listed.auto_paging_iter()] == ids[1:]


def test_meters_while_others_are_created(tmp_path_factory: pytest.TempPathFactory) -> None:
    """None of those that were there is left out or comes twice; going backwards, the new ones come too."""
    with place(tmp_path_factory.mktemp("growing")) as server:
        client = server.client()
        with Metering.open(server.ledger) as metering:
            there = [metering.configure_meter(f"old {number}").event_name for number in range(40)]
            forward: list[str] = []
            for at, meter in enumerate(client.v1.billing.meters.list({"limit": 7}).auto_paging_iter()):
                metering.configure_meter(f"new {at}")
                forward.append(meter.event_name)
            assert forward == there[::-1]
            oldest = client.v1.billing.meters.list({"starting_after": _id(client, "old 1"), "limit": 1}).data[0]
            backward: list[str] = []
            listed = client.v1.billing.meters.list({"ending_before": oldest.id, "limit": 7})
            for meter in listed.auto_paging_iter():
                if len(backward) < 20:
                    metering.configure_meter(f"newer {len(backward)}")
                backward.append(meter.event_name)
            news = [f"new {at}" for at in range(40)] + [f"newer {at}" for at in range(20)]
            assert backward == there[1:] + news


def test_meters_of_a_status_while_it_changes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The cursor stays good though the meter that it names is of another status by then."""
    with place(tmp_path_factory.mktemp("changing")) as server:
        client = server.client()
        ids = [create_meter(client, f"meter {number}") for number in range(9)]
        seen: list[str] = []
        for meter in client.v1.billing.meters.list({"status": "active", "limit": 3}).auto_paging_iter():
            client.v1.billing.meters.deactivate(meter.id)
            seen.append(meter.id)
        assert seen == ids[::-1]


@pytest.mark.parametrize("limit", [None, 100])
def test_a_thousand_summaries_newest_first(hours: tuple[Place, str, int], limit: int | None) -> None:
    """Each hour once."""
    listed = _hourly(hours, **({} if limit is None else {"limit": limit}))
    found = [(one.start_time, one.aggregated_value) for one in listed.auto_paging_iter()]
    assert found == [(hours[2] + n * HOUR, n) for n in reversed(range(HOURS))]


def test_a_thousand_summaries_backwards(hours: tuple[Place, str, int]) -> None:
    """From the oldest on, each hour once."""
    oldest = list(_hourly(hours, limit=100).auto_paging_iter())[-1]
    found = [one.aggregated_value for one in _hourly(hours, limit=100, ending_before=oldest.id).auto_paging_iter()]
    assert found == list(range(1, HOURS))


def test_a_thousand_summaries_while_events_are_cancelled(hours: tuple[Place, str, int]) -> None:
    """An hour whose only event is cancelled between two pages leaves the list, even where a page ended with it."""
    client = hours[0].client()
    seen: list[Any] = []
    gone = (HOURS - 100, HOURS - 150, HOURS - 201, HOURS - 300)  # 100 and 300 are the last ones of their pages
    for one in _hourly(hours, limit=100).auto_paging_iter():
        seen.append(one.aggregated_value)
        if one.aggregated_value == HOURS - 100:
            for number in gone:
                client.v1.billing.meter_event_adjustments.create(
                    {"event_name": "tokens", "type": "cancel", "cancel": {"identifier": f"use {number}"}}
                )
    assert seen == [n for n in reversed(range(HOURS)) if n not in gone[1:]]


def _hourly(hours: tuple[Place, str, int], **more: Any) -> Any:
    server, meter_id, first = hours
    params: Any = {
        "customer": "cus_1", "start_time": first, "end_time": first + HOURS * HOUR, "value_grouping_window": "hour",
        **more,
    }  # fmt: skip
    return server.client().v1.billing.meters.event_summaries.list(meter_id, params)


def _id(client: StripeClient, event_name: str) -> str:
    return next(
        one.id for one in client.v1.billing.meters.list({"limit": 100}).auto_paging_iter()
        if one.event_name == event_name
    )  # fmt: skip
