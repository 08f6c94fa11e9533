"""Group commit: what arrives together is recorded in one transaction, and harms nothing beside it."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from tallybook.application import KeptRow, Metering, Receipt
from tallybook.application.server import committing as module
from tallybook.application.server.committing import MOST_WAITING, Committer, Recorded
from tallybook.application.server.refusals import Refusal
from tallybook.domain.errors import LedgerUnavailable, TallybookError
from tallybook.domain.report import Report

from .committers import Hold, Watch, committed_together, committing, desk_of, outcomes, ticket, uses, waiting

START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1)
ACCEPTED = '["accepted"]'


@pytest.fixture
def metering() -> Iterator[Metering]:
    """A ledger with a meter."""
    with Metering.open("sqlite://") as opened:
        opened.configure_meter("tokens")
        yield opened


@pytest.fixture
def key(metering: Metering) -> str:
    """A key that may record."""
    return metering.create_access_key(["record"]).key


def total(metering: Metering) -> str:
    """What is recorded."""
    return str(metering.total("tokens", "cus_1", START, END).value)


def test_requests_that_wait_are_recorded_together(metering: Metering, key: str) -> None:
    """While one transaction runs, fifty requests come: they are in the next one, and each has its own answer."""

    async def arrive() -> None:
        watch, held = Watch(), Hold()
        async with committing(desk_of(metering), watch) as committer:
            first = ticket(key, uses("1"), held_by=held)
            others = [ticket(key, uses(*["2"] * (n % 3 + 1))) for n in range(50)]
            answers = await committed_together(committer, first, held, *others)
        assert watch.commits == [1, sum(len(uses(*["2"] * (n % 3 + 1))) for n in range(50))]
        assert [len(json.loads(answer.body)) for answer in answers] == [1, *(n % 3 + 1 for n in range(50))]
        assert watch.waits == 0

    asyncio.run(arrive())
    assert total(metering) == str(1 + 2 * sum(n % 3 + 1 for n in range(50)))


def test_a_turn_has_a_most(metering: Metering, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond it is recorded in the next one, in order."""
    monkeypatch.setattr(module, "MOST_AT_ONCE", 4)

    async def arrive() -> None:
        watch, held = Watch(), Hold()
        async with committing(desk_of(metering), watch) as committer:
            first = ticket(key, uses("1"), held_by=held)
            await committed_together(committer, first, held, *(ticket(key, uses("1", "1")) for _ in range(5)))
        assert watch.commits == [1, 4, 4, 2]

    asyncio.run(arrive())


def test_what_is_refused_harms_nothing_beside_it(metering: Metering, key: str) -> None:
    """A wrong key, a value that is none, an answer that refuses: all in one transaction, all else is recorded."""

    def refusing(_: Sequence[Receipt], __: datetime) -> Recorded:
        raise Refusal(400, "no", code="no")

    async def arrive() -> None:
        watch, held = Watch(), Hold()
        async with committing(desk_of(metering), watch) as committer:
            answers = await committed_together(
                committer, ticket(key, uses("1"), held_by=held), held, ticket("sk_live_wrong", uses("100")),
                ticket(key, uses("x")), ticket(key, uses("100x"), refusing), ticket(key, uses("2")),
            )  # fmt: skip
        assert [answer.status for answer in answers] == [200, 401, 200, 400, 200]
        assert [answers[at].body.decode() for at in (2, 4)] == ['["rejected"]', ACCEPTED]
        assert len(watch.commits) == 2

    asyncio.run(arrive())
    assert total(metering) == "3"


def test_a_poisonous_request_is_left_alone(metering: Metering, key: str) -> None:
    """One that breaks what records it gets 500; those that were with it are recorded, once each."""

    def poisonous(_: Sequence[Receipt], __: datetime) -> Recorded:
        raise ZeroDivisionError

    async def arrive() -> None:
        held = Hold()
        async with committing(desk_of(metering)) as committer:
            answers = await committed_together(
                committer, ticket(key, uses("1"), held_by=held), held, ticket(key, uses("2"), key="two"),
                ticket(key, uses("100"), poisonous), ticket(key, uses("4")), ticket(key, uses("2"), key="two"),
            )  # fmt: skip
            later = await committer.commit(ticket(key, uses("8")))
        assert [answer.status for answer in (*answers, later)] == [200, 200, 500, 200, 200, 200]
        assert json.loads(answers[2].body)["error"]["type"] == "api_error"
        assert "ZeroDivision" not in answers[2].body.decode()

    asyncio.run(arrive())
    assert total(metering) == "15"


class Failing:
    """A ledger whose transactions fail at their end."""

    def __init__(self, metering: Metering, error: TallybookError) -> None:
        self._metering = metering
        self.error: TallybookError | None = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._metering, name)

    def record_beside(self, reports: Any, beside: Callable[..., Sequence[KeptRow]]) -> Any:
        """Record, but fail once all is decided."""

        def failing(receipts: Sequence[Receipt], at: datetime) -> Sequence[KeptRow]:
            kept = beside(receipts, at)
            if self.error is not None:
                raise self.error
            return kept

        return self._metering.record_beside(reports, failing)


