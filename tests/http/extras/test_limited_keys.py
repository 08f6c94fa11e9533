"""A key that is limited to customers reads their data and nothing else, whatever the operation."""

import re
from pathlib import Path

import pytest
from tallybook.application import InvalidParameter, Metering
from tallybook.application.checkpoints.signing_keys import PrivateKey
from tallybook.application.interfaces.http.catalogue import all_operations
from tallybook.application.interfaces.http.customer_access import RULES
from tallybook.application.interfaces.http.object_ids import METER_EVENT_PREFIX, encode_id
from tallybook.application.interfaces.http.operations import Operation

from ...notation import Ledger, moment
from ...waiting import wait_until
from .api_client import ApiClient, Json, unix_time

RANGE: Json = {"start_time": unix_time("10:00"), "end_time": unix_time("11:00")}
ACME_EVENT, BOLT_EVENT = (encode_id(METER_EVENT_PREFIX, identifier) for identifier in ("a1", "b1"))
Allowed = dict[str, tuple[str, Json]]
EMBED_TOKENS = "/v1/billing/embed_tokens"
OWN: Allowed = {
    "create_embed_token": (EMBED_TOKENS, {"customer": "acme"}),
    "list_meters": ("/v1/billing/meters", {}),
    "retrieve_meter": ("{meter}", {}),
    "list_event_summaries": ("{meter}/event_summaries", {"customer": "acme", **RANGE}),
    "list_totals": ("{meter}/totals", RANGE),
    "retrieve_explanation": ("{meter}/explanation", {"customer": "acme", **RANGE}),
    "retrieve_explanation_page": ("{meter}/explanation_page", {"customer": "acme", **RANGE}),
    "retrieve_comparison": ("{meter}/comparison", {"customer": "acme", "since_position": 0, **RANGE}),
    "list_meter_events": ("/v1/billing/meter_events", {"event_name": "calls", "customer": "acme"}),
    "retrieve_evidence": ("/v1/billing/evidence", {"customer": "acme", **RANGE}),
    "retrieve_meter_event": (f"/v1/billing/meter_events/{ACME_EVENT}", {}),
}
"""A request for the data of its own customer, for each operation that admits such a key."""
OF_OTHERS: list[tuple[str, str, Json, int]] = [
    ("create_embed_token", EMBED_TOKENS, {"customer": "bolt"}, 403),
    ("list_event_summaries", "{meter}/event_summaries", {"customer": "bolt", **RANGE}, 403),
    ("retrieve_explanation", "{meter}/explanation", {"customer": "bolt", **RANGE}, 403),
    ("retrieve_explanation", "{meter}/explanation", RANGE, 403),
    ("retrieve_explanation_page", "{meter}/explanation_page", {"customer": "bolt", **RANGE}, 403),
    ("retrieve_explanation_page", "{meter}/explanation_page", RANGE, 403),
    ("retrieve_comparison", "{meter}/comparison", {"customer": "bolt", "since_position": 0, **RANGE}, 403),
    ("retrieve_comparison", "{meter}/comparison", {"since_position": 0, **RANGE}, 403),
    ("list_meter_events", "/v1/billing/meter_events", {"event_name": "calls"}, 403),
    ("list_meter_events", "/v1/billing/meter_events", {"event_name": "calls", "customer": "bolt"}, 403),
    ("list_meter_events", "/v1/billing/meter_events", {"event_name": "calls", "identifier": "b1"}, 403),
    (
        "list_meter_events",
        "/v1/billing/meter_events",
        {"event_name": "calls", "customer": "acme", "starting_after": BOLT_EVENT},
        400,
    ),
    ("retrieve_evidence", "/v1/billing/evidence", {"customer": "bolt", **RANGE}, 403),
    ("retrieve_meter_event", f"/v1/billing/meter_events/{BOLT_EVENT}", {}, 404),
]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ledger of a server that publishes checkpoints."""
    PrivateKey.generate(tmp_path / "key.pem", "tallybook")
    monkeypatch.setenv("TALLYBOOK_CHECKPOINT__KEY", str(tmp_path / "key.pem"))
    monkeypatch.setenv("TALLYBOOK_CHECKPOINT__DESTINATIONS", str(tmp_path / "published"))
    return f"sqlite:///{tmp_path / 'usage.db'}"


@pytest.fixture
def limited_api(api: ApiClient, ledger: Ledger, metering: Metering) -> ApiClient:
    """A client with a key that is limited to acme, of a ledger with usage of acme and bolt."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 5  id=a1
        10:06  bolt calls 7  id=b1
        10:07  acme calls 1  id=a2
    """)
    wait_until(lambda: api.send("POST", "/v1/billing/checkpoints").status_code == 200)  # not while a job does it
    api.keys["limited"] = metering.access_keys.create(["read"], customers=["acme"]).key
    return api


def send(api: ApiClient, path: str, params: Json) -> tuple[int, str]:
    """Return the status and the text of a response to the limited key."""
    path = path.format(meter=api.meter_path("calls")) if "{meter}" in path else path
    method = "POST" if path == EMBED_TOKENS else "GET"
    response = api.send(method, path, "limited", **params)
    return response.status_code, response.text


def test_every_operation_refuses_it_or_is_limited(limited_api: ApiClient) -> None:
    """Nothing about another customer is in any response."""
    assert set(OWN) == set(RULES)
    for operation in all_operations():
        if operation.name not in RULES:
            path = re.sub(r"\{\w+\}", "1", operation.path)
            assert limited_api.error(operation.method, path, "limited")[:2] == _expected_error(operation), (
                operation.name
            )
    for name, (path, params) in OWN.items():
        status, text = send(limited_api, path, params)
        assert (name, status) == (name, 200)
        assert "bolt" not in text
        assert "acme" in text or name in {"list_meters", "retrieve_meter", "list_event_summaries", "retrieve_evidence"}
    for name, path, params, expected in OF_OTHERS:
        status, text = send(limited_api, path, params)
        assert (name, params, status) == (name, params, expected)
        assert '"bolt"' not in text


def test_a_meter_whose_customers_had_another_key_is_missing(
    limited_api: ApiClient, ledger: Ledger, metering: Metering
) -> None:
    """Its customer acme may be another one in older results. An announced key doesn't matter yet."""
    ledger.given("""
        meter  seats  sum
        10:05  acme seats 5  id=s1  tenant=other
    """)
    path, tenant = f"{limited_api.meter_path('seats')}/totals", {"customer_key": "tenant"}
    metering.rules.change("seats", tenant, reason="tenants pay", effective_from=moment("2100-01-01T00:00"))
    assert limited_api.send("GET", path, "limited", **RANGE).json()["data"][0]["customer"] == "acme"
    metering.rules.change("seats", tenant, reason="tenants pay")
    events: Json = {"event_name": "seats", "customer": "acme"}
    for url, params, status in ((path, RANGE, 404), ("/v1/billing/meter_events", events, 400)):
        for as_of in (None, ledger.position() - 2):
            assert limited_api.error("GET", url, "limited", **params, as_of_position=as_of)[0] == status
    event = encode_id(METER_EVENT_PREFIX, "s1")
    for as_of in (None, ledger.position() - 2):
        path = f"/v1/billing/meter_events/{event}"
        assert limited_api.error("GET", path, "limited", as_of_position=as_of)[0] == 404
    for as_of in (None, ledger.position() - 2):
        meters = limited_api.send("GET", "/v1/billing/meters", "limited", as_of_position=as_of).json()["data"]
        assert [meter["event_name"] for meter in meters] == ["calls"]


