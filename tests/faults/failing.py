"""A store that fails at its nth statement: once, from then on, with the answer lost, or with the process killed."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from .statements import Statement, StoreFails

KILLED = 9


@dataclass
class Failing:
    """A store that meets its fault at the `at`th statement, or commit; `is_met` tells whether it came to that."""

    way: str
    at: int
    count: int = 0
    is_met: bool = False
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
        if self.way in AFTER or not self.is_armed:
            return
        self.count += 1
        if self.count == self.at or (self.count > self.at and self.way == "from then on"):
            self.is_met = True
            BEFORE[self.way]()

    def after(self, statement: Statement) -> None:
        """Fail at a commit, after it took effect."""
        if self.way not in AFTER or not self.is_armed or statement.text != "COMMIT":
            return
        self.count += 1
        if self.count == self.at:
            self.is_met = True
            AFTER[self.way]()


def fail() -> NoReturn:
    """Fail as a database does."""
    raise StoreFails("disk I/O error")


def lose() -> NoReturn:
    """Lose the connection."""
    raise StoreFails("connection lost")


def die() -> NoReturn:
    """End the process, with nothing of it going on."""
    os._exit(KILLED)


BEFORE: dict[str, Callable[[], NoReturn]] = {"once": fail, "from then on": fail, "cut off": lose, "killed": die}
AFTER: dict[str, Callable[[], NoReturn]] = {"answer lost": lose, "killed after a commit": die}


@dataclass
class FailingOnce:
    """A store that fails at the next statement that holds the text `at`, once."""

    at: str | None = None

    def before(self, statement: Statement) -> None:
        """Fail, if it is the one."""
        if self.at is not None and self.at in statement.text:
            self.at = None
            fail()

    def after(self, statement: Statement) -> None:
        """Nothing."""