def test_a_store_that_fails_acknowledges_nothing(metering: Metering, key: str) -> None:
    """All in the transaction get 503, though each was decided; sent again with their keys, they count once."""

    async def arrive() -> None:
        desk, held = desk_of(metering), Hold()
        failing = Failing(metering, LedgerUnavailable("the disk at /var/lib is full"))
        desk.metering = cast(Metering, failing)
        async with committing(desk) as committer:
            answers = await committed_together(
                committer, ticket(key, uses("1"), key="a", held_by=held), held, ticket(key, uses("2"), key="b"),
                ticket(key, uses("4")),
            )  # fmt: skip
            assert [answer.status for answer in answers] == [503, 503, 503]
            assert {answer.headers["Retry-After"] for answer in answers} == {"1"}
            assert {answer.headers["Stripe-Should-Retry"] for answer in answers} == {"true"}
            assert not any(b"/var/lib" in answer.body for answer in answers)
            assert total(metering) == "0"
            assert metering.events("tokens") == []
            failing.error = None
            again = [await committer.commit(ticket(key, uses(v), key=k)) for v, k in (("1", "a"), ("2", "b"))]
            assert [answer.status for answer in again] == [200, 200]
            assert not any("Idempotent-Replayed" in answer.headers for answer in again)

    asyncio.run(arrive())
    assert total(metering) == "3"


def test_too_many_that_wait_are_told_to_come_again(metering: Metering, key: str) -> None:
    """429, with when and why; those that wait are recorded, and then there is room again."""

    async def arrive() -> None:
        watch, held = Watch(), Hold()
        async with committing(desk_of(metering), watch) as committer:
            many = [uses(*["1"] * (MOST_WAITING // 4)) for _ in range(4)]
            first, *others = (ticket(key, many[n], held_by=None if n else held) for n in range(4))
            tasks = await waiting(committer, first, held, *others)
            with pytest.raises(Refusal) as refused:
                await committer.commit(ticket(key, uses("1")))
            assert (refused.value.status, refused.value.error.type) == (429, "rate_limit_error")
            assert refused.value.headers["Retry-After"] == "1"
            assert refused.value.headers["Stripe-Rate-Limited-Reason"] == "global-concurrency"
            assert refused.value.should_retry
            held.let_go()
            assert {answer.status for answer in await asyncio.gather(*tasks)} == {200}
            assert (await committer.commit(ticket(key, uses("1")))).status == 200

    asyncio.run(arrive())
    assert total(metering) == str(MOST_WAITING + 1)


def test_a_committer_that_ends_records_what_waits(metering: Metering, key: str) -> None:
    """Whatever was taken is answered."""

    async def arrive() -> None:
        held = Hold()
        async with committing(desk_of(metering)) as committer:
            first = ticket(key, uses("1"), held_by=held)
            tasks = await waiting(committer, first, held, ticket(key, uses("2")))
            ending = asyncio.create_task(asyncio.to_thread(committer.close))
            held.let_go()
            assert [answer.status for answer in await asyncio.gather(*tasks)] == [200, 200]
            await ending

    asyncio.run(arrive())
    assert total(metering) == "3"


def test_a_key_that_is_revoked_while_it_waits_records_nothing(metering: Metering, key: str) -> None:
    """What counts is the moment of recording."""

    async def arrive(committer: Committer) -> list[int]:
        held = Hold()
        tasks = await waiting(committer, ticket(other, uses("1"), held_by=held), held, ticket(key, uses("2")))
        metering.revoke_access_key(metering.authenticate(key).id)
        held.let_go()
        return [answer.status for answer in await asyncio.gather(*tasks)]

    async def run() -> None:
        async with committing(desk_of(metering)) as committer:
            assert await arrive(committer) == [200, 401]

    other = metering.create_access_key(["record"]).key
    asyncio.run(run())
    assert total(metering) == "1"


def test_who_went_away_spoils_nothing(metering: Metering, key: str) -> None:
    """A request whose caller is gone is recorded all the same; the others get their answers."""

    async def arrive() -> None:
        held = Hold()
        async with committing(desk_of(metering)) as committer:
            first, gone, other = ticket(key, uses("1"), held_by=held), ticket(key, uses("2")), ticket(key, uses("4"))
            tasks = await waiting(committer, first, held, gone, other)
            tasks[1].cancel()
            held.let_go()
            assert (await tasks[2]).body.decode() == ACCEPTED

    asyncio.run(arrive())
    assert total(metering) == "7"


def test_one_identifier_in_many_requests_counts_once(metering: Metering, key: str) -> None:
    """The first is accepted, others that say the same are duplicates, those that say something else conflict."""

    async def arrive() -> None:
        held = Hold()
        at = datetime.now(UTC)
        payload = {"stripe_customer_id": "cus_1", "value": "1"}
        same, other = (Report("tokens", {**payload, "value": value}, "one", at) for value in ("1", "2"))
        async with committing(desk_of(metering)) as committer:
            first = ticket(key, uses("4"), held_by=held)
            answers = await committed_together(
                committer, first, held, *(ticket(key, [one], outcomes) for one in (same, same, other))
            )
        assert [json.loads(answer.body) for answer in answers[1:]] == [["accepted"], ["duplicate"], ["conflict"]]

    asyncio.run(arrive())
    assert total(metering) == "5"
