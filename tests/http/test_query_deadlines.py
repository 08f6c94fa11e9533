"""Every operation that only reads has the deadline and the limits of queries, whatever its method."""

import asyncio
import json
import time
from pathlib import Path
from typing import cast

import pytest
from tallybook.application.commands.bulk_cancellations import BulkCancellationCommands
from tallybook.application.interfaces.http.api_request import ApiRequest
from tallybook.application.interfaces.http.catalogue import all_operations
from tallybook.application.interfaces.http.ledgers import LedgerRegistry
from tallybook.application.interfaces.http.observability.metrics import Observer
from tallybook.application.interfaces.http.request_handler import RequestHandler, query_limits
from tallybook.application.interfaces.http.responses import ApiResponse
from tallybook.application.interfaces.http.sent_response import unread_response_budget
from tallybook.application.interruption import check_interruption

from tallybook import AcceptancePolicy, Scope, utc_now

from .group_commit import RecordingObserver

OPERATIONS = {operation.name: operation for operation in all_operations()}
DEADLINE_SECONDS = 0.2


def test_operations_with_the_scope_read_are_queries() -> None:
    """Also a POST. All others that are no GET change something."""
    queries = {operation.name for operation in all_operations() if operation.is_query and operation.method != "GET"}
    assert queries == {"preview_meter_event_cancellation", "preview_closed_period", "create_embed_token"}
    assert all(operation.is_query for operation in all_operations() if operation.scope is Scope.READ)


def test_operations_that_change_nothing_store_no_response() -> None:
    """A key that may only read could fill the disk with responses to requests with idempotency keys."""
    for operation in all_operations():
        changes_nothing = operation.is_query or "preview" in operation.path
        assert operation.stores_response == (not changes_nothing and not operation.is_secret), operation.name


def test_a_preview_is_stopped_at_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read key could otherwise have the server read a million events for each of its requests."""
    stopped: list[bool] = []

    def read_for_ever(*_: object, **__: object) -> None:
        try:
            while True:
                check_interruption()
                time.sleep(0.01)
        finally:
            stopped.append(True)

    monkeypatch.setattr(BulkCancellationCommands, "preview", read_for_ever)
    ledgers = LedgerRegistry(f"sqlite:///{tmp_path}/usage.db", AcceptancePolicy(), utc_now)
    created = ledgers.for_mode(livemode=True).metering.access_keys.create(["read"])
    request = ApiRequest(
        "req_1", "/", body=json.dumps({"event_name": "calls", "customer": "acme"}).encode(),
        content_type="application/json", authorization=f"Bearer {created.key}",
    )  # fmt: skip

    async def run() -> ApiResponse:
        handler = RequestHandler(
            ledgers, cast(Observer, RecordingObserver()), unread_response_budget(), query_limits(DEADLINE_SECONDS)
        )
        try:
            response = await handler.handle(OPERATIONS["preview_meter_event_cancellation"], request)
            assert isinstance(response, ApiResponse)
            return response
        finally:
            await handler.close()

    response = asyncio.run(asyncio.wait_for(run(), 30))
    ledgers.close()
    assert (response.status, json.loads(response.body)["error"]["code"], stopped) == (503, "query_timeout", [True])
