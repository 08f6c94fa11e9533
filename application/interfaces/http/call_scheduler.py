"""Runs calls in threads, so that the many or slow calls of one access key don't delay those of other keys."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from ...interruption import Interruption, QueryInterrupted, interruptible
from .errors import UNAVAILABLE, ApiError, rate_limited

Result = TypeVar("Result")

SLOW_SECONDS = 0.5
"""A key is slow while one of its calls has run longer than this, or its calls have lately used this much CPU time."""
USAGE_HALF_LIFE_SECONDS = 2.0
"""CPU time that was used this long ago counts half."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How many calls run and wait at once, in all and for each key.

    `slow_threads` limits the running calls of all slow keys together, and those with large results; a key has
    `slow_threads_per_key` of them at most. A key with running calls leaves `reserved_threads` to keys without any.
    `timeout_seconds` limits the time that a call waits and runs; None lets a call that has started run to its end,
    because it may have changed something.
    """

    threads: int
    slow_threads: int
    threads_per_key: int
    waiting_per_key: int
    timeout_seconds: float | None
    slow_threads_per_key: int = 1
    reserved_threads: int = 0


@dataclass(slots=True, eq=False)
class _KeyCalls:
    """The calls of one key."""

    waiting: "deque[_Call]" = field(default_factory=deque["_Call"])
    running: "set[_Call]" = field(default_factory=set["_Call"])
    cpu_seconds: float = 0.0
    """The CPU time of finished calls, decayed until `decayed_at`."""
    decayed_at: float = 0.0

    def usage(self, now: float) -> float:
        """Return the time in seconds that the key has used lately, with that of calls that have run for long."""
        running = (now - call.started_at for call in self.running)
        return self._decayed(now) + sum(seconds for seconds in running if seconds > SLOW_SECONDS)

    def is_slow(self, now: float) -> bool:
        """Return whether the key's calls share the threads for slow calls."""
        return self.usage(now) > SLOW_SECONDS

    def slow_running(self, now: float) -> int:
        """Return how many of the running calls have threads for slow calls."""
        return len(self.running) if self.is_slow(now) else sum(call.is_large for call in self.running)

    def add_usage(self, seconds: float, now: float) -> None:
        """Add the CPU time of a finished call."""
        self.cpu_seconds = self._decayed(now) + seconds
        self.decayed_at = now

    def _decayed(self, now: float) -> float:
        return self.cpu_seconds * 0.5 ** ((now - self.decayed_at) / USAGE_HALF_LIFE_SECONDS)


@dataclass(slots=True, eq=False)
class _Call:
    key_id: str
    work: Callable[[], Any]
    result: "asyncio.Future[Any]"
    interruption: Interruption
    is_large: bool
    thread_result: "asyncio.Future[Any]" = field(init=False)
    """Done when the thread has finished the call; `result` may be done before."""
    started_at: float = 0.0
    cpu_seconds: float = 0.0

    def run(self) -> Any:
        """Run the call in the current thread."""
        self.interruption.check()  # its deadline may have passed while it waited
        started = time.thread_time()
        try:
            with interruptible(self.interruption):
                return self.work()
        finally:
            self.cpu_seconds = time.thread_time() - started


