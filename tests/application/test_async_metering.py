"""The everyday calls as coroutines: they don't block the event loop."""

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import AsyncMetering, InvalidRequest, Metering
from tallybook.domain.errors import LedgerUnavailable

from ..archive.blocked_archive import BlockedArchive
from ..archive.pruning import LIFTED, History

ALL_TIME = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
PAYLOAD = {"customer": "acme", "value": "2"}


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a test in an event loop."""
    asyncio.run(coroutine)


async def open_ledger() -> AsyncMetering:
    """Open a ledger in memory with a meter."""
    ledger = await AsyncMetering.open("sqlite://", clock=lambda: NOW)
    ledger.metering.meters.configure("tokens", customer_key="customer")
    return ledger


def test_the_everyday_calls_return_what_those_of_metering_return() -> None:
    """Each coroutine returns the result of the call of the same name."""

    async def test() -> None:
        async with await open_ledger() as ledger:
            receipts = await asyncio.gather(
                *(ledger.record("tokens", PAYLOAD, identifier=f"use-{number}") for number in range(20))
            )
            assert sorted(receipt.position or 0 for receipt in receipts) == list(range(2, 22))
            assert (await ledger.record_many([])) == []
            await ledger.cancel("tokens", "use-1")
            synchronous = ledger.metering
            assert await ledger.total("tokens", "acme", *ALL_TIME) == synchronous.total("tokens", "acme", *ALL_TIME)
            assert await ledger.totals("tokens", *ALL_TIME) == synchronous.totals("tokens", *ALL_TIME)
            assert await ledger.summaries("tokens", "acme", *ALL_TIME, window="day") == synchronous.summaries(
                "tokens", "acme", *ALL_TIME, window="day"
            )
            assert await ledger.events("tokens") == synchronous.events("tokens")
            assert await ledger.event("use-1") == synchronous.event("use-1")
            assert await ledger.explain("tokens", "acme", *ALL_TIME) == synchronous.explain("tokens", "acme", *ALL_TIME)
            assert await ledger.catch_up() == 22
            assert (await ledger.verify()).is_equal

    run(test())


def test_a_call_does_not_block_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a call is in progress in a thread, other coroutines run."""

    async def test() -> None:
        with Metering.open("sqlite://") as metering:
            loop, arrived = asyncio.get_running_loop(), asyncio.Event()

            def total(*_: object, **__: object) -> None:
                asyncio.run_coroutine_threadsafe(arrived.wait(), loop).result(10)

            monkeypatch.setattr(metering, "total", total)
            call = asyncio.ensure_future(AsyncMetering(metering).total("tokens", None, *ALL_TIME))
            await asyncio.sleep(0)
            arrived.set()
            await asyncio.wait_for(call, 10)

    run(test())


def test_errors_are_those_of_metering() -> None:
    """Also that of a closed ledger."""

    async def test() -> None:
        async with await open_ledger() as ledger:
            with pytest.raises(InvalidRequest):
                await ledger.record("tokens", {"customer": "acme", "value": "two"})
        with pytest.raises(LedgerUnavailable):
            ledger.metering.meters.list()

    run(test())


def test_context_variables_are_those_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logging filter or a tracer finds the request that a call belongs to."""
    request: ContextVar[str] = ContextVar("request")

    async def test() -> None:
        with Metering.open("sqlite://") as metering:
            monkeypatch.setattr(metering, "catch_up", request.get)
            ledger = AsyncMetering(metering)
            request.set("req-1")
            assert await ledger.catch_up() == "req-1"

    run(test())


def test_recording_does_not_wait_for_an_archive(tmp_path: Path) -> None:
    """Queries and meter events that are sent again wait for it, more of them than there are threads."""
    with Metering.open(f"sqlite:///{tmp_path / 'usage.db'}", policy=LIFTED, clock=lambda: NOW) as metering:
        metering.meters.configure("tokens", customer_key="customer")
        metering.record("tokens", PAYLOAD, identifier="old")
        metering.catch_up()
        history = History(tmp_path)
        history.archive_all(metering)
        assert history.prune(metering).events == 1
        archive = BlockedArchive(metering)

        async def test() -> None:
            ledger = AsyncMetering(metering, max_threads=2)
            waiting = [asyncio.ensure_future(ledger.record("tokens", PAYLOAD, identifier="old")) for _ in range(3)]
            sent_again = [{"event_name": "tokens", "payload": PAYLOAD, "identifier": "old"}]
            batch = asyncio.ensure_future(ledger.record_many(sent_again))
            queries = [asyncio.ensure_future(ledger.event("old")) for _ in range(3)]
            try:
                await asyncio.to_thread(archive.wait_until_reached)
                for number in range(3):
                    receipt = await asyncio.wait_for(ledger.record("tokens", PAYLOAD, identifier=f"{number}"), 30)
                    assert receipt.outcome == "accepted"
                assert not any(call.done() for call in (*waiting, batch, *queries))
            finally:
                archive.release()
            receipts = [*await asyncio.gather(*waiting), *await batch]
            assert {receipt.outcome for receipt in receipts} == {"duplicate"}
            assert {found.identifier for found in await asyncio.gather(*queries)} == {"old"}

        run(test())
