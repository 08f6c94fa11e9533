"""The projection loop: keep the read models up to date while other processes record."""

import threading
from collections.abc import Callable
from typing import Protocol

from ..ledger.ledger import Ledger
from ..ledger.retry import repeat_until

POLL_INTERVAL_SECONDS = 1.0
"""How long one wait for new events lasts at most; the loop ends within it when `stop` is set."""
RELAY_INTERVAL_SECONDS = 0.2
"""How long that wait lasts at most if the loop relays an outbox too."""


class RelayedOutbox(Protocol):
    """An outbox whose waiting rows the loop moves into the ledger."""

    def relay(self, *, stop: threading.Event | None = None) -> object:
        """Move the rows that wait now into the ledger; end early when `stop` is set."""
        ...


class ProjectionRunner:
    """Keeps the read models up to date."""

    def __init__(self, ledger: Ledger, catch_up: Callable[[], int]) -> None:
        self._ledger = ledger
        self._catch_up = catch_up

    def run(self, stop: threading.Event, outbox: RelayedOutbox | None = None) -> None:
        """Project events as they are recorded, until `stop` is set; with an outbox, relay its rows first.

        Any number of processes may run this: one at a time projects; the others wait for its lock and take over when it
        ends. A lost connection is retried; LedgerUnavailable is raised if it is not restored in time.
        """

        def project(succeed: Callable[[], None]) -> None:
            with self._ledger.append_listener() as wait:
                while not stop.is_set():
                    if outbox is not None:
                        outbox.relay(stop=stop)
                    self._catch_up()
                    succeed()
                    wait(POLL_INTERVAL_SECONDS if outbox is None else RELAY_INTERVAL_SECONDS)

        repeat_until(stop, project)
