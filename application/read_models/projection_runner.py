"""The projection loop: keep the read models up to date while other processes record."""

import threading
import time
from collections.abc import Callable

from ...domain.errors import LedgerUnavailable
from ..ledger.ledger import Ledger
from ..storage.ports import LockTimeout, TransientError

POLL_INTERVAL_SECONDS = 1.0
"""How long one wait for new events lasts at most; the loop ends within it when `stop` is set."""
STOP_CHECK_SECONDS = 30
"""How long a lost connection is retried before the loop fails."""
RETRY_DELAY_SECONDS = 0.2


class ProjectionRunner:
    """Keeps the read models up to date."""

    def __init__(self, ledger: Ledger, catch_up: Callable[[], int]) -> None:
        self._ledger = ledger
        self._catch_up = catch_up

    def run(self, stop: threading.Event) -> None:
        """Project events as they are recorded, until `stop` is set.

        Any number of processes may run this: one at a time projects; the others wait for its lock and take over when it
        ends. A lost connection is retried; LedgerUnavailable is raised if it is not restored in time.
        """
        lost_at: float | None = None
        while not stop.is_set():
            try:
                with self._ledger.append_listener() as wait:
                    while not stop.is_set():
                        self._catch_up()
                        lost_at = None
                        wait(POLL_INTERVAL_SECONDS)
            except LockTimeout:  # another process projects, or was stopped and its lock is not released yet
                stop.wait(RETRY_DELAY_SECONDS)
            except TransientError as error:
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > STOP_CHECK_SECONDS:
                    raise LedgerUnavailable(
                        f"{error.message} No connection for {STOP_CHECK_SECONDS} seconds."
                    ) from error
                stop.wait(RETRY_DELAY_SECONDS)
