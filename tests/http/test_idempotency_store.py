"""Stored responses if two processes receive the same request concurrently."""

from pathlib import Path

import pytest
from tallybook.application.interfaces.http.errors import ApiError
from tallybook.application.interfaces.http.idempotency import IdempotencyKey, IdempotencyStore
from tallybook.application.interfaces.http.responses import ApiResponse
from tallybook.application.metering import Metering

KEY = IdempotencyKey("owner", "key", b"the same request")
RESPONSE = ApiResponse(200, b"{}")


def test_a_concurrent_rejected_request_deletes_nothing(tmp_path: Path) -> None:
    """The response of the other process stays, so that the request does not run again."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    with Metering.open(url) as metering, Metering.open(url) as other_metering:
        responses, other_responses = (
            IdempotencyStore(metering.key_value_store()),
            IdempotencyStore(other_metering.key_value_store()),
        )

        def handle(is_retry: bool) -> ApiResponse:
            assert not is_retry
            return RESPONSE

        def handle_after_other(is_retry: bool) -> ApiResponse:
            """Handle the request after another process has finished it."""
            assert is_retry
            answers_row = responses.entry(KEY, RESPONSE, "req_1", 1)
            metering.key_value_store().apply(upsert=[answers_row])
            raise ApiError(409, "Try again later.")

        metering.key_value_store().apply(insert=[responses.entry(KEY, ApiResponse(0, b""), "req_1", 1)])  # started
        with pytest.raises(ApiError):
            other_responses.run_once(KEY, "req_2", 2, handle_after_other)
        repeated = other_responses.run_once(KEY, "req_3", 3, handle)
        assert (repeated.status, repeated.headers["Original-Request"]) == (200, "req_1")
