"""The simulation: a ledger, the processes that have it open, and the operations and faults that a seed chooses."""

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
from .action_generator import START, Action, ActionGenerator
from .fault_plan import FaultInjector, FaultPlan, random_plan
from .model import LedgerModel
from .mutants import install_mutant
from .outcomes import ModelMismatch, OperationResult, SimulatedDeath
from .patches import ActiveOperations, short_lock_timeout, small_pages, without_lock_waits
from .stores import STORES, LedgerLocation

AUDIT_INTERVAL = 8
MAX_NESTING = 2


@dataclass
class Process:
    """A simulated process that has the ledger open."""

    name: str
    metering: Metering


@dataclass(frozen=True)
class Restart:
    """Restarts a process."""

    process: Process
    location: LedgerLocation
    clock: Clock

    def __str__(self) -> str:
        return "restart"

    def run(self, metering: Metering) -> None:
        """Close the ledger and open it again."""
        metering.close()
        self.process.metering = self.location.open(self.clock)

    def check(self, result: OperationResult) -> None:
        """Check that the ledger opens, unless a fault prevents it."""
        result.expect(not result.written_rows, "opening changes nothing", written=result.written_rows)
        result.expect(result.error is None or result.was_interrupted, "the ledger was not opened", code=result.code)


class Simulation:
    """The whole run of one seed. `trace` lists its operations and is the same in every run."""

    def __init__(self, seed: int, location: LedgerLocation) -> None:
        self.rng = random.Random(seed)
        self.clock = Clock(START)
        self.location = location
        self.model = LedgerModel()
        self.earlier_results = invariants.EarlierResults()
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        self.active_operations = ActiveOperations()
        self.action_generator = ActionGenerator(self.rng, self.model)
        self._running: list[tuple[Process, OperationResult, FaultInjector]] = []
        self._connections: WeakSet[Any] = WeakSet()
        self._is_suspended = True
        self.processes = [Process(name, location.open(self.clock)) for name in "ABC"[: location.processes]]

    def close(self) -> None:
        """Close the ledger in every process."""
        for process in self.processes:
            process.metering.close()

    def step(self) -> None:
        """Advance the clock, run one operation, and check the ledger."""
        self._pass_time()
        process = self.rng.choice(self.processes)
        if self.location.processes > 1 and self.rng.random() < 0.02:
            self._lose_read_models()
        else:
            self._perform(process, self._next_action(process), self._next_plan())
        self._check(invariants.check_step, self.rng.choice(self.processes))

    def audit(self, *, in_all_processes: bool = False) -> None:
        """Check everything, in one process or in all."""
        for process in self.processes if in_all_processes else [self.rng.choice(self.processes)]:
            self._check(invariants.check_everything, process)

    def _check(self, check: Callable[["Simulation", Metering], int], process: Process) -> None:
        try:
            with self._without_faults():
                self.counts["checks"] += check(self, process.metering)
        except ModelMismatch:
            raise
        except Exception as error:
            raise ModelMismatch(f"A check in {process.name} raised {error!r}") from error

    # --- operations --------------------------------------------------------------------------------

    def before(self, statement: Statement) -> None:
        """Handle a statement of the current operation before it is sent."""
        self._connections.add(statement.connection)
        if not self._is_suspended and self._running:
            self._running[-1][2].before(statement)

    def after(self, statement: Statement) -> None:
        """Handle a statement of the current operation after it took effect."""
        if not self._is_suspended and self._running:
            self._running[-1][2].after(statement)

    def _perform(self, process: Process, action: Action, plan: FaultPlan) -> None:
        """Run an operation in a process, and check its result."""
        self._read_written_rows()
        result = OperationResult(
            self.model, [self.model.head], [self.clock.now], is_contended=self.active_operations.is_any_active
        )
        injector = FaultInjector(plan, partial(self._interrupt, action))
        trace_index = len(self.trace)
        self.trace.append("")
        depth = "    " * len(self._running)
        self._running.append((process, result, injector))
        was_suspended, self._is_suspended = self._is_suspended, False
        try:
            result.value = action.run(process.metering)
        except (TallybookError, SimulatedDeath) as error:
            result.error = error
        except ModelMismatch:
            raise
        except Exception as error:
            raise ModelMismatch(f"{process.name} {action} raised {error!r}") from error
        finally:
            self._is_suspended = was_suspended
            result.fault = injector.fault
            self.trace[trace_index] = (
                f"{depth}{process.name} {action}: {result.description}{f', {result.fault}' if result.fault else ''}"
            )
            self._read_written_rows()
            self._running.pop()
        self.trace[trace_index] = (
            f"{depth}{process.name} {action}: {result.description}{f', {result.fault}' if result.fault else ''}"
        )
        result.heads.append(self.model.head)
        for _, other, _ in self._running:
            other.heads.append(self.model.head)
            other.moments.append(self.clock.now)
            other.interruptions += 1
        self.counts[f"{type(action).__name__.lower()}"] += 1
        self.counts["faults"] += result.fault is not None
        self.counts[f"fault: {result.fault}"] += 1
        self.counts["rejected"] += result.code is not None
        self._reopen_if_needed(process, action, result)
        with self._without_faults():
            action.check(result)

    def _reopen_if_needed(self, process: Process, action: Action, result: OperationResult) -> None:
        """Restart a process that died, or failed to open the ledger, without faults."""
        if isinstance(result.error, SimulatedDeath) or (isinstance(action, Restart) and result.error):
            with self._without_faults():
                process.metering.close()
                process.metering = self.location.open(self.clock)

    def _interrupt(self, current_action: Action) -> None:
        """Let another process run an operation before the next transaction of `current_action`.

        Do nothing if an open transaction holds a lock that the other process would wait for.
        """
        busy = [process for process, _, _ in self._running]
        if len(busy) > MAX_NESTING or any(self._is_blocking(connection) for connection in self._connections):
            return
        others = [process for process in self.processes if process not in busy]
        if others:
            self.counts["interleaved"] += 1
            self._pass_time()
            self._running[-1][1].moments.append(self.clock.now)
            other, meters = self.rng.choice(others), self.model.meters(self.model.head)
            with self._without_faults():
                may_conflict = meters and not isinstance(current_action, Restart)
                action = self._concurrent_action(current_action, other) if may_conflict else self._next_action(other)
            self._perform(other, action, self._next_plan())

    def _is_blocking(self, connection: object) -> bool:
        return holds_write_lock(connection) and connection not in self.active_operations.connections

    def _read_written_rows(self) -> None:
        """Add the rows that the current operation has written to the model."""
        rows = self.location.rows(self.model.head)
        problem = self.model.check_appended(rows)
        if problem is not None:
            raise ModelMismatch(f"The order of the ledger is wrong: {problem}")
        self.model.rows += rows
        if self._running:
            self._running[-1][1].written_rows += rows
            self._running[-1][1].heads.append(self.model.head)
        elif rows and self.trace:
            raise ModelMismatch(f"Rows were written outside an operation: {rows}")

    # --- next actions -----------------------------------------------------------------------------

    def _next_action(self, process: Process) -> Action:
        if self.location.processes > 1 and self.rng.random() < 0.04:
            return Restart(process, self.location, self.clock)
        return self.action_generator.action(process.metering, self.clock.now)

    def _concurrent_action(self, current_action: Action, other: Process) -> Action:
        return self.action_generator.concurrent_action(current_action, other.metering, self.clock.now)

    def _next_plan(self) -> FaultPlan:
        return random_plan(self.rng, kinds=self.location.faults, processes=self.location.processes)

    def _pass_time(self) -> None:
        """Advance the clock: usually by minutes, sometimes by hours or a day, or not at all.

        Clocks that are behind are tested in tests/contract/test_clocks.py.
        """
        seconds = self.rng.choice((0, 0, 1, 1, 90, 1_200, 1_200, 7_200, 7_200, 14_400, 90_000))
        self.clock.now += timedelta(seconds=seconds)

    def _lose_read_models(self) -> None:
        """End all processes, delete the read models, and start all processes again."""
        self.trace.append("the read models are deleted")
        self.counts["read models deleted"] += 1
        for process in self.processes:
            process.metering.close()
        self.location.delete_read_models()
        for process in self.processes:
            process.metering = self.location.open(self.clock)

    @contextmanager
    def _without_faults(self) -> Generator[None]:
        """Suspend faults and concurrent operations inside the context."""
        was_suspended, self._is_suspended = self._is_suspended, True
        try:
            yield
        finally:
            self._is_suspended = was_suspended


