"""A world: a ledger, the processes that have it open, and what a seed lets happen to them."""

import random
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from weakref import WeakSet

from tallybook.application import Metering, TallybookError

from ..faults.statements import Statement, holds_write_lock, observe_statements
from ..notation import Clock
from . import invariants
from .action_generator import BEGINNING, Action, ActionGenerator
from .fault_plan import FaultCourse, FaultPlan, random_plan
from .model import LedgerModel
from .mutants import install_mutant
from .outcomes import ModelMismatch, OperationResult, SimulatedDeath
from .patches import ActiveOperations, short_lock_timeout, small_pages, without_lock_waits
from .stores import STORES, LedgerLocation

AUDIT_INTERVAL = 8
MAX_NESTING = 2


@dataclass
class Process:
    """A program that has the ledger open."""

    name: str
    metering: Metering


@dataclass(frozen=True)
class Restart:
    """A process ends and begins again."""

    process: Process
    location: LedgerLocation
    clock: Clock

    def __str__(self) -> str:
        return "restart"

    def run(self, metering: Metering) -> None:
        """Close the ledger and open it."""
        metering.close()
        self.process.metering = self.location.open(self.clock)

    def check(self, result: OperationResult) -> None:
        """It opens, unless it can't for a fault."""
        result.expect(not result.written_rows, "opening changes nothing", wrote=result.written_rows)
        result.expect(result.error is None or result.was_interrupted, "it didn't open", code=result.code)


class Simulation:
    """Everything that one seed decides. `trace` tells what happened, the same in every run."""

    def __init__(self, seed: int, location: LedgerLocation) -> None:
        self.rng = random.Random(seed)
        self.clock = Clock(BEGINNING)
        self.location = location
        self.model = LedgerModel()
        self.earlier_results = invariants.EarlierResults()
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        self.active_operations = ActiveOperations()
        self.chooser = ActionGenerator(self.rng, self.model)
        self._courses: list[tuple[Process, OperationResult, FaultCourse]] = []
        self._connections: WeakSet[Any] = WeakSet()
        self._is_quiet = True
        self.processes = [Process(name, location.open(self.clock)) for name in "ABC"[: location.processes]]

    def close(self) -> None:
        """Let everything go."""
        for process in self.processes:
            process.metering.close()

    def step(self) -> None:
        """Let time pass, and one thing happen; then look whether all is as it must be."""
        self._pass_time()
        process = self.rng.choice(self.processes)
        if self.location.processes > 1 and self.rng.random() < 0.02:
            self._lose_read_models()
        else:
            self._perform(process, self._next_action(process), self._next_plan())
        self._check(invariants.check_step, self.rng.choice(self.processes))

    def audit(self, *, in_all_processes: bool = False) -> None:
        """Look at everything, in one process or in all."""
        for process in self.processes if in_all_processes else [self.rng.choice(self.processes)]:
            self._check(invariants.check_everything, process)

    def _check(self, check: Callable[["Simulation", Metering], int], process: Process) -> None:
        try:
            with self._without_faults():
                self.counts["checks"] += check(self, process.metering)
        except ModelMismatch:
            raise
        except Exception as error:
            raise ModelMismatch(f"Looking at it in {process.name} raised {error!r}") from error

    # --- how an operation goes --------------------------------------------------------------------

    def before(self, statement: Statement) -> None:
        """A statement of the operation at hand is about to be sent."""
        self._connections.add(statement.connection)
        if not self._is_quiet and self._courses:
            self._courses[-1][2].before(statement)

    def after(self, statement: Statement) -> None:
        """A statement of the operation at hand took effect."""
        if not self._is_quiet and self._courses:
            self._courses[-1][2].after(statement)

    def _perform(self, process: Process, action: Action, plan: FaultPlan) -> None:
        """Do something in a process, and judge what became of it."""
        self._read_written_rows()
        result = OperationResult(
            self.model, [self.model.head], [self.clock.now], is_contended=self.active_operations.is_any_active
        )
        course = FaultCourse(plan, partial(self._interrupt, action))
        trace_index = len(self.trace)
        self.trace.append("")
        depth = "    " * len(self._courses)
        self._courses.append((process, result, course))
        was_quiet, self._is_quiet = self._is_quiet, False
        try:
            result.value = action.run(process.metering)
        except (TallybookError, SimulatedDeath) as error:
            result.error = error
        except ModelMismatch:
            raise
        except Exception as error:
            raise ModelMismatch(f"{process.name} {action} raised {error!r}") from error
        finally:
            self._is_quiet = was_quiet
            result.fault = course.fault
            self.trace[trace_index] = (
                f"{depth}{process.name} {action}: {result.description}{f', {result.fault}' if result.fault else ''}"
            )
            self._read_written_rows()
            self._courses.pop()
        self.trace[trace_index] = (
            f"{depth}{process.name} {action}: {result.description}{f', {result.fault}' if result.fault else ''}"
        )
        result.heads.append(self.model.head)
        for _, other, _ in self._courses:
            other.heads.append(self.model.head)
            other.moments.append(self.clock.now)
            other.interruptions += 1
        self.counts[f"{type(action).__name__.lower()}"] += 1
        self.counts["faults"] += result.fault is not None
        self.counts[f"fault: {result.fault}"] += 1
        self.counts["refused"] += result.code is not None
        self._reopen_if_needed(process, action, result)
        with self._without_faults():
            action.check(result)

    def _reopen_if_needed(self, process: Process, action: Action, result: OperationResult) -> None:
        """A process that died, or could not open the ledger, begins again in peace."""
        if isinstance(result.error, SimulatedDeath) or (isinstance(action, Restart) and result.error):
            with self._without_faults():
                process.metering.close()
                process.metering = self.location.open(self.clock)

    def _interrupt(self, under_way: Action) -> None:
        """Let another process do something before the transaction that `under_way` is about to begin.

        Not where that would have to wait for what one of them holds.
        """
        busy = [process for process, _, _ in self._courses]
        if len(busy) > MAX_NESTING or any(self._is_blocking(connection) for connection in self._connections):
            return
        others = [process for process in self.processes if process not in busy]
        if others:
            self.counts["interleaved"] += 1
            self._pass_time()
            self._courses[-1][1].moments.append(self.clock.now)
            other, meters = self.rng.choice(others), self.model.meters(self.model.head)
            with self._without_faults():
                has_rival = meters and not isinstance(under_way, Restart)
                action = self._concurrent_action(under_way, other) if has_rival else self._next_action(other)
            self._perform(other, action, self._next_plan())

    def _is_blocking(self, connection: object) -> bool:
        return holds_write_lock(connection) and connection not in self.active_operations.connections

    def _read_written_rows(self) -> None:
        """Take into the book what the operation at hand has written."""
        rows = self.location.rows(self.model.head)
        problem = self.model.check_appended(rows)
        if problem is not None:
            raise ModelMismatch(f"The ledger isn't in order: {problem}")
        self.model.rows += rows
        if self._courses:
            self._courses[-1][1].written_rows += rows
            self._courses[-1][1].heads.append(self.model.head)
        elif rows and self.trace:
            raise ModelMismatch(f"Nobody wrote these rows: {rows}")

    # --- what happens -----------------------------------------------------------------------------

    def _next_action(self, process: Process) -> Action:
        if self.location.processes > 1 and self.rng.random() < 0.04:
            return Restart(process, self.location, self.clock)
        return self.chooser.action(process.metering, self.clock.now)

    def _concurrent_action(self, under_way: Action, other: Process) -> Action:
        return self.chooser.concurrent_action(under_way, other.metering, self.clock.now)

    def _next_plan(self) -> FaultPlan:
        return random_plan(self.rng, kinds=self.location.faults, processes=self.location.processes)

    def _pass_time(self) -> None:
        """Mostly a little; sometimes hours, a day, or a bit backwards."""
        seconds = self.rng.choice((0, 0, 1, 1, 90, 1_200, 1_200, 7_200, 7_200, 14_400, 90_000, -600, -5_400))
        self.clock.now += timedelta(seconds=seconds)

    def _lose_read_models(self) -> None:
        """All processes end, the read models are deleted, and all begin again."""
        self.trace.append("the read models are deleted")
        self.counts["views deleted"] += 1
        for process in self.processes:
            process.metering.close()
        self.location.delete_views()
        for process in self.processes:
            process.metering = self.location.open(self.clock)

    @contextmanager
    def _without_faults(self) -> Generator[None]:
        """Nothing goes wrong meanwhile, and nothing comes in between."""
        was_quiet, self._is_quiet = self._is_quiet, True
        try:
            yield
        finally:
            self._is_quiet = was_quiet


