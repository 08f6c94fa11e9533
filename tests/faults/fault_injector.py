"""Faults at the nth statement of a store: it fails once or permanently, loses its response, or kills the process."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from .statements import InjectedFault, Statement

KILLED_STATUS = 9


@dataclass
class FaultInjector:
    """Injects a fault at statement or commit number `fail_at`; `was_reached` is set if there was such a statement.

    With `fail_at` 0 it only counts them.
    """

    failure_mode: str
    fail_at: int
    count: int = 0
    was_reached: bool = False
    is_armed: bool = False

    @contextmanager
    def armed(self) -> Generator[None]:
        """Inject the fault only inside the context."""
        self.is_armed = True
        try:
            yield
        finally:
            self.is_armed = False

    def before(self, statement: Statement) -> None:
        """Inject the fault before a statement takes effect."""
        if self.failure_mode in FAULTS_AFTER or not self.is_armed:
            return
        self.count += 1
        if self.count == self.fail_at or (self.count > self.fail_at > 0 and self.failure_mode == "permanently"):
            self.was_reached = True
            FAULTS_BEFORE[self.failure_mode]()

    def after(self, statement: Statement) -> None:
        """Inject the fault after a commit took effect."""
        if self.failure_mode not in FAULTS_AFTER or not self.is_armed or statement.text != "COMMIT":
            return
        self.count += 1
        if self.count == self.fail_at:
            self.was_reached = True
            FAULTS_AFTER[self.failure_mode]()


def fail() -> NoReturn:
    """Raise the error of a failed database."""
    raise InjectedFault("disk I/O error")


def lose_connection() -> NoReturn:
    """Raise the error of a lost connection."""
    raise InjectedFault("connection lost")


def kill_process() -> NoReturn:
    """End the process without any cleanup, as SIGKILL does."""
    os._exit(KILLED_STATUS)


FAULTS_BEFORE: dict[str, Callable[[], NoReturn]] = {
    "once": fail,
    "permanently": fail,
    "connection lost": lose_connection,
    "killed": kill_process,
}
FAULTS_AFTER: dict[str, Callable[[], NoReturn]] = {
    "response lost": lose_connection,
    "killed after a commit": kill_process,
}


@dataclass
class SingleFault:
    """Injects one failure into the next statement that contains the text `fail_at`."""

    fail_at: str | None = None

    def before(self, statement: Statement) -> None:
        """Fail if the statement contains the text."""
        if self.fail_at is not None and self.fail_at in statement.text:
            self.fail_at = None
            fail()

    def after(self, statement: Statement) -> None:
        """Do nothing."""