class SimulationFailed(Exception):
    """The ledger differs from the model after a step; `trace` lists the operations up to it."""

    def __init__(self, step: int, mismatch: ModelMismatch, trace: list[str]) -> None:
        super().__init__(str(mismatch))
        self.step = step
        self.trace = trace


def simulate(seed: int, steps: int, store: str = "sqlite", mutant: str | None = None) -> Simulation:
    """Run a seed and return the simulation. Raise SimulationFailed at the first step after which a check fails.

    `mutant` names a bug to plant in the package.
    """
    with ExitStack() as exit_stack:
        exit_stack.enter_context(install_mutant(mutant))
        location = exit_stack.enter_context(STORES[store]())
        active_operations = ActiveOperations()
        exit_stack.enter_context(small_pages())
        exit_stack.enter_context(without_lock_waits(active_operations))
        exit_stack.enter_context(short_lock_timeout())
        observer = _StatementObserver()
        exit_stack.enter_context(observe_statements(observer))
        simulation = observer.simulation = Simulation(seed, location)
        simulation.active_operations = active_operations
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
    """Passes observed statements to the simulation, once it exists."""

    simulation: Simulation | None = None

    def before(self, statement: Statement) -> None:
        """Handle a statement before it is sent."""
        if self.simulation is not None:
            self.simulation.before(statement)

    def after(self, statement: Statement) -> None:
        """Handle a statement after it took effect."""
        if self.simulation is not None:
            self.simulation.after(statement)
