"""The callers of the record queue: access keys, whatever credentials their requests have."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from tallybook.application.interfaces.http.api_request import ApiRequest
from tallybook.application.interfaces.http.catalogue import all_operations
from tallybook.application.interfaces.http.group_commit import GroupCommitter
from tallybook.application.interfaces.http.ledgers import LedgerRegistry
from tallybook.application.interfaces.http.observability.metrics import Observer
from tallybook.application.interfaces.http.pending_requests import PendingRequest
from tallybook.application.interfaces.http.request_handler import RequestHandler, query_limits
from tallybook.application.interfaces.http.responses import ApiResponse
from tallybook.application.interfaces.http.sent_response import unread_response_budget

from tallybook import AcceptancePolicy, Metering, utc_now

from .group_commit import RecordingObserver

EVENT = {"event_name": "tokens", "payload": {"stripe_customer_id": "acme", "value": "1"}}
OPERATIONS = {operation.name: operation for operation in all_operations()}


@pytest.fixture
def ledgers(tmp_path: Path) -> Iterator[LedgerRegistry]:
    """The ledgers of a server, with a meter."""
    url = f"sqlite:///{tmp_path}/usage.db"
    with Metering.open(url) as metering:
        metering.meters.configure("tokens")
    registry = LedgerRegistry(url, AcceptancePolicy(), utc_now)
    yield registry
    registry.close()


def post(operation_name: str, body: object, credentials: str) -> tuple[str, ApiRequest]:
    """Return an operation and a request with credentials."""
    request = ApiRequest(
        "req_1", "/", body=json.dumps(body).encode(), content_type="application/json",
        authorization=f"Bearer {credentials}",
    )  # fmt: skip
    return operation_name, request


def test_all_credentials_of_a_key_are_one_caller(ledgers: LedgerRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its session tokens too; credentials that never were valid get 401 and do not reach the queue."""
    ledger = ledgers.for_mode(livemode=True)
    created, other = (ledger.metering.access_keys.create(["record"]) for _ in range(2))
    tokens = [ledger.sessions.create(ledger.authenticator.reauthenticate(created.view.id)).token for _ in range(3)]
    callers: list[str] = []
    submit = GroupCommitter.submit

    async def observed(committer: GroupCommitter, request: PendingRequest) -> ApiResponse:
        callers.append(request.caller)
        return await submit(committer, request)

    monkeypatch.setattr(GroupCommitter, "submit", observed)
    requests = [
        *(post("send_meter_events", {"events": [EVENT]}, token) for token in tokens * 2),
        post("create_meter_event", EVENT, created.key),
        post("create_meter_event", EVENT, other.key),
        post("create_meter_event", EVENT, f"{created.key}x"),
        post("send_meter_events", {"events": [EVENT]}, f"{tokens[0]}x"),
        post("create_meter_event", EVENT, tokens[0]),
    ]

    async def run() -> list[int]:
        handler = RequestHandler(
            ledgers, cast(Observer, RecordingObserver()), unread_response_budget(), query_limits(timeout_seconds=30)
        )
        try:
            return [(await handler.handle(OPERATIONS[name], request)).status for name, request in requests]
        finally:
            await handler.close()

    assert asyncio.run(run()) == [200] * 8 + [401] * 3
    assert callers == [created.view.id] * 7 + [other.view.id, created.view.id]
