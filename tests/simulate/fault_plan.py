"""Faults and concurrent operations that interrupt an operation: planned for each one, injected at its statements."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from ..faults.statements import InjectedFault, Statement
from .outcomes import SimulatedDeath

FAILURES = ("disk full", "disk I/O error", "connection lost")
COMMIT_FAULTS = ("response lost", "dies after")
FAULT_KINDS = (*FAILURES, "dies", *COMMIT_FAULTS)
"""A statement fails, or its process dies, before the statement takes effect or, for a commit, after it."""


@dataclass(frozen=True)
class FaultPlan:
    """The plan for one operation: a fault at the nth statement, concurrent operations before the nth transactions."""

    fault: str | None = None
    at: int = 0
    switches: frozenset[int] = frozenset()


NO_FAULTS = FaultPlan()


def random_plan(rng: random.Random, *, kinds: tuple[str, ...] = FAULT_KINDS, processes: int = 1) -> FaultPlan:
    """Return a plan; most plans contain no fault."""
    fault = rng.choice(kinds) if kinds and rng.random() < 0.15 else None
    count = rng.choice((1, 1, 2, 3)) if processes > 1 and rng.random() < 0.35 else 0
    at = rng.choice((rng.randint(1, 8), rng.randint(1, 60)))
    return FaultPlan(fault, at, frozenset(rng.randint(1, rng.choice((4, 12, 30))) for _ in range(count)))


@dataclass
class FaultInjector:
    """Injects the faults of a plan into the statements of one operation."""

    plan: FaultPlan
    interrupt: Callable[[], None]
    statements: int = 0
    transactions: int = 0
    fault: str | None = None
    _is_dead: bool = field(default=False)

    def before(self, statement: Statement) -> None:
        """Raise the planned fault or run the planned concurrent operation before a statement."""
        self._fail_if_dead()
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
        """Raise the planned fault after a commit: its response is lost, or the process dies."""
        self._fail_if_dead()
        if statement.text != "COMMIT" or self.statements < self.plan.at or self.fault is not None:
            return
        if self.plan.fault == "response lost":
            self.fault = self.plan.fault
            raise InjectedFault("the response was lost")
        if self.plan.fault == "dies after":
            self._die()

    def _die(self) -> None:
        self.fault = self.plan.fault
        self._is_dead = True
        raise SimulatedDeath

    def _fail_if_dead(self) -> None:
        if self._is_dead:
            raise SimulatedDeath