class SimulationFailed(Exception):
    """A world went wrong at a step; `trace` tells how it came to that."""

    def __init__(self, step: int, differs: ModelMismatch, trace: list[str]) -> None:
        super().__init__(str(differs))
        self.step = step
        self.trace = trace


def simulate(seed: int, steps: int, store: str = "sqlite", mutant: str | None = None) -> Simulation:
    """Let a seed happen; give what came of it. Raises Failed at the first step after which something is wrong.

    `mutant` names a fault to be planted in the package.
    """
    with ExitStack() as exit_stack:
        exit_stack.enter_context(install_mutant(mutant))
        location = exit_stack.enter_context(STORES[store]())
        at_work = ActiveOperations()
        exit_stack.enter_context(small_pages())
        exit_stack.enter_context(without_lock_waits(at_work))
        exit_stack.enter_context(short_lock_timeout())
        observer = _StatementObserver()
        exit_stack.enter_context(observe_statements(observer))
        simulation = observer.simulation = Simulation(seed, location)
        simulation.active_operations = at_work
        exit_stack.callback(simulation.close)
        for step in range(1, steps + 1):
            try:
                simulation.step()
                if step % AUDIT_INTERVAL == 0 or step == steps:
                    simulation.audit(in_all_processes=step == steps)
            except ModelMismatch as mismatch:
                raise SimulationFailed(step, mismatch, simulation.trace) from mismatch
    return simulation


class _StatementObserver:
    """Passes on what the statements of a world are, from when there is one."""

    simulation: Simulation | None = None

    def before(self, statement: Statement) -> None:
        """A statement is about to be sent."""
        if self.simulation is not None:
            self.simulation.before(statement)

    def after(self, statement: Statement) -> None:
        """A statement took effect."""
        if self.simulation is not None:
            self.simulation.after(statement)