def _expected_error(operation: Operation) -> tuple[int, str]:
    """Return the status and code: a session token, not a key, is the credential of the stream."""
    return (401, "invalid_request_error") if operation.by_session else (403, "more_permissions_required")


def test_its_totals_are_those_of_its_customers_alone(limited_api: ApiClient) -> None:
    """Also page by page; and metrics, which are of all customers, are refused."""
    path = f"{limited_api.meter_path('calls')}/totals"
    found = limited_api.send("GET", path, "limited", limit=1, **RANGE).json()
    assert [(total["customer"], total["aggregated_value"]) for total in found["data"]] == [("acme", 6)]
    assert not found["has_more"]
    headers = {"Authorization": f"Bearer {limited_api.keys['limited']}"}
    assert limited_api.runner.run(limited_api.client.get("/metrics", headers=headers)).status_code == 403


def test_a_missing_event_and_that_of_another_customer_look_the_same(limited_api: ApiClient) -> None:
    """So that nobody learns which identifiers exist."""
    missing = encode_id(METER_EVENT_PREFIX, "zz")
    for path, params in (
        ("/v1/billing/meter_events/{}", {}),
        ("/v1/billing/meter_events", {"event_name": "calls", "customer": "acme", "starting_after": "{}"}),
    ):
        answers: list[tuple[int, str]] = []
        for event in (missing, BOLT_EVENT):
            sent: Json = {name: value.replace("{}", event) for name, value in params.items()}
            response = limited_api.send("GET", path.replace("{}", event), "limited", **sent)
            answers.append((response.status_code, response.text.replace(event, "?")))
        assert answers[0] == answers[1]


