"""Running a projection: read models that are kept up to date while others record."""

import threading
import time

from ..domain.errors import LedgerUnavailable
from .ledger import Ledger
from .reading import UsageReader
from .stores.store import LockHeld, TransientFailure

LOOK_SECONDS = 1.0
"""How long to wait for news at a time; a program that is told to stop does so within it."""
PATIENCE_SECONDS = 30
_PAUSE_SECONDS = 0.2


class ProjectionRunner:
    """Keeps the read models up to date."""

    def __init__(self, ledger: Ledger, reader: UsageReader) -> None:
        self.ledger = ledger
        self.reader = reader

    def run(self, stop: threading.Event) -> None:
        """Fold in whatever is recorded, until told to stop.

        Any number may run: one at a time folds, and when it dies another goes on, which waits for that however long
        it takes. A connection that is lost is tried again, and reported where none can be had for a while.
        """
        lost_at: float | None = None
        while not stop.is_set():
            try:
                with self.ledger.listening() as wait:
                    while not stop.is_set():
                        self.reader.keep_up()
                        lost_at = None
                        wait(LOOK_SECONDS)
            except LockHeld:  # by who folds, or has stopped in the middle of it until the server lets go of that
                stop.wait(_PAUSE_SECONDS)
            except TransientFailure as lost:
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > PATIENCE_SECONDS:
                    raise LedgerUnavailable(f"{lost.message} No connection for {PATIENCE_SECONDS} seconds.") from lost
                stop.wait(_PAUSE_SECONDS)
