"""What goes wrong, and what comes in between: planned for each operation, met at its statements."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from ..faults.statements import InjectedFault, Statement
from .outcomes import SimulatedDeath

FAILURES = ("disk full", "disk I/O error", "connection lost")
COMMIT_FAULTS = ("answer lost", "dies after")
FAULT_KINDS = (*FAILURES, "dies", *COMMIT_FAULTS)
"""A statement fails, or its process ends at it, before it takes effect or, of a commit, after."""


@dataclass(frozen=True)
class FaultPlan:
    """What happens to an operation: a fault at its nth statement, others' operations before its nth transactions."""

    fault: str | None = None
    at: int = 0
    switches: frozenset[int] = frozenset()


NO_FAULTS = FaultPlan()


def random_plan(rng: random.Random, *, kinds: tuple[str, ...] = FAULT_KINDS, processes: int = 1) -> FaultPlan:
    """A plan: most operations are left alone."""
    fault = rng.choice(kinds) if kinds and rng.random() < 0.15 else None
    count = rng.choice((1, 1, 2, 3)) if processes > 1 and rng.random() < 0.35 else 0
    at = rng.choice((rng.randint(1, 8), rng.randint(1, 60)))
    return FaultPlan(fault, at, frozenset(rng.randint(1, rng.choice((4, 12, 30))) for _ in range(count)))


@dataclass
class FaultCourse:
    """The way of one operation through its statements, by its plan."""

    plan: FaultPlan
    interrupt: Callable[[], None]
    statements: int = 0
    transactions: int = 0
    fault: str | None = None
    _is_dead: bool = field(default=False)

    def before(self, statement: Statement) -> None:
        """Fail, die or let others go first, where it is planned."""
        self._stay_dead()
        if statement.begins_transaction:
            self.transactions += 1
            if self.transactions in self.plan.switches:
                self.interrupt()
        self.statements += 1
        if self.statements < self.plan.at or self.fault is not None:
            return
        if self.plan.fault in FAILURES:
            self.fault = self.plan.fault
            raise InjectedFault(self.plan.fault)
        if self.plan.fault == "dies":
            self._die()

    def after(self, statement: Statement) -> None:
        """Lose the answer to a commit, or die before it is given, where it is planned."""
        self._stay_dead()
        if statement.text != "COMMIT" or self.statements < self.plan.at or self.fault is not None:
            return
        if self.plan.fault == "answer lost":
            self.fault = self.plan.fault
            raise InjectedFault("the answer was lost")
        if self.plan.fault == "dies after":
            self._die()

    def _die(self) -> None:
        self.fault = self.plan.fault
        self._is_dead = True
        raise SimulatedDeath

    def _stay_dead(self) -> None:
        if self._is_dead:
            raise SimulatedDeath
