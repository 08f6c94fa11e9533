"""A committer, and requests for it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from threading import Event
from typing import cast

from tallybook.application import Metering, Receipt
from tallybook.application.access_views import AccessKeyView
from tallybook.application.server.answers import Answer
from tallybook.application.server.committing import Committer, Recorded, Recording, Ticket
from tallybook.application.server.credentials import Gate
from tallybook.application.server.desk import Desk
from tallybook.application.server.idempotency import fingerprint_of
from tallybook.application.server.watching.observing import Observer
from tallybook.domain.report import Report

Answering = Callable[[Sequence[Receipt], datetime], Recorded]


class Hold:
    """Holds a committer up in the turn of one request, until it is let go."""

    def __init__(self) -> None:
        self._has_begun, self._may_go = Event(), Event()

    def hold(self) -> None:
        """Be held up."""
        self._has_begun.set()
        assert self._may_go.wait(10)

    async def begun(self) -> None:
        """Wait until the turn has begun."""
        assert await asyncio.to_thread(self._has_begun.wait, 10)

    def let_go(self) -> None:
        """Let it go on."""
        self._may_go.set()


class Watch:
    """Who is told what a committer does."""

    def __init__(self) -> None:
        self.commits: list[int] = []
        self.waits = 0

    def waiting(self, events: int) -> None:
        """So many more wait, or less."""
        self.waits += events

    def committed(self, receipts: Sequence[Receipt], seconds: float) -> None:
        """One transaction, with so many events."""
        assert seconds >= 0
        self.commits.append(len(receipts))


def desk_of(metering: Metering) -> Desk:
    """A ledger as it is served."""
    return Desk(metering, Gate(metering), livemode=True)


@asynccontextmanager
async def committing(desk: Desk, watch: Watch | None = None) -> AsyncGenerator[Committer]:
    """A committer, until the end of the block."""
    committer = Committer(desk, cast(Observer, watch or Watch()))
    try:
        yield committer
    finally:
        await asyncio.to_thread(committer.close)


def uses(*values: str, event_name: str = "tokens") -> list[Report]:
    """Uses of one customer, without identifiers."""
    return [Report(event_name, {"stripe_customer_id": "cus_1", "value": value}) for value in values]


def outcomes(receipts: Sequence[Receipt], at: datetime) -> Recorded:
    """An answer that tells what became of each."""
    return Recorded([receipt.outcome.value for receipt in receipts])


def ticket(
    credentials: str, reports: Sequence[Report], answer: Answering = outcomes, *, key: str | None = None,
    held_by: Hold | None = None,
) -> Ticket:  # fmt: skip
    """A request to record. Where it is `held_by` something, so is the turn that it is in."""

    def recording(_: AccessKeyView) -> Recording:
        if held_by is not None:
            held_by.hold()
        return Recording(reports, answer)

    said = "".join(report.payload["value"] for report in reports).encode()
    return Ticket(
        credentials, False, recording, key, fingerprint_of("POST", "/", said), f"req_{id(reports)}", len(reports),
        False, asyncio.get_running_loop().create_future(),
    )  # fmt: skip


async def waiting(committer: Committer, first: Ticket, hold: Hold, *others: Ticket) -> "list[asyncio.Task[Answer]]":
    """Requests, of which all but the first wait while that one's turn is held up."""
    held = asyncio.create_task(committer.commit(first))
    await hold.begun()
    tasks = [held, *(asyncio.create_task(committer.commit(one)) for one in others)]
    await asyncio.sleep(0)  # they are in the queue
    return tasks


async def committed_together(committer: Committer, first: Ticket, hold: Hold, *others: Ticket) -> list[Answer]:
    """The answers to requests of which all but the first wait while that one is recorded."""
    tasks = await waiting(committer, first, hold, *others)
    hold.let_go()
    return await asyncio.gather(*tasks)
