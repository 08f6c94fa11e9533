"""Bugs to plant in the package: the simulator must detect each one, which shows that its checks work."""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tallybook.application.read_models.generations import Generations
from tallybook.application.storage.sqlite.event_recorder import SQLiteEventRecorder
from tallybook.domain.counting import UsageRecord, effective_by_position, window_start
from tallybook.domain.event_time_window import EventTimeWindow
from tallybook.domain.meter_event import MeterEventData
from tallybook.projections import fold
from tallybook.projections.models import AsOf, ProjectedMeter
from tallybook.projections.projector import Projector
from tallybook.projections.stored_events import EventChunk
from tallybook.projections.usage_view import UsageView, VerdictChange

from .patches import PAGE, patch_everywhere, patch_method

Method = Callable[..., Any]


def cancellation_ignored() -> AbstractContextManager[None]:
    """Ignore cancellations in the fold."""

    def ignore(*_: object) -> None:
        pass

    return patch_everywhere(fold._fold_cancellation, ignore)  # pyright: ignore[reportPrivateUsage]


def duplicate_counted() -> AbstractContextManager[None]:
    """Count the first meter event of each page twice."""

    def replace(folded: Method) -> Method:
        def twice(chunks: Iterable[EventChunk], *others: Any) -> Any:
            page = list(chunks)
            first, _ = page[0].divided_at(1)
            return folded([first, *page] if isinstance(first.events[0], MeterEventData) else page, *others)

        return twice

    return patch_everywhere(fold.fold_page, replace(fold.fold_page))


def late_event_dropped() -> AbstractContextManager[None]:
    """Omit the last event of a full page from the fold, although the position advances past it."""

    def replace(folded: Method) -> Method:
        def without_last(chunks: Iterable[EventChunk], *others: Any) -> Any:
            page = list(chunks)
            if sum(len(chunk.events) for chunk in page) == PAGE and isinstance(page[-1].events[-1], MeterEventData):
                before, _ = page[-1].divided_at(-1)
                page[-1:] = [before] if before.events else []
            return folded(page, *others)

        return without_last

    return patch_everywhere(fold.fold_page, replace(fold.fold_page))


def oldest_counted() -> AbstractContextManager[None]:
    """Count the first event of an hour or day instead of the last one."""

    def oldest(records: Iterable[UsageRecord], window: EventTimeWindow | None) -> dict[int, UsageRecord]:
        if window is None:
            return effective_by_position(records, window)
        counted: dict[tuple[int, str, int], UsageRecord] = {}
        effective = [usage for usage in records if usage.cancelled_position is None]
        for entry in sorted(effective, key=lambda usage: usage.position):
            counted.setdefault((entry.customer_id, entry.dimensions, window_start(entry.occurred_at, window)), entry)
        return {
            entry.position: counted[entry.customer_id, entry.dimensions, window_start(entry.occurred_at, window)]
            for entry in effective
        }

    return patch_everywhere(effective_by_position, oldest)


def adjustment_omits_cancellation() -> AbstractContextManager[None]:
    """Omit cancellations from the adjustments of a closed period."""

    def replace(changes: Method) -> Method:
        def without_cancellations(*arguments: Any) -> Iterable[VerdictChange]:
            return (
                change for change in changes(*arguments) if change.before is change.now or change.now.counts is not None
            )

        return without_cancellations

    return patch_method(UsageView, "changes", replace)


def promoted_before_caught_up() -> AbstractContextManager[None]:
    """Promote a generation without catching it up: only its position advances."""

    def replace(catch_up: Method) -> Method:
        def only_advance(self: Generations, generation: Any, *arguments: Any, **options: Any) -> Any:
            if generation.position == 0:
                return catch_up(self, generation, *arguments, **options)
            head = self.ledger.head()
            with self.views.read_models(generation.number).write_session() as rows:
                if rows.position() < head:
                    rows.advance_position(head, "mutant", rows.latest_recorded_at(), "mutant")
            return head

        return only_advance

    return patch_method(Generations, "catch_up", replace)


def current_rules_as_of() -> AbstractContextManager[None]:
    """Compute a total as of an earlier position by the current rules."""

    def replace(schedule: Method) -> Method:
        def current(self: ProjectedMeter, _: AsOf | None = None) -> Any:
            return schedule(self)

        return current

    return patch_method(ProjectedMeter, "schedule", replace)


def conflict_treated_as_duplicate() -> AbstractContextManager[None]:
    """Treat a conflicting event with an existing identifier as a duplicate."""

    def always(_: MeterEventData, __: object) -> bool:
        return True

    return patch_method(MeterEventData, "matches", lambda _: always)


def stale_decision_stored() -> AbstractContextManager[None]:
    """Store an event although its meter changed after the decision."""

    def replace(insert: Method) -> Method:
        def unchecked(self: SQLiteEventRecorder, rows: Any, _: object = None, attach: Any = None) -> Any:
            return insert(self, rows, None, attach)

        return unchecked

    return patch_method(SQLiteEventRecorder, "insert_rows", replace)


def batch_split() -> AbstractContextManager[None]:
    """Store a batch in two transactions."""

    def replace(insert: Method) -> Method:
        def halves(self: Any, rows: Any, unless_moved: Any = None, attach: Any = None) -> Any:
            if len(rows) < 2 or attach is not None:
                return insert(self, rows, unless_moved, attach)
            return [*insert(self, rows[:1], unless_moved), *insert(self, rows[1:], unless_moved)]

        return halves

    return patch_method(SQLiteEventRecorder, "insert_rows", replace)


def acknowledged_but_lost() -> AbstractContextManager[None]:
    """Acknowledge every seventh write without storing it."""
    count = 0

    def replace(insert: Method) -> Method:
        def lost(self: SQLiteEventRecorder, rows: Any, unless_moved: Any = None, attach: Any = None) -> Any:
            nonlocal count
            count += 1
            if count % 7:
                return insert(self, rows, unless_moved, attach)
            return range(self.head() + 1, self.head() + 1 + len(rows))

        return lost

    return patch_method(SQLiteEventRecorder, "insert_rows", replace)


def stale_read() -> AbstractContextManager[None]:
    """Answer a query from stale read models: they advance by one page at most."""

    def replace(head: Method) -> Method:
        def nearest_page(self: Projector) -> int:
            with self.read_models.read_session() as rows:
                return min(head(self), rows.position() + PAGE)

        return nearest_page

    return patch_method(Projector, "head", replace)


def as_of_includes_next_event() -> AbstractContextManager[None]:
    """Include the event after an `as_of` position."""

    def replace(includes: Method) -> Method:
        def one_more(self: AsOf, position: int) -> bool:
            return includes(self, position - 1)

        return one_more

    return patch_method(AsOf, "includes", replace)


MUTANTS: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    plant.__name__.replace("_", "-"): plant
    for plant in (
        cancellation_ignored,
        duplicate_counted,
        late_event_dropped,
        oldest_counted,
        adjustment_omits_cancellation,
        promoted_before_caught_up,
        current_rules_as_of,
        conflict_treated_as_duplicate,
        stale_decision_stored,
        batch_split,
        acknowledged_but_lost,
        stale_read,
        as_of_includes_next_event,
    )
}


@contextmanager
def install_mutant(name: str | None) -> Generator[None]:
    """Plant a bug inside the context; do nothing if `name` is None."""
    if name is None:
        yield
        return
    with MUTANTS[name]():
        yield
