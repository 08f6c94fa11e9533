"""Retry after a lost connection: of queries, which change nothing, and of loops that run until they are stopped."""

import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from tenacity import retry, retry_if_exception_type, retry_if_not_exception_type, stop_after_attempt

from ...domain.errors import LedgerUnavailable
from ..storage.ports import ConnectTimeout, LockTimeout, TransientError

MAX_LOST_SECONDS = 30
"""How long a loop retries a lost connection before it fails."""
_RETRY_DELAY_SECONDS = 0.2

Params = ParamSpec("Params")
Result = TypeVar("Result")

_retried = retry(
    retry=retry_if_exception_type(TransientError) & retry_if_not_exception_type(ConnectTimeout),
    stop=stop_after_attempt(2),
    reraise=True,
)


def retry_on_connection_loss(query: Callable[Params, Result]) -> Callable[Params, Result]:
    """Repeat a query up to twice if its connection is lost; then raise LedgerUnavailable."""
    retried_query = _retried(query)

    @wraps(query)
    def run(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        try:  # first without tenacity, which takes 15 microseconds: a tenth of a short query
            return query(*args, **kwargs)
        except ConnectTimeout:
            raise  # the connection attempt has waited long enough
        except TransientError:
            return retried_query(*args, **kwargs)

    return run


def repeat_until(stop: threading.Event, work: Callable[[Callable[[], None]], None]) -> None:
    """Call `work` until `stop` is set. It is called again if it raises LockTimeout, or if a connection is lost.

    `work` gets a function to call after each success. Raise LedgerUnavailable if there is none for a while after a lost
    connection.
    """
    lost_at: float | None = None

    def succeed() -> None:
        nonlocal lost_at
        lost_at = None

    while not stop.is_set():
        try:
            work(succeed)
        except LockTimeout:  # another process holds the lock, or was stopped and its lock is not released yet
            stop.wait(_RETRY_DELAY_SECONDS)
        except TransientError as error:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > MAX_LOST_SECONDS:
                raise LedgerUnavailable(f"{error.message} No connection for {MAX_LOST_SECONDS} seconds.") from error
            stop.wait(_RETRY_DELAY_SECONDS)
