"""Auto-paging of Stripe's SDK for Python: each item once, while items are added and removed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from stripe import StripeClient
from tallybook.application import AcceptancePolicy, Metering
from tallybook.domain.meter_event_input import MeterEventInput

from .meter_events import create_meter
from .server_fixture import HOUR, SdkServer, now, sdk_server

METERS, HOURS = 250, 1_000


@pytest.fixture(scope="module")
def meters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SdkServer, list[str]]]:
    """250 meters, in order of creation."""
    with sdk_server(tmp_path_factory.mktemp("meters")) as server:
        with Metering.open(server.ledger) as metering:
            for number in range(METERS):
                metering.meters.configure(f"meter {number * 7 % METERS}")  # the order by name differs
        client = server.client()
        ids = [meter.id for meter in client.v1.billing.meters.list({"limit": 100}).auto_paging_iter()][::-1]
        assert [client.v1.billing.meters.retrieve(ids[at]).event_name for at in (0, 1, METERS - 1)] == [
            "meter 0", "meter 7", f"meter {(METERS - 1) * 7 % METERS}",
        ]  # fmt: skip
        yield server, ids


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SdkServer, str, int]]:
    """A server, a meter with usage in a thousand hours, and the first hour."""
    with sdk_server(tmp_path_factory.mktemp("hours")) as server:
        first = now() // HOUR * HOUR - (HOURS - 1) * HOUR
        meter_id = create_meter(server.client(), "tokens")
        at = datetime.fromtimestamp(first, UTC)
        events = [
            MeterEventInput(
                "tokens", {"stripe_customer_id": "cus_1", "value": str(n)}, f"use {n}", at + timedelta(hours=n)
            )
            for n in range(HOURS)
        ]
        with Metering.open(server.ledger, policy=AcceptancePolicy(max_age=None)) as metering:
            metering.record_many(events)
        yield server, meter_id, first


@pytest.mark.parametrize("limit", [None, 1, 7, 100])
def test_250_meters_newest_first(meters: tuple[SdkServer, list[str]], limit: int | None) -> None:
    """Each once, in pages of any size."""
    server, ids = meters
    count = 20 if limit == 1 else METERS
    listed = server.client().v1.billing.meters.list({} if limit is None else {"limit": limit})
    assert [meter.id for meter in islice(listed.auto_paging_iter(), count)] == ids[::-1][:count]


def test_meters_from_the_oldest_on(meters: tuple[SdkServer, list[str]]) -> None:
    """With ending_before the SDK pages backwards, up to the newest."""
    server, ids = meters
    listed = server.client().v1.billing.meters.list({"ending_before": ids[0], "limit": 100})
    assert [meter.id for meter in listed.auto_paging_iter()] == ids[1:]


def test_meters_while_others_are_created(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each existing meter appears once; backward pages also contain the new ones."""
    with sdk_server(tmp_path_factory.mktemp("growing")) as server:
        client = server.client()
        with Metering.open(server.ledger) as metering:
            existing = [metering.meters.configure(f"old {number}").event_name for number in range(40)]
            listed_forward: list[str] = []
            for at, meter in enumerate(client.v1.billing.meters.list({"limit": 7}).auto_paging_iter()):
                metering.meters.configure(f"new {at}")
                listed_forward.append(meter.event_name)
            assert listed_forward == existing[::-1]
            oldest = client.v1.billing.meters.list({"starting_after": meter_id_of(client, "old 1"), "limit": 1}).data[0]
            backward: list[str] = []
            listed = client.v1.billing.meters.list({"ending_before": oldest.id, "limit": 7})
            for meter in listed.auto_paging_iter():
                if len(backward) < 20:
                    metering.meters.configure(f"newer {len(backward)}")
                backward.append(meter.event_name)
            added = [f"new {at}" for at in range(40)] + [f"newer {at}" for at in range(20)]
            assert backward == existing[1:] + added


def test_meters_of_a_status_while_it_changes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The cursor stays valid after its meter changes the status."""
    with sdk_server(tmp_path_factory.mktemp("changing")) as server:
        client = server.client()
        ids = [create_meter(client, f"meter {number}") for number in range(9)]
        listed: list[str] = []
        for meter in client.v1.billing.meters.list({"status": "active", "limit": 3}).auto_paging_iter():
            client.v1.billing.meters.deactivate(meter.id)
            listed.append(meter.id)
        assert listed == ids[::-1]


@pytest.mark.parametrize("limit", [None, 100])
def test_a_thousand_summaries_newest_first(hours: tuple[SdkServer, str, int], limit: int | None) -> None:
    """Each hour once."""
    listed = list_hourly_summaries(hours, **({} if limit is None else {"limit": limit}))
    summaries = [(summary.start_time, summary.aggregated_value) for summary in listed.auto_paging_iter()]
    assert summaries == [(hours[2] + n * HOUR, n) for n in reversed(range(HOURS))]


def test_a_thousand_summaries_backwards(hours: tuple[SdkServer, str, int]) -> None:
    """From the oldest on, each hour once."""
    oldest = list(list_hourly_summaries(hours, limit=100).auto_paging_iter())[-1]
    summaries = [
        summary.aggregated_value
        for summary in list_hourly_summaries(hours, limit=100, ending_before=oldest.id).auto_paging_iter()
    ]
    assert summaries == list(range(1, HOURS))


def test_a_thousand_summaries_while_events_are_cancelled(hours: tuple[SdkServer, str, int]) -> None:
    """An hour whose only event is cancelled between two pages disappears, even if it was the cursor."""
    client = hours[0].client()
    listed: list[Any] = []
    cancelled_hours = (
        HOURS - 100,
        HOURS - 150,
        HOURS - 201,
        HOURS - 300,
    )  # 100 and 300 are the last items of their pages
    for summary in list_hourly_summaries(hours, limit=100).auto_paging_iter():
        listed.append(summary.aggregated_value)
        if summary.aggregated_value == HOURS - 100:
            for number in cancelled_hours:
                client.v1.billing.meter_event_adjustments.create(
                    {"event_name": "tokens", "type": "cancel", "cancel": {"identifier": f"use {number}"}}
                )
    assert listed == [n for n in reversed(range(HOURS)) if n not in cancelled_hours[1:]]


def list_hourly_summaries(hours: tuple[SdkServer, str, int], **more: Any) -> Any:
    server, meter_id, first = hours
    params: Any = {
        "customer": "cus_1", "start_time": first, "end_time": first + HOURS * HOUR, "value_grouping_window": "hour",
        **more,
    }  # fmt: skip
    return server.client().v1.billing.meters.event_summaries.list(meter_id, params)


def meter_id_of(client: StripeClient, event_name: str) -> str:
    return next(
        item.id for item in client.v1.billing.meters.list({"limit": 100}).auto_paging_iter()
        if item.event_name == event_name
    )  # fmt: skip
