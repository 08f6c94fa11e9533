"""Webhook endpoints, as Stripe's SDK makes, lists, changes and deletes them."""

from pathlib import Path
from typing import Any

import pytest
from stripe import APIError, IdempotencyError, InvalidRequestError, PermissionError, StripeClient  # noqa: A004 - theirs
from tallybook.application import Metering

from tests.server.serving import Serving, create_key
from tests.server.webhooks.receiver import Receiver
from tests.server.webhooks.served import new_meter, sdk

URL = "https://example.com/hooks"


def create(client: StripeClient, **params: Any) -> Any:
    """A new endpoint."""
    return client.v1.webhook_endpoints.create(params={"url": URL, "enabled_events": ["*"], **params})  # type: ignore[typeddict-item]


def test_an_endpoint_is_made_changed_and_deleted(client: StripeClient) -> None:
    """Its secret is told when it is made, and never again."""
    made = create(client, description="Ours", metadata={"team": "billing", "old": "1"})
    assert made.secret.startswith("whsec_")
    assert (made.status, made.livemode, made.metadata.to_dict()) == ("enabled", True, {"team": "billing", "old": "1"})
    changes: Any = {
        "url": "http://127.0.0.1:1/",
        "enabled_events": ["billing.meter.created", "billing.meter.created"],
        "disabled": True,
        "metadata": {"old": ""},
    }
    changed: Any = client.v1.webhook_endpoints.update(made.id, params=changes)
    assert (changed.url, changed.enabled_events) == ("http://127.0.0.1:1/", ["billing.meter.created"])
    assert (changed.status, changed.description, changed.metadata.to_dict()) == (
        "disabled",
        "Ours",
        {"team": "billing"},
    )
    assert client.v1.webhook_endpoints.retrieve(made.id).to_dict() == changed.to_dict()
    assert client.v1.webhook_endpoints.delete(made.id).to_dict()["deleted"] is True
    for call in (client.v1.webhook_endpoints.retrieve, client.v1.webhook_endpoints.delete):
        with pytest.raises(InvalidRequestError, match="No such webhook endpoint"):
            call(made.id)


def test_endpoints_are_changed_one_at_a_time(client: StripeClient, ledger_url: str) -> None:
    """None comes back that was deleted, because another request has read it before and changes it after."""
    made = create(client)
    endpoints = client.v1.webhook_endpoints
    with Metering.open(ledger_url) as metering, metering.keeper().alone("changing webhook endpoints"):
        for change in (lambda: endpoints.update(made.id), lambda: endpoints.delete(made.id), lambda: create(client)):
            with pytest.raises(APIError, match="Another request changes webhook endpoints now") as refused:
                change()
            assert refused.value.http_status == 409
        assert [one.id for one in endpoints.list().data] == [made.id]
    assert endpoints.delete(made.id).to_dict()["deleted"] is True


def test_endpoints_are_listed_newest_first(client: StripeClient) -> None:
    """Page by page, and as many as there can be."""
    made = [create(client).id for _ in range(16)]
    with pytest.raises(InvalidRequestError, match="as many as can be"):
        create(client)
    listed = client.v1.webhook_endpoints.list(params={"limit": 5})
    assert [one.id for one in listed.auto_paging_iter()] == made[::-1]
    client.v1.webhook_endpoints.delete(made[0])
    create(client)


WRONG: list[tuple[str, Any, str]] = [
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


@pytest.mark.parametrize(("param", "value", "named"), WRONG)
def test_what_is_no_endpoint_is_refused(shared_client: StripeClient, param: str, value: Any, named: str) -> None:
    """The parameter is named."""
    with pytest.raises(InvalidRequestError) as refused:
        create(shared_client, **{param: value})
    error: Any = refused.value
    assert error.param.partition("[")[0] == named.partition("[")[0]


@pytest.mark.parametrize("scope", ["read", "record"])
def test_endpoints_are_an_admins(serving: Serving, client: StripeClient, ledger_url: str, scope: str) -> None:
    """Others neither see nor change them."""
    made = create(client)
    other = sdk(serving, create_key(ledger_url, scope))
    calls = [
        lambda: create(other),
        lambda: other.v1.webhook_endpoints.list(params={"limit": 1}),
        lambda: other.v1.webhook_endpoints.retrieve(made.id),
        lambda: other.v1.webhook_endpoints.update(made.id, params={"disabled": True}),
        lambda: other.v1.webhook_endpoints.delete(made.id),
    ]
    for call in calls:
        with pytest.raises(PermissionError):
            call()


def test_a_secret_is_told_once(serving: Serving, client: StripeClient, receiver: Receiver, key: str) -> None:
    """It is in no list, no event and no log; only the request that began its endpoint is told it again."""
    told: Any = {"url": receiver.url, "enabled_events": ["*"]}
    changed: Any = {**told, "description": "other"}
    first = client.v1.webhook_endpoints.create(told, {"idempotency_key": "once"})
    again = client.v1.webhook_endpoints.create(told, {"idempotency_key": "once"})
    other = client.v1.webhook_endpoints.create(told, {"idempotency_key": "another"})
    assert first.secret
    assert (first.id, first.secret) == (again.id, again.secret)
    assert first.secret != other.secret
    with pytest.raises(IdempotencyError):
        client.v1.webhook_endpoints.create(changed, {"idempotency_key": "once"})
    client.v1.webhook_endpoints.delete(other.id)
    receiver.statuses = [500]
    new_meter(client)
    receiver.wait(2)
    with serving.client(key) as http:
        read = [http.get(f"/v1/webhook_endpoints{one}").text for one in ("", f"/{first.id}")]
        read += [http.get(path).text for path in ("/v1/events", "/v2/core/events")]
    assert "secret" not in "".join(read)
    assert first.secret not in serving.log_file.read_text()
    assert all(first.secret.encode() not in one.body for one in receiver.received)


def test_secrets_are_not_in_stored_answers(client: StripeClient, ledger_url: str) -> None:
    """The ledger's file has each once: in its endpoint, which deliveries are signed with."""
    secret = create(client).secret
    file = Path(ledger_url.removeprefix("sqlite:///"))
    stored = b"".join(one.read_bytes() for one in file.parent.glob(f"{file.name}*") if one.is_file())
    assert stored.count(secret.encode()) == 1
