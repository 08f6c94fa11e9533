"""Event summaries: exact totals, in aligned ranges and windows."""

from typing import Any

import pytest
from stripe import InvalidRequestError, StripeClient

from .meter_events import create_meter, record_event, total
from .server_fixture import DAY, HOUR, MINUTE, SdkServer, around_now, now, parse_body, raw_body


def test_a_summary_has_every_field(client: StripeClient, event_name: str) -> None:
    """And the list has its URL."""
    meter_id = create_meter(client, event_name)
    record_event(client, event_name, "1.10")
    start, end = around_now()
    listed = parse_body(_summaries(client, meter_id, start, end))
    url = f"/v1/billing/meters/{meter_id}/event_summaries"
    (summary,) = listed.pop("data")
    assert listed == {"object": "list", "has_more": False, "url": url}
    assert summary.pop("id").startswith("mtrusg_")
    assert str(summary.pop("aggregated_value")) == "1.10"
    assert summary == {
        "object": "billing.meter_event_summary",
        "end_time": end,
        "livemode": True,
        "meter": meter_id,
        "start_time": start,
    }


SUMS: list[tuple[list[str], str]] = [
    (["0.1", "0.2"], "0.3"),
    (["999999999999999", "0.00000000000001"], "999999999999999.00000000000001"),
    (["999999999999999"] * 11, "10999999999999989"),
    (["1", "-3"], "-2"),
    (["-0.5"], "-0.5"),
    (["5", "-5"], "0"),
    (["0.000000000001"], "0.000000000001"),
]


@pytest.mark.parametrize(("values", "expected"), SUMS)
def test_totals_are_exact_in_the_bytes(client: StripeClient, event_name: str, values: list[str], expected: str) -> None:
    """Without floats and exponents; negative totals stay negative."""
    meter_id = create_meter(client, event_name)
    for value in values:
        record_event(client, event_name, value)
    assert f'"aggregated_value":{expected},' in raw_body(_summaries(client, meter_id, *around_now()))


@pytest.mark.parametrize(("formula", "expected"), [("sum", 12), ("count", 3), ("last", 4)])
def test_formulas(client: StripeClient, event_name: str, formula: str, expected: int) -> None:
    """The sum, the count, and the last by timestamp, in any order of arrival."""
    meter_id, at = create_meter(client, event_name, formula), now() - MINUTE
    for value, seconds in ((5, 0), (4, 30), (3, 10)):
        record_event(client, event_name, value, timestamp=at + seconds)
    assert total(client, meter_id) == expected


def test_a_count_needs_no_value(client: StripeClient, event_name: str) -> None:
    """Each event counts as one."""
    meter_id = create_meter(client, event_name, "count")
    client.v1.billing.meter_events.create({"event_name": event_name, "payload": {"stripe_customer_id": "cus_1"}})
    assert total(client, meter_id) == 1


@pytest.mark.parametrize("formula", ["sum", "count", "last"])
def test_a_customer_without_usage_has_zero(client: StripeClient, event_name: str, formula: str) -> None:
    """For each formula, and no windows."""
    meter_id = create_meter(client, event_name, formula)
    record_event(client, event_name, 5)
    assert total(client, meter_id, "cus_2") == 0
    start, end = around_now(DAY)
    listed = _summaries(client, meter_id, start, end, customer="cus_2", value_grouping_window="day")
    assert (listed.data, listed.has_more) == ([], False)


@pytest.mark.parametrize(("window", "seconds"), [("hour", HOUR), ("day", DAY)])
def test_windows_are_hours_and_days_in_utc(client: StripeClient, event_name: str, window: str, seconds: int) -> None:
    """Newest first, aligned, without empty windows."""
    meter_id = create_meter(client, event_name)
    this = now() // seconds * seconds
    for at, value in ((this - 3 * seconds, 1), (this - seconds, 2), (this - 1, 3), (this, 4)):
        record_event(client, event_name, value, timestamp=at)
    listed = _summaries(client, meter_id, this - 3 * seconds, this + seconds, value_grouping_window=window)
    assert [
        (summary.start_time - this, summary.end_time - summary.start_time, summary.aggregated_value)
        for summary in listed.data
    ] == [
        (0, seconds, 4),
        (-seconds, seconds, 5),
        (-3 * seconds, seconds, 1),
    ]
    half_open = _summaries(client, meter_id, this - 3 * seconds, this, value_grouping_window=window)
    assert [summary.aggregated_value for summary in half_open.data] == [5, 1]


