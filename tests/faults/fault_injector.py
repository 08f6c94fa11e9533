"""A store that fails at its nth statement: once, from then on, with the answer lost, or with the process killed."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from .statements import InjectedFault, Statement

KILLED_STATUS = 9


@dataclass
class FaultInjector:
    """A store that meets its fault at the `at`th statement, or commit; `is_met` tells whether it came to that."""

    failure_mode: str
    fail_at: int
    count: int = 0
    was_reached: bool = False
    is_armed: bool = False

    @contextmanager
    def armed(self) -> Generator[None]:
        """Let it fail meanwhile."""
        self.is_armed = True
        try:
            yield
        finally:
            self.is_armed = False

    def before(self, statement: Statement) -> None:
        """Fail at a statement, before it takes effect."""
        if self.failure_mode in FAULTS_AFTER or not self.is_armed:
            return
        self.count += 1
        if self.count == self.fail_at or (self.count > self.fail_at and self.failure_mode == "from then on"):
            self.was_reached = True
            FAULTS_BEFORE[self.failure_mode]()

    def after(self, statement: Statement) -> None:
        """Fail at a commit, after it took effect."""
        if self.failure_mode not in FAULTS_AFTER or not self.is_armed or statement.text != "COMMIT":
            return
        self.count += 1
        if self.count == self.fail_at:
            self.was_reached = True
            FAULTS_AFTER[self.failure_mode]()


def fail() -> NoReturn:
    """Fail as a database does."""
    raise InjectedFault("disk I/O error")


def lose_connection() -> NoReturn:
    """Lose the connection."""
    raise InjectedFault("connection lost")


def kill_process() -> NoReturn:
    """End the process, with nothing of it going on."""
    os._exit(KILLED_STATUS)


FAULTS_BEFORE: dict[str, Callable[[], NoReturn]] = {
    "once": fail,
    "from then on": fail,
    "cut off": lose_connection,
    "killed": kill_process,
}
FAULTS_AFTER: dict[str, Callable[[], NoReturn]] = {
    "answer lost": lose_connection,
    "killed after a commit": kill_process,
}


@dataclass
class SingleFault:
    """A store that fails at the next statement that holds the text `at`, once."""

    fail_at: str | None = None

    def before(self, statement: Statement) -> None:
        """Fail, if it is the one."""
        if self.fail_at is not None and self.fail_at in statement.text:
            self.fail_at = None
            fail()

    def after(self, statement: Statement) -> None:
        """Nothing."""
