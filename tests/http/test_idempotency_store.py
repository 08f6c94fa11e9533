"""Stored responses if two processes receive the same request concurrently."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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

        def handle(interrupted: str | None) -> ApiResponse:
            assert interrupted is None
            return RESPONSE

        def handle_after_other(interrupted: str | None) -> ApiResponse:
            """Handle the request after another process has finished it."""
            assert interrupted == "req_1"
            answers_row = responses.entry(KEY, RESPONSE, "req_1", 1)
            metering.key_value_store().apply(upsert=[answers_row])
            raise ApiError(409, "Try again later.")

        metering.key_value_store().apply(insert=[responses.entry(KEY, ApiResponse(0, b""), "req_1", 1)])  # started
        with pytest.raises(ApiError):
            other_responses.run_once(KEY, "req_2", 2, handle_after_other)
        repeated = other_responses.run_once(KEY, "req_3", 3, handle)
        assert (repeated.status, repeated.headers["Original-Request"]) == (200, "req_1")


def test_a_request_that_another_process_finishes_before_it_starts_has_its_response(tmp_path: Path) -> None:
    """It isn't run again, between the look-up of the response and the note that it has started."""
    with Metering.open(f"sqlite:///{tmp_path}/ledger.db") as metering:
        key_values = metering.key_value_store()
        other = IdempotencyStore(key_values)

        class Delayed(IdempotencyStore):
            """Finds nothing at first, because the other request finishes right after that."""

            has_looked = False

            def _find_all(self, keys: Sequence[IdempotencyKey]) -> dict[IdempotencyKey, Any]:
                found = super()._find_all(keys)
                if not self.has_looked:
                    self.has_looked = True
                    other.run_once(KEY, "req_1", 1, lambda _: RESPONSE)
                return found

        repeated = Delayed(key_values).run_once(KEY, "req_2", 2, lambda _: pytest.fail("it is done twice"))
        assert (repeated.status, repeated.headers["Original-Request"]) == (200, "req_1")
