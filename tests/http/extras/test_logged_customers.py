"""Queries of one customer's data can be logged with the access key and the customer."""

import hashlib
import json
import logging
from collections.abc import Iterator

import pytest
from tallybook.application import Metering
from tallybook.application.access_log import LoggedCustomers
from tallybook.application.interfaces.http.observability.access_log import AccessLog

from ...notation import Clock, Ledger, moment
from .api_client import ApiClient, serve_api, unix_time

HISTORY = """
    meter   tokens  sum
    10:05   acme tokens 25  id=a
    close   acme tokens 10 11  at=2026-11-11T02:00
"""
RANGE = {"start_time": unix_time("2026-11-01T00:00"), "end_time": unix_time("2026-12-01T00:00")}


@pytest.fixture(params=LoggedCustomers)
def logged(
    request: pytest.FixtureRequest, url: str, metering: Metering, ledger: Ledger, clock: Clock
) -> Iterator[tuple[ApiClient, AccessLog, LoggedCustomers]]:
    """Serve a ledger with one customer, with each setting."""
    ledger.given(HISTORY)
    access_log = AccessLog(request.param)
    with serve_api(url, metering, clock, access_log) as api:
        yield api, access_log, request.param


def test_the_customer_of_a_query_is_logged(
    logged: tuple[ApiClient, AccessLog, LoggedCustomers], metering: Metering, caplog: pytest.LogCaptureFixture
) -> None:
    """If a query selects one, or returns an object of one; not if it returns those of all, and not of changes."""
    api, access_log, customers = logged
    meter = api.meter_path("tokens")
    with caplog.at_level(logging.INFO, "tallybook.access"):
        api.get(f"{meter}/explanation", customer="acme", **RANGE)
        (period,) = api.get("/v1/billing/closed_periods")["data"]
        api.get(f"/v1/billing/closed_periods/{period['id']}")
        api.get(f"{meter}/totals", **RANGE)
        start, end = unix_time("2026-11-11T00:00"), unix_time("2026-11-12T00:00")
        url = "/v1/billing/closed_periods"
        api.send("POST", url, event_name="tokens", customer="acme", start_time=start, end_time=end)
        access_log.flush()
    lines = [json.loads(line) for record in caplog.records for line in record.message.splitlines()]
    named = {"hidden": None, "named": "acme", "hashed": f"sha256:{hashlib.sha256(b'acme').hexdigest()}"}[customers]
    about_one = ("/v1/billing/meters/{id}/explanation", "/v1/billing/closed_periods/{id}")
    assert len([line for line in lines if line["path"] in about_one]) == 2
    assert [line.get("customer") for line in lines] == [named if line["path"] in about_one else None for line in lines]
    (reader,) = (key.id for key in metering.access_keys.list() if "read" in key.scopes)
    assert {line["key"] for line in lines if line.get("customer")} <= {reader}
    assert metering.total("tokens", "acme", moment("2026-11-01T00:00"), moment("2026-12-01T00:00")).value == 25
