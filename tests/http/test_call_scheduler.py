"""The scheduler of calls: turns of the keys, limits, deadlines, and calls that nobody waits for."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from threading import Event
from typing import Any

import pytest
from tallybook.application.interfaces.http.call_scheduler import SLOW_SECONDS, CallLimits, CallScheduler
from tallybook.application.interfaces.http.errors import ApiError
from tallybook.application.interruption import check_interruption

LIMITS = CallLimits(threads=2, slow_threads=1, threads_per_key=2, waiting_per_key=3, timeout_seconds=30)
SECONDS = 10


def run(
    scenario: Callable[[CallScheduler], Coroutine[Any, Any, None]],
    limits: CallLimits = LIMITS,
    *,
    is_interruptible: bool = True,
) -> None:
    """Run a scenario with a scheduler."""

    async def scheduled() -> None:
        scheduler = CallScheduler(limits, "test", is_interruptible=is_interruptible)
        try:
            await asyncio.wait_for(scenario(scheduler), 2 * SECONDS)
        finally:
            scheduler.interrupt_all()
            assert await scheduler.close(SECONDS)

    asyncio.run(scheduled())


class Query:
    """A query that runs until it is released or interrupted."""

    def __init__(self) -> None:
        self.is_started, self.is_released, self.is_ended = Event(), Event(), Event()

    def __call__(self) -> str:
        self.is_started.set()
        try:
            while not self.is_released.wait(0.01):
                check_interruption()
        finally:
            self.is_ended.set()
        return "released"


async def wait_for(event: Event) -> None:
    """Wait for an event of a thread."""
    assert await asyncio.to_thread(event.wait, SECONDS)


def test_a_call_returns_its_result_or_raises_its_error() -> None:
    """As if it had been called."""

    async def scenario(scheduler: CallScheduler) -> None:
        assert await scheduler.run("a", lambda: 1) == 1
        with pytest.raises(ValueError, match="invalid literal"):
            await scheduler.run("a", lambda: int("x"))

    run(scenario)


def test_the_key_that_has_used_the_least_time_is_next() -> None:
    """The one call of a key runs before the calls of a key that came earlier and has used more time."""
    order: list[str] = []

    def busy(name: str) -> None:
        order.append(name)
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            pass

    async def scenario(scheduler: CallScheduler) -> None:
        calls = [asyncio.create_task(scheduler.run("busy", lambda: busy("busy"))) for _ in range(4)]
        await asyncio.sleep(0)
        calls.append(asyncio.create_task(scheduler.run("other", lambda: busy("other"))))
        await asyncio.gather(*calls)

    run(scenario, CallLimits(threads=1, slow_threads=1, threads_per_key=1, waiting_per_key=10, timeout_seconds=30))
    assert order == ["busy", "other", "busy", "busy", "busy"]


async def run_until_slow(scheduler: CallScheduler, query: Query) -> "asyncio.Task[str]":
    """Run a query of the key "slow" until it has run for long."""
    call = asyncio.create_task(scheduler.run("slow", query))
    await wait_for(query.is_started)
    deadline = time.monotonic() + SLOW_SECONDS
    while time.monotonic() <= deadline:
        await asyncio.sleep(0.02)
    return call


def test_slow_calls_of_one_key_leave_a_thread_to_others() -> None:
    """After a call has run for long, the other calls of its key share the threads for slow calls."""

    async def scenario(scheduler: CallScheduler) -> None:
        slow, next_slow, other = Query(), Query(), Query()
        calls = [await run_until_slow(scheduler, slow), asyncio.create_task(scheduler.run("other", other))]
        await wait_for(other.is_started)
        calls.append(asyncio.create_task(scheduler.run("slow", next_slow)))
        assert await scheduler.run("other", lambda: "at once") == "at once"
        assert not next_slow.is_started.is_set()
        slow.is_released.set()
        await wait_for(next_slow.is_started)
        next_slow.is_released.set()
        other.is_released.set()
        await asyncio.gather(*calls)

    run(scenario, CallLimits(3, slow_threads=1, threads_per_key=2, waiting_per_key=9, timeout_seconds=30))


def test_a_slow_key_without_others_uses_all_of_its_threads() -> None:
    """One slow query does not delay the short queries of its own key, as long as no other key has calls."""

    async def scenario(scheduler: CallScheduler) -> None:
        slow = Query()
        call = await run_until_slow(scheduler, slow)
        assert await scheduler.run("slow", lambda: "at once") == "at once"
        slow.is_released.set()
        assert await call == "released"

    run(scenario)


def test_a_key_may_have_several_threads_for_slow_calls() -> None:
    """So that the short changes of a key do not wait for its long one, also if other keys have calls."""
    limits = CallLimits(
        3, slow_threads=2, slow_threads_per_key=2, threads_per_key=2, waiting_per_key=9, timeout_seconds=None
    )

    async def scenario(scheduler: CallScheduler) -> None:
        long, other = Query(), Query()
        calls = [await run_until_slow(scheduler, long), asyncio.create_task(scheduler.run("other", other))]
        await wait_for(other.is_started)
        assert await scheduler.run("slow", lambda: "at once") == "at once"
        long.is_released.set()
        other.is_released.set()
        await asyncio.gather(*calls)

    run(scenario, limits, is_interruptible=False)


def test_calls_with_large_results_share_the_threads_for_slow_calls() -> None:
    """The second one waits for the first, also if another key asks."""

    async def scenario(scheduler: CallScheduler) -> None:
        first, second = Query(), Query()
        calls = [
            asyncio.create_task(scheduler.run(key, query, is_large=True))
            for key, query in (("a", first), ("b", second))
        ]
        await wait_for(first.is_started)
        assert await scheduler.run("c", lambda: "small") == "small"
        assert not second.is_started.is_set()
        first.is_released.set()
        await wait_for(second.is_started)
        second.is_released.set()
        await asyncio.gather(*calls)

    run(scenario)


def test_too_many_waiting_calls_of_a_key_are_rejected() -> None:
    """With 429; another key is not affected."""

    async def scenario(scheduler: CallScheduler) -> None:
        queries = [Query() for _ in range(5)]
        calls = [asyncio.create_task(scheduler.run("a", query)) for query in queries]
        await wait_for(queries[1].is_started)
        with pytest.raises(ApiError) as exc_info:
            await scheduler.run("a", Query())
        assert (exc_info.value.status, exc_info.value.error.code) == (429, "rate_limit")
        other = asyncio.create_task(scheduler.run("b", lambda: "other"))
        for query in queries:
            query.is_released.set()
        assert await asyncio.gather(*calls, other) == ["released"] * 5 + ["other"]

    run(scenario)


SHORT_LIMITS = CallLimits(threads=2, slow_threads=1, threads_per_key=2, waiting_per_key=9, timeout_seconds=0.2)


def assert_timed_out(error: object) -> None:
    """Check that a call got 503 with Retry-After."""
    assert isinstance(error, ApiError)
    assert (error.status, error.error.code, error.headers["Retry-After"]) == (503, "query_timeout", "5")


def test_a_query_is_stopped_at_its_deadline() -> None:
    """With 503 and Retry-After; the thread is free again."""

    async def scenario(scheduler: CallScheduler) -> None:
        queries = [Query(), Query()]
        calls = [asyncio.create_task(scheduler.run("a", query)) for query in queries]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert_timed_out(error)
        for query in queries:
            await wait_for(query.is_ended)
        assert await scheduler.run("a", lambda: "free") == "free"

    run(scenario, SHORT_LIMITS)


def test_a_waiting_query_is_dropped_at_its_deadline() -> None:
    """It never starts, if no thread comes free in time."""

    async def scenario(scheduler: CallScheduler) -> None:
        is_released, waiting = Event(), Query()
        calls: list[asyncio.Task[object]] = [
            asyncio.create_task(scheduler.run("a", lambda: is_released.wait(SECONDS))) for _ in range(2)
        ]
        calls.append(asyncio.create_task(scheduler.run("a", waiting)))
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert_timed_out(error)
        is_released.set()
        assert await scheduler.run("a", lambda: "free") == "free"
        assert not waiting.is_started.is_set()

    run(scenario, SHORT_LIMITS)


def test_calls_without_a_waiting_client_are_dropped() -> None:
    """A waiting one never starts, and a running one is interrupted."""

    async def scenario(scheduler: CallScheduler) -> None:
        queries = [Query() for _ in range(4)]
        calls = [asyncio.create_task(scheduler.run("a", query)) for query in queries]
        await wait_for(queries[1].is_started)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        for query in queries[:2]:
            await wait_for(query.is_ended)
        assert await scheduler.run("a", lambda: "free") == "free"
        assert not any(query.is_started.is_set() for query in queries[2:])

    run(scenario)


def test_a_change_without_a_waiting_client_runs_to_its_end() -> None:
    """It may have changed something already."""

    async def scenario(scheduler: CallScheduler) -> None:
        change = Query()
        call = asyncio.create_task(scheduler.run("a", change))
        await wait_for(change.is_started)
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        assert not change.is_ended.is_set()
        change.is_released.set()
        await wait_for(change.is_ended)

    run(scenario, is_interruptible=False)


def test_a_shutdown_stops_all_queries() -> None:
    """Those that run, those that wait, and those that arrive later get 503 `shutting_down`."""

    async def scenario(scheduler: CallScheduler) -> None:
        queries = [Query() for _ in range(3)]
        calls = [asyncio.create_task(scheduler.run("a", query)) for query in queries]
        await wait_for(queries[1].is_started)
        scheduler.interrupt_all()
        calls.append(asyncio.create_task(scheduler.run("a", Query())))
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, ApiError)
            assert (error.status, error.error.code) == (503, "shutting_down")
        for query in queries[:2]:
            await wait_for(query.is_ended)

    run(scenario)


def test_a_large_call_that_waits_does_not_block_the_other_calls_of_its_key() -> None:
    """They overtake it while the threads for slow calls are taken; one key has one of these threads at most."""
    limits = CallLimits(threads=4, slow_threads=2, threads_per_key=4, waiting_per_key=9, timeout_seconds=30)

    async def scenario(scheduler: CallScheduler) -> None:
        large = [Query() for _ in range(3)]
        keys = ("a", "a", "b")
        calls = [
            asyncio.create_task(scheduler.run(key, query, is_large=True))
            for key, query in zip(keys, large, strict=True)
        ]
        await wait_for(large[0].is_started)
        await wait_for(large[2].is_started)
        assert await scheduler.run("a", lambda: "small") == "small"
        assert not large[1].is_started.is_set()
        for query in large:
            query.is_released.set()
        await asyncio.gather(*calls)

    run(scenario, limits)


def test_threads_are_reserved_for_keys_without_running_calls() -> None:
    """Two keys with many calls leave a thread to a third one."""
    limits = CallLimits(3, slow_threads=1, threads_per_key=3, waiting_per_key=9, timeout_seconds=30, reserved_threads=1)

    async def scenario(scheduler: CallScheduler) -> None:
        queries = [Query() for _ in range(6)]
        calls = [asyncio.create_task(scheduler.run("a" if n % 2 else "b", query)) for n, query in enumerate(queries)]
        await wait_for(queries[0].is_started)
        assert await scheduler.run("c", lambda: "at once") == "at once"
        for query in queries:
            query.is_released.set()
        await asyncio.gather(*calls)

    run(scenario, limits)
