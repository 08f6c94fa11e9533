"""Webhook endpoints, with Stripe's SDK."""

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from stripe import APIError, IdempotencyError, InvalidRequestError, PermissionError, StripeClient  # noqa: A004 - theirs
from tallybook.application import Metering

from tests.http.running_server import RunningServer, create_key
from tests.http.webhooks.receiver import Receiver
from tests.http.webhooks.webhook_server import new_meter, stripe_client

URL = "https://example.com/hooks"


def create(client: StripeClient, **params: Any) -> Any:
    """Create an endpoint."""
    return client.v1.webhook_endpoints.create(params={"url": URL, "enabled_events": ["*"], **params})  # type: ignore[typeddict-item]


def test_an_endpoint_is_created_updated_and_deleted(client: StripeClient) -> None:
    """The secret appears in the response of the creation only."""
    created = create(client, description="Ours", metadata={"team": "billing", "old": "1"})
    assert created.secret.startswith("whsec_")
    assert (created.status, created.livemode, created.metadata.to_dict()) == (
        "enabled",
        True,
        {"team": "billing", "old": "1"},
    )
    changes: Any = {
        "url": "http://127.0.0.1:1/",
        "enabled_events": ["billing.meter.created", "billing.meter.created"],
        "disabled": True,
        "metadata": {"old": ""},
    }
    updated: Any = client.v1.webhook_endpoints.update(created.id, params=changes)
    assert (updated.url, updated.enabled_events) == ("http://127.0.0.1:1/", ["billing.meter.created"])
    assert (updated.status, updated.description, updated.metadata.to_dict()) == (
        "disabled",
        "Ours",
        {"team": "billing"},
    )
    assert client.v1.webhook_endpoints.retrieve(created.id).to_dict() == updated.to_dict()
    assert client.v1.webhook_endpoints.delete(created.id).to_dict()["deleted"] is True
    for call in (client.v1.webhook_endpoints.retrieve, client.v1.webhook_endpoints.delete):
        with pytest.raises(InvalidRequestError, match="No such webhook endpoint"):
            call(created.id)


def test_updates_add_no_more_metadata_than_an_endpoint_may_have(client: StripeClient) -> None:
    """Each update adds to the metadata that is there, so the limit is of both together."""
    created = create(client, metadata={f"key-{number}": "value" for number in range(50)})
    with pytest.raises(InvalidRequestError, match="at most 50 keys, and would have 51") as raised:
        client.v1.webhook_endpoints.update(created.id, params={"metadata": {"another": "value"}})
    assert raised.value.param == "metadata"  # pyright: ignore[reportUnknownMemberType]
    replaced: Any = {"metadata": {"another": "value", "key-0": ""}}
    metadata = client.v1.webhook_endpoints.update(created.id, params=replaced).metadata.to_dict()
    assert (len(metadata), metadata["another"]) == (50, "value")


def test_endpoints_are_updated_one_at_a_time(client: StripeClient, ledger_url: str) -> None:
    """A concurrent update does not restore a deleted endpoint."""
    created = create(client)
    endpoints = client.v1.webhook_endpoints
    with Metering.open(ledger_url) as metering, metering.key_value_store().try_lock("changing webhook endpoints"):
        for change in (
            lambda: endpoints.update(created.id),
            lambda: endpoints.delete(created.id),
            lambda: create(client),
        ):
            with pytest.raises(APIError, match="Another request is changing webhook endpoints") as exc_info:
                change()
            assert exc_info.value.http_status == 409
        assert [webhook_endpoint.id for webhook_endpoint in endpoints.list().data] == [created.id]
    assert endpoints.delete(created.id).to_dict()["deleted"] is True


def test_endpoints_are_listed_newest_first(client: StripeClient) -> None:
    """Page by page, up to the maximum number."""
    created = [create(client).id for _ in range(16)]
    with pytest.raises(InvalidRequestError, match="webhook endpoints already, the maximum"):
        create(client)
    listed = client.v1.webhook_endpoints.list(params={"limit": 5})
    assert [webhook_endpoint.id for webhook_endpoint in listed.auto_paging_iter()] == created[::-1]
    client.v1.webhook_endpoints.delete(created[0])
    create(client)


