"""Group commit: waiting requests are recorded in one transaction, without effects on each other."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from tallybook.application import Metering, Receipt
from tallybook.application.interfaces.http.errors import ApiError
from tallybook.application.interfaces.http.group_commit import GroupCommitter
from tallybook.application.interfaces.http.pending_requests import PendingRequest, RecordResponse
from tallybook.application.interfaces.http.record_queue import MAX_QUEUED_EVENTS_PER_CALLER, RecordQueue
from tallybook.domain.meter_event_input import MeterEventInput

from .group_commit import (
    BatchGate,
    RecordingObserver,
    commit_together,
    enqueue,
    meter_events,
    open_committer,
    outcomes,
    pending_request,
    serve_ledger,
    total,
)

ACCEPTED = '["accepted"]'


def test_queued_requests_are_recorded_together(metering: Metering, key: str) -> None:
    """Fifty requests wait during a transaction: the next one records them, each with its own response."""

    async def run() -> None:
        observer, gate = RecordingObserver(), BatchGate()
        async with open_committer(serve_ledger(metering), observer) as committer:
            first = pending_request(key, meter_events("1"), gate=gate)
            others = [pending_request(key, meter_events(*["2"] * (n % 3 + 1))) for n in range(50)]
            responses = await commit_together(committer, first, gate, *others)
        assert observer.commits == [1, sum(len(meter_events(*["2"] * (n % 3 + 1))) for n in range(50))]
        assert [len(json.loads(response.body)) for response in responses] == [1, *(n % 3 + 1 for n in range(50))]
        assert observer.waiting_events == 0

    asyncio.run(run())
    assert total(metering) == str(1 + 2 * sum(n % 3 + 1 for n in range(50)))


def test_a_batch_has_a_maximum_size(metering: Metering, key: str) -> None:
    """The next transaction records the rest, in order."""

    async def run() -> None:
        observer, gate = RecordingObserver(), BatchGate()
        requests: RecordQueue[PendingRequest] = RecordQueue(max_batch_events=4)
        async with open_committer(serve_ledger(metering), observer, requests) as committer:
            first = pending_request(key, meter_events("1"), gate=gate)
            await commit_together(
                committer, first, gate, *(pending_request(key, meter_events("1", "1")) for _ in range(5))
            )
        assert observer.commits == [1, 4, 4, 2]

    asyncio.run(run())


def test_a_rejected_request_does_not_affect_the_batch(metering: Metering, key: str) -> None:
    """An invalid key, an invalid value and an error response in one transaction: the others are recorded."""

    def reject(_: Sequence[Receipt], __: datetime) -> RecordResponse:
        raise ApiError(400, "no", code="no")

    async def run() -> None:
        observer, gate = RecordingObserver(), BatchGate()
        async with open_committer(serve_ledger(metering), observer) as committer:
            responses = await commit_together(
                committer,
                pending_request(key, meter_events("1"), gate=gate),
                gate,
                pending_request("sk_live_wrong", meter_events("100")),
                pending_request(key, meter_events("x")),
                pending_request(key, meter_events("100x"), reject),
                pending_request(key, meter_events("2")),
            )
        assert [response.status for response in responses] == [200, 401, 200, 400, 200]
        assert [responses[at].body.decode() for at in (2, 4)] == ['["rejected"]', ACCEPTED]
        assert len(observer.commits) == 2

    asyncio.run(run())
    assert total(metering) == "3"


def test_requests_over_the_queue_limit_get_retry_after(metering: Metering, key: str) -> None:
    """429 with a reason and Retry-After; waiting requests are recorded, and then new ones are accepted."""

    async def run() -> None:
        observer, gate = RecordingObserver(), BatchGate()
        async with open_committer(serve_ledger(metering), observer) as committer:
            batches = [meter_events(*["1"] * size) for size in (1, 2_000, 3_000)]
            first, *others = (
                pending_request(key, events, gate=None if n else gate) for n, events in enumerate(batches)
            )
            tasks = await enqueue(committer, first, gate, *others)
            with pytest.raises(ApiError) as exc_info:
                await committer.submit(pending_request(key, meter_events("1")))
            assert (exc_info.value.status, exc_info.value.error.type) == (429, "rate_limit_error")
            assert exc_info.value.headers["Retry-After"] == "1"
            assert exc_info.value.headers["Stripe-Rate-Limited-Reason"] == "global-concurrency"
            assert exc_info.value.should_retry
            gate.release()
            assert {response.status for response in await asyncio.gather(*tasks)} == {200}
            assert (await committer.submit(pending_request(key, meter_events("1")))).status == 200

    asyncio.run(run())
    assert total(metering) == str(1 + MAX_QUEUED_EVENTS_PER_CALLER + 1)


def test_a_closing_committer_records_queued_requests(metering: Metering, key: str) -> None:
    """All accepted requests get responses."""

    async def run() -> None:
        gate = BatchGate()
        async with open_committer(serve_ledger(metering)) as committer:
            first = pending_request(key, meter_events("1"), gate=gate)
            tasks = await enqueue(committer, first, gate, pending_request(key, meter_events("2")))
            closing_task = asyncio.create_task(asyncio.to_thread(committer.close))
            gate.release()
            assert [response.status for response in await asyncio.gather(*tasks)] == [200, 200]
            await closing_task

    asyncio.run(run())
    assert total(metering) == "3"


def test_a_key_revoked_while_queued_records_nothing(metering: Metering, key: str) -> None:
    """The key is checked at the moment of recording."""

    async def record_after_revoking(committer: GroupCommitter) -> list[int]:
        gate = BatchGate()
        tasks = await enqueue(
            committer,
            pending_request(other, meter_events("1"), gate=gate),
            gate,
            pending_request(key, meter_events("2")),
        )
        metering.access_keys.revoke(metering.access_keys.authenticate(key).id)
        gate.release()
        return [response.status for response in await asyncio.gather(*tasks)]

    async def run() -> None:
        async with open_committer(serve_ledger(metering)) as committer:
            assert await record_after_revoking(committer) == [200, 401]

    other = metering.access_keys.create(["record"]).key
    asyncio.run(run())
    assert total(metering) == "1"


def test_a_disconnected_client_does_not_affect_the_batch(metering: Metering, key: str) -> None:
    """Its request is recorded; the others get their responses."""

    async def run() -> None:
        gate = BatchGate()
        async with open_committer(serve_ledger(metering)) as committer:
            first, abandoned, other = (
                pending_request(key, meter_events("1"), gate=gate),
                pending_request(key, meter_events("2")),
                pending_request(key, meter_events("4")),
            )
            tasks = await enqueue(committer, first, gate, abandoned, other)
            tasks[1].cancel()
            gate.release()
            assert (await tasks[2]).body.decode() == ACCEPTED

    asyncio.run(run())
    assert total(metering) == "7"


def test_one_identifier_in_many_requests_counts_once(metering: Metering, key: str) -> None:
    """The first is accepted, equal ones are duplicates, different ones are conflicts."""

    async def run() -> None:
        gate = BatchGate()
        at = datetime.now(UTC)
        payload = {"stripe_customer_id": "cus_1", "value": "1"}
        same, other = (MeterEventInput("tokens", {**payload, "value": value}, "one", at) for value in ("1", "2"))
        async with open_committer(serve_ledger(metering)) as committer:
            first = pending_request(key, meter_events("4"), gate=gate)
            responses = await commit_together(
                committer,
                first,
                gate,
                *(pending_request(key, [event_input], outcomes) for event_input in (same, same, other)),
            )
        assert [json.loads(response.body) for response in responses[1:]] == [["accepted"], ["duplicate"], ["conflict"]]

    asyncio.run(run())
    assert total(metering) == "5"