def test_a_derived_meter_with_another_customer_key_is_missing(
    api: ApiClient, ledger: Ledger, metering: Metering
) -> None:
    """Its customer acme is a user of bolt. One with the same customer key is read as its source, page by page."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 5  id=a1  user=ann
        10:06  bolt calls 7  id=b1  user=acme
        10:07  acme calls 1  id=a2  user=acme
    """)
    metering.meters.configure("by_user", source="calls", customer_key="user", value_key="calls")
    metering.meters.configure("doubled", source="calls", customer_key="customer", value_key="calls", multiplier=2)
    api.keys["limited"] = metering.access_keys.create(["read"], customers=["acme"]).key
    by_user = api.meter_path("by_user")
    missing = api.meter_path("calls").rpartition("/")[0] + "/mtr_none"
    for path, params in OWN.values():
        if path.startswith("{meter}"):
            answers = [api.send("GET", path.format(meter=meter), "limited", **params) for meter in (by_user, missing)]
            assert [answer.status_code for answer in answers] == [404, 404]
            assert all("No such meter" in answer.text for answer in answers)
    events = "/v1/billing/meter_events"
    texts: set[str] = set()
    queries: list[Json] = [{"customer": "acme"}, {"customer": "bolt"}, {"customer": "acme", "identifier": "b1"}]
    for event_name in ("by_user", "by_none"):
        for params in queries:
            answer = api.send("GET", events, "limited", event_name=event_name, **params)
            texts.add(answer.text.replace(event_name, "?"))
            assert answer.status_code == 400
    assert len(texts) == 1
    listed = api.send("GET", "/v1/billing/meters", "limited").json()["data"]
    assert {meter["event_name"]: meter["derived_meters"] for meter in listed} == {"calls": ["doubled"], "doubled": []}
    source = api.send("GET", api.meter_path("calls"), "limited").json()
    assert source["derived_meters"] == ["doubled"]
    for event_name in ("calls", "doubled"):
        page: Json = {"event_name": event_name, "customer": "acme", "limit": 1}
        first = api.send("GET", events, "limited", **page).json()["data"]
        second = api.send("GET", events, "limited", starting_after=first[0]["id"], **page).json()
        assert [event["identifier"] for event in (*first, *second["data"])] == ["a1", "a2"]
        assert not second["has_more"]


@pytest.mark.parametrize("scopes", [["record"], ["admin"], ["read", "record"]])
def test_it_may_only_read(metering: Metering, scopes: list[str]) -> None:
    """Whoever records changes what others see."""
    with pytest.raises(InvalidParameter, match="may only have the scope read") as raised:
        metering.access_keys.create(scopes, customers=["acme"])
    assert raised.value.field == "customers"
    with pytest.raises(InvalidParameter):
        metering.access_keys.create(["read"], customers=[""])