INVALID_PARAMS: list[tuple[str, Any, str]] = [
    ("url", "ftp://example.com", "url"),
    ("url", "example.com", "url"),
    ("url", "https://", "url"),
    ("url", "https://example.com:99999/", "url"),
    ("url", "https://user:password@example.com/", "url"),
    ("url", "https://example.com/#there", "url"),
    ("url", "https://example.com/a b", "url"),
    ("url", "https://exämple.com/", "url"),
    ("url", "https://[::1/", "url"),
    ("url", "https://example.com/" + "a" * 2_000, "url"),
    ("enabled_events", [], "enabled_events"),
    ("enabled_events", ["invoice.paid"], "enabled_events[0]"),
    ("enabled_events", ["*", "v1.billing.meter.nothing"], "enabled_events[1]"),
    ("description", "a\0b", "description"),
    ("description", "a" * 5_001, "description"),
    ("metadata", {"k" * 41: "v"}, "metadata"),
    ("nothing", "1", "nothing"),
]


@pytest.mark.parametrize(("param", "value", "named"), INVALID_PARAMS)
def test_an_invalid_endpoint_is_rejected(shared_client: StripeClient, param: str, value: Any, named: str) -> None:
    """The error names the parameter."""
    with pytest.raises(InvalidRequestError) as exc_info:
        create(shared_client, **{param: value})
    error: Any = exc_info.value
    assert error.param.partition("[")[0] == named.partition("[")[0]


@pytest.mark.parametrize("scope", ["read", "record"])
def test_endpoints_need_an_admin_key(server: RunningServer, client: StripeClient, ledger_url: str, scope: str) -> None:
    """Other keys can neither read nor change them."""
    created = create(client)
    other = stripe_client(server, create_key(ledger_url, scope))
    calls = [
        lambda: create(other),
        lambda: other.v1.webhook_endpoints.list(params={"limit": 1}),
        lambda: other.v1.webhook_endpoints.retrieve(created.id),
        lambda: other.v1.webhook_endpoints.update(created.id, params={"disabled": True}),
        lambda: other.v1.webhook_endpoints.delete(created.id),
    ]
    for call in calls:
        with pytest.raises(PermissionError):
            call()


def test_a_secret_is_returned_once(server: RunningServer, client: StripeClient, receiver: Receiver, key: str) -> None:
    """It is in no list, event or log; only a retry of the creation returns it."""
    params: Any = {"url": receiver.url, "enabled_events": ["*"]}
    updated: Any = {**params, "description": "other"}
    first = client.v1.webhook_endpoints.create(params, {"idempotency_key": "once"})
    repeated = client.v1.webhook_endpoints.create(params, {"idempotency_key": "once"})
    other = client.v1.webhook_endpoints.create(params, {"idempotency_key": "another"})
    assert first.secret
    assert (first.id, first.secret) == (repeated.id, repeated.secret)
    assert first.secret != other.secret
    with pytest.raises(IdempotencyError):
        client.v1.webhook_endpoints.create(updated, {"idempotency_key": "once"})
    client.v1.webhook_endpoints.delete(other.id)
    receiver.statuses = [500]
    new_meter(client)
    receiver.wait(2)
    with server.client(key) as http:
        read = [http.get(f"/v1/webhook_endpoints{suffix}").text for suffix in ("", f"/{first.id}")]
        read += [http.get(path).text for path in ("/v1/events", "/v2/core/events")]
    assert "secret" not in "".join(read)
    assert first.secret not in server.log_file.read_text()
    assert all(first.secret.encode() not in request.body for request in receiver.received)


def test_secrets_are_not_in_stored_responses(client: StripeClient, ledger_url: str) -> None:
    """The ledger stores each secret once, in its endpoint."""
    secret = create(client).secret
    with closing(sqlite3.connect(ledger_url.removeprefix("sqlite:///"))) as ledger:
        bodies = [
            bytes(body)
            for (body,) in ledger.execute("SELECT body FROM key_values UNION ALL SELECT state FROM stored_events")
        ]
    assert sum(body.count(secret.encode()) for body in bodies) == 1
