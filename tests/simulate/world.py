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

from ..faults.statements import Statement, blocks, watched
from ..notation import Clock
from . import checks
from .canaries import planted
from .choosing import BEGINNING, Action, Chooser
from .done import Dies, Differs, Done
from .faults import Course, Plan, planned
from .model import Book
from .seams import AtWork, no_waiting, short_patience, small_pages
from .stores import STORES, Place

AUDITED_EVERY = 8
DEEPEST = 2


@dataclass
class Process:
    """A program that has the ledger open."""

    name: str
    metering: Metering


@dataclass(frozen=True)
class Restart:
    """A process ends and begins again."""

    process: Process
    place: Place
    clock: Clock

    def __str__(self) -> str:
        return "restart"

    def do(self, metering: Metering) -> None:
        """Close the ledger and open it."""
        metering.close()
        self.process.metering = self.place.open(self.clock)

    def judge(self, done: Done) -> None:
        """It opens, unless it can't for a fault."""
        done.expect(not done.wrote, "opening changes nothing", wrote=done.wrote)
        done.expect(done.error is None or done.was_cut_off, "it didn't open", code=done.code)


class World:
    """Everything that one seed decides. `trace` tells what happened, the same in every run."""

    def __init__(self, seed: int, place: Place) -> None:
        self.rng = random.Random(seed)
        self.clock = Clock(BEGINNING)
        self.place = place
        self.book = Book()
        self.notes = checks.Notes()
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        self.at_work = AtWork()
        self.chooser = Chooser(self.rng, self.book)
        self._courses: list[tuple[Process, Done, Course]] = []
        self._connections: WeakSet[Any] = WeakSet()
        self._is_quiet = True
        self.processes = [Process(name, place.open(self.clock)) for name in "ABC"[: place.processes]]

    def close(self) -> None:
        """Let everything go."""
        for process in self.processes:
            process.metering.close()

    def step(self) -> None:
        """Let time pass, and one thing happen; then look whether all is as it must be."""
        self._pass_time()
        process = self.rng.choice(self.processes)
        if self.place.processes > 1 and self.rng.random() < 0.02:
            self._lose_views()
        else:
            self._perform(process, self._chosen(process), self._planned())
        self._check(checks.after_a_step, self.rng.choice(self.processes))

    def audit(self, *, in_all: bool = False) -> None:
        """Look at everything, in one process or in all."""
        for process in self.processes if in_all else [self.rng.choice(self.processes)]:
            self._check(checks.everything, process)

    def _check(self, check: Callable[["World", Metering], int], process: Process) -> None:
        try:
            with self._quietly():
                self.counts["checks"] += check(self, process.metering)
        except Differs:
            raise
        except Exception as error:
            raise Differs(f"Looking at it in {process.name} raised {error!r}") from error

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

    def _perform(self, process: Process, action: Action, plan: Plan) -> None:
        """Do something in a process, and judge what became of it."""
        self._absorb()
        done = Done(self.book, [self.book.head], [self.clock.now], is_contended=self.at_work.is_anyone)
        course = Course(plan, partial(self._interrupt, action))
        place = len(self.trace)
        self.trace.append("")
        depth = "    " * len(self._courses)
        self._courses.append((process, done, course))
        was_quiet, self._is_quiet = self._is_quiet, False
        try:
            done.value = action.do(process.metering)
        except (TallybookError, Dies) as error:
            done.error = error
        except Differs:
            raise
        except Exception as error:
            raise Differs(f"{process.name} {action} raised {error!r}") from error
        finally:
            self._is_quiet = was_quiet
            done.fault = course.fault
            self.trace[place] = f"{depth}{process.name} {action}: {done.shown}{f', {done.fault}' if done.fault else ''}"
            self._absorb()
            self._courses.pop()
        self.trace[place] = f"{depth}{process.name} {action}: {done.shown}{f', {done.fault}' if done.fault else ''}"
        done.heads.append(self.book.head)
        for _, other, _ in self._courses:
            other.heads.append(self.book.head)
            other.moments.append(self.clock.now)
            other.interruptions += 1
        self.counts[f"{type(action).__name__.lower()}"] += 1
        self.counts["faults"] += done.fault is not None
        self.counts[f"fault: {done.fault}"] += 1
        self.counts["refused"] += done.code is not None
        self._reopen_if_needed(process, action, done)
        with self._quietly():
            action.judge(done)

    def _reopen_if_needed(self, process: Process, action: Action, done: Done) -> None:
        """A process that died, or could not open the ledger, begins again in peace."""
        if isinstance(done.error, Dies) or (isinstance(action, Restart) and done.error):
            with self._quietly():
                process.metering.close()
                process.metering = self.place.open(self.clock)

    def _interrupt(self, under_way: Action) -> None:
        """Let another process do something before the transaction that `under_way` is about to begin.

        Not where that would have to wait for what one of them holds.
        """
        busy = [process for process, _, _ in self._courses]
        if len(busy) > DEEPEST or any(self._is_blocking(one) for one in self._connections):
            return
        others = [process for process in self.processes if process not in busy]
        if others:
            self.counts["interleaved"] += 1
            self._pass_time()
            self._courses[-1][1].moments.append(self.clock.now)
            other, meters = self.rng.choice(others), self.book.meters(self.book.head)
            with self._quietly():
                has_rival = meters and not isinstance(under_way, Restart)
                action = self._rival(under_way, other) if has_rival else self._chosen(other)
            self._perform(other, action, self._planned())

    def _is_blocking(self, connection: object) -> bool:
        return blocks(connection) and connection not in self.at_work.connections

    def _absorb(self) -> None:
        """Take into the book what the operation at hand has written."""
        rows = self.place.rows(self.book.head)
        wrong = self.book.check_appended(rows)
        if wrong is not None:
            raise Differs(f"The ledger isn't in order: {wrong}")
        self.book.rows += rows
        if self._courses:
            self._courses[-1][1].wrote += rows
            self._courses[-1][1].heads.append(self.book.head)
        elif rows and self.trace:
            raise Differs(f"Nobody wrote these rows: {rows}")

    # --- what happens -----------------------------------------------------------------------------

    def _chosen(self, process: Process) -> Action:
        if self.place.processes > 1 and self.rng.random() < 0.04:
            return Restart(process, self.place, self.clock)
        return self.chooser.action(process.metering, self.clock.now)

    def _rival(self, under_way: Action, other: Process) -> Action:
        return self.chooser.rival(under_way, other.metering, self.clock.now)

    def _planned(self) -> Plan:
        return planned(self.rng, kinds=self.place.faults, processes=self.place.processes)

    def _pass_time(self) -> None:
        """Mostly a little; sometimes hours, a day, or a bit backwards."""
        seconds = self.rng.choice((0, 0, 1, 1, 90, 1_200, 1_200, 7_200, 7_200, 14_400, 90_000, -600, -5_400))
        self.clock.now += timedelta(seconds=seconds)

    def _lose_views(self) -> None:
        """All processes end, the read models are deleted, and all begin again."""
        self.trace.append("the read models are deleted")
        self.counts["views deleted"] += 1
        for process in self.processes:
            process.metering.close()
        self.place.delete_views()
        for process in self.processes:
            process.metering = self.place.open(self.clock)

    @contextmanager
    def _quietly(self) -> Generator[None]:
        """Nothing goes wrong meanwhile, and nothing comes in between."""
        was_quiet, self._is_quiet = self._is_quiet, True
        try:
            yield
        finally:
            self._is_quiet = was_quiet