@pytest.mark.parametrize(("window", "seconds"), [("hour", HOUR), ("day", DAY)])
def test_pre_aggregated_usage_is_the_newest_event_of_each_window(
    client: StripeClient, event_name: str, window: str, seconds: int
) -> None:
    """By arrival, not by timestamp within the window."""
    meter_id = create_meter(client, event_name, event_time_window=window)
    this = now() // seconds * seconds
    for at, value in ((this - 1, 7), (this - 20, 2), (this, 9), (this, 4)):
        record_event(client, event_name, value, timestamp=at)
    listed = _summaries(client, meter_id, this - seconds, this + seconds, value_grouping_window=window)
    assert [summary.aggregated_value for summary in listed.data] == [4, 2]
    listed = _summaries(client, meter_id, this - seconds, this + seconds)
    assert [summary.aggregated_value for summary in listed.data] == [6]


@pytest.mark.parametrize("value_grouping_window", [None, "hour"])
def test_summaries_by_dimension(client: StripeClient, event_name: str, value_grouping_window: str | None) -> None:
    """By the parameters of Stripe's preview, page by page: one summary for each group."""
    meter_id = create_meter(client, event_name, dimension_payload_keys=["model", "region"])
    usage = [("small", "eu", "1"), ("small", "us", "2"), ("large", "eu", "4"), ("small", "eu", "8")]
    for model, region, value in usage:
        payload = {"stripe_customer_id": "cus_1", "value": value, "model": model, "region": region}
        client.v1.billing.meter_events.create({"event_name": event_name, "payload": payload, "timestamp": now()})
    start, end = around_now(DAY)
    params: Any = {"dimension_group_by_keys": ["model"], "dimension_filters": {"region": ["eu"]}, "limit": 1}
    if value_grouping_window is not None:
        params["value_grouping_window"] = value_grouping_window
    listed = _summaries(client, meter_id, start, end, **params)
    assert [(summary.dimensions["model"], summary.aggregated_value) for summary in listed.auto_paging_iter()] == [
        ("large", 4),
        ("small", 9),
    ]
    (in_total,) = parse_body(_summaries(client, meter_id, start, end, dimension_filters={"region": "us"}))["data"]
    assert (in_total["aggregated_value"], "dimensions" in in_total) == (2, False)


MISALIGNED: list[tuple[dict[str, Any], str, str | None]] = [
    ({"start_time": 1}, "start_time", "parameter_invalid"),
    ({"end_time": DAY - 1}, "end_time", "parameter_invalid"),
    ({"start_time": MINUTE, "value_grouping_window": "hour"}, "start_time", "parameter_invalid"),
    ({"end_time": DAY + MINUTE, "value_grouping_window": "hour"}, "end_time", "parameter_invalid"),
    ({"start_time": HOUR, "value_grouping_window": "day"}, "start_time", "parameter_invalid"),
    ({"end_time": DAY + HOUR, "value_grouping_window": "day"}, "end_time", "parameter_invalid"),
    ({"start_time": 2 * DAY}, "start_time", "parameter_invalid"),
    ({"value_grouping_window": "week"}, "value_grouping_window", "parameter_invalid"),
    ({"customer": None}, "customer", "parameter_missing"),
    ({"start_time": None}, "start_time", "parameter_missing"),
    ({"end_time": None}, "end_time", "parameter_missing"),
    ({"start_time": "now"}, "start_time", "parameter_invalid"),
    ({"limit": 0}, "limit", "parameter_invalid"),
    ({"limit": 101}, "limit", "parameter_invalid"),
    ({"starting_after": "mtrusg_1"}, "starting_after", "resource_missing"),
    ({"ending_before": "mtr_1"}, "ending_before", "resource_missing"),
    ({"customers": "cus_1"}, "customers", "parameter_unknown"),
]


@pytest.mark.parametrize(("changes", "param", "code"), MISALIGNED)
def test_an_invalid_range_is_rejected(
    client: StripeClient, server: SdkServer, changes: dict[str, Any], param: str, code: str
) -> None:
    """With the parameter: ranges are aligned to minutes, or to the window."""
    (meter, *_) = client.v1.billing.meters.list({"limit": 1}).data or [None]
    meter_id = meter.id if meter else create_meter(client, "alone")
    params: dict[str, Any] = {"customer": "cus_1", "start_time": 0, "end_time": DAY} | changes
    with pytest.raises(InvalidRequestError) as exc_info:
        client.v1.billing.meters.event_summaries.list(
            meter_id,
            {name: value for name, value in params.items() if value is not None},  # pyright: ignore
        )
    error: Any = exc_info.value
    assert (error.http_status, error.param, error.code) == (400, param, code)


def test_summaries_of_an_unknown_meter(client: StripeClient) -> None:
    """The meter is not found."""
    with pytest.raises(InvalidRequestError, match="No such meter: 'mtr_none'") as exc_info:
        _summaries(client, "mtr_none", 0, DAY)
    assert (exc_info.value.http_status, exc_info.value.code) == (404, "resource_missing")


def _summaries(client: StripeClient, meter_id: str, start: int, end: int, **more: Any) -> Any:
    params: Any = {"customer": "cus_1", "start_time": start, "end_time": end, **more}
    return client.v1.billing.meters.event_summaries.list(meter_id, params)
