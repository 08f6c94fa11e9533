"""Group commit when recording fails: which requests get the error, and that none is acknowledged without its events."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, cast

import pytest
from tallybook.application import KeyValueEntry, Metering, Receipt
from tallybook.application.commands.usage import UsageCommands
from tallybook.application.interfaces.http.errors import ApiError
from tallybook.application.interfaces.http.pending_requests import RecordResponse
from tallybook.application.storage.ports import RowRejected
from tallybook.domain.errors import (
    DatabasePermissionDenied,
    LedgerCorrupted,
    LedgerUnavailable,
    TallybookError,
)

from .group_commit import (
    BatchGate,
    RecordingObserver,
    commit_together,
    meter_events,
    open_committer,
    pending_request,
    serve_ledger,
    total,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ZeroDivisionError("internal: a defect"), 500),
        (LedgerCorrupted("internal: the database can't convert a value of the event"), 500),
        (RowRejected("internal: a policy of the database rejects the event"), 503),
    ],
    ids=lambda parameter: type(parameter).__name__ if isinstance(parameter, Exception) else str(parameter),
)
def test_a_failing_request_is_isolated(metering: Metering, key: str, error: Exception, status: int) -> None:
    """A request that causes an error gets its status; the others are recorded once each."""

    def poisonous(_: Sequence[Receipt], __: datetime) -> RecordResponse:
        raise error

    async def run() -> None:
        gate = BatchGate()
        async with open_committer(serve_ledger(metering)) as committer:
            responses = await commit_together(
                committer,
                pending_request(key, meter_events("1"), gate=gate),
                gate,
                pending_request(key, meter_events("2"), key="two"),
                pending_request(key, meter_events("100"), poisonous),
                pending_request(key, meter_events("4")),
                pending_request(key, meter_events("2"), key="two"),
            )
            later = await committer.submit(pending_request(key, meter_events("8")))
        assert [response.status for response in (*responses, later)] == [200, 200, status, 200, 200, 200]
        assert json.loads(responses[2].body)["error"]["type"] == "api_error"
        assert "internal:" not in responses[2].body.decode()

    asyncio.run(run())
    assert total(metering) == "15"


class FailingUsage:
    """Commands whose transactions fail at commit."""

    def __init__(self, usage: UsageCommands, error: TallybookError) -> None:
        self._usage = usage
        self.error: TallybookError | None = error
        self.transactions = 0

    def record_new(self, meter_events: Any, *, attach: Callable[..., Sequence[KeyValueEntry]], authors: Any) -> Any:
        """Record, and fail at commit."""
        self.transactions += 1

        def failing(receipts: Sequence[Receipt], at: datetime) -> Sequence[KeyValueEntry]:
            entries = attach(receipts, at)
            if self.error is not None:
                raise self.error
            return entries

        return self._usage.record_new(meter_events, attach=failing, authors=authors)


@pytest.mark.parametrize(
    "error", [DatabasePermissionDenied("permission denied for table stored_events"), LedgerUnavailable("full")]
)
def test_an_error_that_concerns_all_requests_is_reported_at_once(
    metering: Metering, key: str, error: TallybookError
) -> None:
    """No request is recorded on its own, which would fail as well."""

    async def run() -> None:
        served_ledger, gate = serve_ledger(metering), BatchGate()
        failing = FailingUsage(served_ledger.usage, error)
        served_ledger.usage = cast(UsageCommands, failing)
        async with open_committer(served_ledger) as committer:
            others = [pending_request(key, meter_events("1")) for _ in range(20)]
            responses = await commit_together(
                committer, pending_request(key, meter_events("1"), gate=gate), gate, *others
            )
        assert {response.status for response in responses} == {503}
        assert failing.transactions == 2

    asyncio.run(run())
    assert total(metering) == "0"


def test_rejected_requests_with_one_idempotency_key_are_answered_in_one_transaction(
    metering: Metering, key: str
) -> None:
    """The same requests with the same error. Another request came while the first of them was in progress."""

    def reject(_: Sequence[Receipt], __: datetime) -> RecordResponse:
        raise ApiError(400, "no", code="no")

    async def run() -> None:
        observer, gate = RecordingObserver(), BatchGate()
        async with open_committer(serve_ledger(metering), observer) as committer:
            same = [pending_request(key, meter_events("x"), reject, key="one") for _ in range(20)]
            others = [pending_request(key, meter_events(f"{n}"), key="one") for n in range(20)]
            free = pending_request(key, meter_events("2"), key="two")
            first = pending_request(key, meter_events("1"), gate=gate)
            responses = await commit_together(committer, first, gate, *same, *others, free)
            retry = await committer.submit(pending_request(key, meter_events("4"), key="one"))
        assert [response.status for response in responses] == [200, *[400] * 20, *[409] * 20, 200]
        assert json.loads(responses[-2].body)["error"]["code"] == "idempotency_key_in_use"
        assert observer.commits == [1, 2, 1]
        assert retry.status == 200

    asyncio.run(run())
    assert total(metering) == "7"


def test_a_repeated_request_and_another_one_with_its_key_get_their_own_responses(metering: Metering, key: str) -> None:
    """In one batch, whichever comes first: the other one must not look recorded."""

    async def run() -> None:
        gate = BatchGate()
        async with open_committer(serve_ledger(metering)) as committer:
            recorded = await committer.submit(pending_request(key, meter_events("1"), key="one"))
            other, repeated, another = (pending_request(key, meter_events(v), key="one") for v in ("2", "1", "4"))
            responses = await commit_together(
                committer, pending_request(key, meter_events("8"), gate=gate), gate, other, repeated, another
            )
        assert [response.status for response in responses] == [200, 400, 200, 400]
        assert responses[2].body == recorded.body

    asyncio.run(run())
    assert total(metering) == "9"


def test_a_store_that_fails_acknowledges_nothing(metering: Metering, key: str) -> None:
    """All requests of the transaction get 503; retried with their keys, they count once."""

    async def run() -> None:
        served_ledger, gate = serve_ledger(metering), BatchGate()
        failing = FailingUsage(served_ledger.usage, LedgerUnavailable("the disk at /var/lib is full"))
        served_ledger.usage = cast(UsageCommands, failing)
        async with open_committer(served_ledger) as committer:
            responses = await commit_together(
                committer,
                pending_request(key, meter_events("1"), key="a", gate=gate),
                gate,
                pending_request(key, meter_events("2"), key="b"),
                pending_request(key, meter_events("4")),
            )
            assert [response.status for response in responses] == [503, 503, 503]
            assert {response.headers["Retry-After"] for response in responses} == {"1"}
            assert {response.headers["Stripe-Should-Retry"] for response in responses} == {"true"}
            assert not any(b"/var/lib" in response.body for response in responses)
            assert total(metering) == "0"
            assert metering.events("tokens") == []
            failing.error = None
            retried = [
                await committer.submit(pending_request(key, meter_events(v), key=k))
                for v, k in (("1", "a"), ("2", "b"))
            ]
            assert [response.status for response in retried] == [200, 200]
            assert not any("Idempotent-Replayed" in response.headers for response in retried)

    asyncio.run(run())
    assert total(metering) == "3"