class CallScheduler:
    """Runs calls in threads. Its methods are called in the event loop.

    Each key has a queue of its own. A free thread takes the next call of the key that has used the least time lately.
    The calls of slow keys share a few threads, so that the calls of other keys find one that is free soon.
    """

    def __init__(self, limits: CallLimits, name: str, *, is_interruptible: bool) -> None:
        """Create the threads. With `is_interruptible`, a running call is stopped if no client waits for it any more."""
        self._limits = limits
        self._is_interruptible = is_interruptible
        self._executor = ThreadPoolExecutor(limits.threads, thread_name_prefix=name)
        self._keys: dict[str, _KeyCalls] = {}
        self._is_closing = False

    async def run(self, key_id: str, work: Callable[[], Result], *, is_large: bool = False) -> Result:
        """Return the result of `work`, which shares the threads for slow calls if `is_large`.

        Raises ApiError: 429 if too many calls of the key wait, 503 after the timeout or if the server shuts down.
        If the caller is cancelled, the call is dropped, or interrupted if it runs.
        """
        if self._is_closing:
            raise shutting_down()
        key_calls = self._keys.setdefault(key_id, _KeyCalls())
        if len(key_calls.waiting) >= self._limits.waiting_per_key:
            raise rate_limited("Too many requests of this key are waiting. Retry later.", "global-concurrency")
        timeout = self._limits.timeout_seconds
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        call = _Call(key_id, work, future, Interruption(timeout), is_large)
        key_calls.waiting.append(call)
        self._start_calls()
        try:
            done, _ = await asyncio.wait((call.result,), timeout=timeout)
            if not done:
                raise self._interruption_error()
            result: Result = call.result.result()
            return result
        finally:
            if not call.result.done():
                self._abandon(call)
            elif not call.result.cancelled():
                call.result.exception()  # so that asyncio doesn't log it if this task is cancelled

    def interrupt_all(self) -> None:
        """Fail the calls that wait, and those that run if they are interruptible; accept no others."""
        self._is_closing = True
        for key_calls in self._keys.values():
            abandoned = [*key_calls.waiting, *(key_calls.running if self._is_interruptible else ())]
            for call in abandoned:
                if not call.result.done():
                    call.result.set_exception(shutting_down())
            for call in key_calls.running:
                call.interruption.interrupt()
            key_calls.waiting.clear()

    async def close(self, timeout_seconds: float | None = None) -> bool:
        """Wait for the running calls. Returns False if some of them are still running after the timeout.

        An interrupted call still runs while it waits for the database.
        """
        running = [call.thread_result for key_calls in self._keys.values() for call in key_calls.running]
        pending = (await asyncio.wait(running, timeout=timeout_seconds))[1] if running else ()
        self._executor.shutdown(wait=False)
        return not pending

    def _start_calls(self) -> None:
        """Start waiting calls while there is a thread for them."""
        while True:
            now = time.monotonic()
            startable = [call for key_calls in self._keys.values() if (call := self._startable(key_calls, now))]
            if not startable:
                return
            self._start(min(startable, key=lambda call: self._keys[call.key_id].usage(now)), now)

    def _startable(self, key_calls: _KeyCalls, now: float) -> "_Call | None":
        """Return the first waiting call of a key that a thread may run now."""
        running = sum(len(other.running) for other in self._keys.values())
        reserved = self._limits.reserved_threads if key_calls.running else 0
        if len(key_calls.running) >= self._limits.threads_per_key or running + reserved >= self._limits.threads:
            return None
        slow_running = sum(other.slow_running(now) for other in self._keys.values())
        has_slow_thread = (
            slow_running < self._limits.slow_threads and key_calls.slow_running(now) < self._limits.slow_threads_per_key
        )
        is_slow = key_calls.is_slow(now) and not self._is_alone(key_calls)
        return next((call for call in key_calls.waiting if has_slow_thread or not (is_slow or call.is_large)), None)

    def _is_alone(self, key_calls: _KeyCalls) -> bool:
        """Return whether no other key has calls. A slow key delays none then, and may use all of its threads."""
        return not any(other.waiting or other.running for other in self._keys.values() if other is not key_calls)

    def _start(self, call: _Call, now: float) -> None:
        key_calls = self._keys[call.key_id]
        key_calls.waiting.remove(call)
        call.started_at = now
        key_calls.running.add(call)
        call.thread_result = asyncio.get_running_loop().run_in_executor(self._executor, call.run)
        call.thread_result.add_done_callback(partial(self._finish, call))

    def _finish(self, call: _Call, finished: "asyncio.Future[Any]") -> None:
        key_calls, now = self._keys[call.key_id], time.monotonic()
        key_calls.running.discard(call)
        key_calls.add_usage(call.cpu_seconds, now)
        error = finished.exception()
        if not call.result.done():
            if error is None:
                call.result.set_result(finished.result())
            elif isinstance(error, QueryInterrupted):
                call.result.set_exception(self._interruption_error())
            else:
                call.result.set_exception(error)
        self._forget_idle_keys(now)
        if not self._is_closing:
            self._start_calls()

    def _abandon(self, call: _Call) -> None:
        """Drop a call without a waiting client."""
        call.result.cancel()
        key_calls = self._keys[call.key_id]
        if call in key_calls.waiting:
            key_calls.waiting.remove(call)
        elif self._is_interruptible:
            call.interruption.interrupt()

    def _interruption_error(self) -> ApiError:
        return shutting_down() if self._is_closing else _timed_out(self._limits.timeout_seconds or 0)

    def _forget_idle_keys(self, now: float) -> None:
        idle = [
            key_id
            for key_id, key_calls in self._keys.items()
            if not key_calls.waiting and not key_calls.running and key_calls.usage(now) < SLOW_SECONDS / 100
        ]
        for key_id in idle:
            del self._keys[key_id]


def _timed_out(seconds: float) -> ApiError:
    return ApiError(
        UNAVAILABLE, f"The request was not finished within {seconds:g} seconds and was stopped. Retry later, or query "
        "a shorter range.", error_type="api_error", code="query_timeout", headers={"Retry-After": "5"},
    )  # fmt: skip


def shutting_down() -> ApiError:
    """Return the error of requests that the server doesn't finish because it shuts down."""
    return ApiError(
        UNAVAILABLE, "The server is shutting down. Retry with another connection.", error_type="api_error",
        code="shutting_down", headers={"Retry-After": "1", "Connection": "close"},
    )  # fmt: skip