class Failed(Exception):
    """A world went wrong at a step; `trace` tells how it came to that."""

    def __init__(self, step: int, differs: Differs, trace: list[str]) -> None:
        super().__init__(str(differs))
        self.step = step
        self.trace = trace


def simulate(seed: int, steps: int, store: str = "sqlite", canary: str | None = None) -> World:
    """Let a seed happen; give what came of it. Raises Failed at the first step after which something is wrong.

    `canary` names a fault to be planted in the package.
    """
    with ExitStack() as kept:
        kept.enter_context(planted(canary))
        place = kept.enter_context(STORES[store]())
        at_work = AtWork()
        kept.enter_context(small_pages())
        kept.enter_context(no_waiting(at_work))
        kept.enter_context(short_patience())
        watch = _Watch()
        kept.enter_context(watched(watch))
        world = watch.world = World(seed, place)
        world.at_work = at_work
        kept.callback(world.close)
        for step in range(1, steps + 1):
            try:
                world.step()
                if step % AUDITED_EVERY == 0 or step == steps:
                    world.audit(in_all=step == steps)
            except Differs as differs:
                raise Failed(step, differs, world.trace) from differs
    return world


class _Watch:
    """Passes on what the statements of a world are, from when there is one."""

    world: World | None = None

    def before(self, statement: Statement) -> None:
        """A statement is about to be sent."""
        if self.world is not None:
            self.world.before(statement)

    def after(self, statement: Statement) -> None:
        """A statement took effect."""
        if self.world is not None:
            self.world.after(statement)
