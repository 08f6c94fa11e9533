"""Faults planted in the package, each of which the simulator has to find: what finds nothing may be looking away."""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tallybook.application.read_models.generations import Generations
from tallybook.application.storage.sqlite.event_recorder import SQLiteEventRecorder
from tallybook.domain.counting import UsageRecord, effective_by_position, window_start
from tallybook.domain.meter_event import MeterEventData
from tallybook.domain.rules import EventTimeWindow
from tallybook.projections import fold
from tallybook.projections.models import AsOf, ProjectedMeter
from tallybook.projections.projector import Projector
from tallybook.projections.stored_events import PositionedEvent
from tallybook.projections.usage_view import UsageView, VerdictChange

from .patches import PAGE, patch_everywhere, patch_method

Method = Callable[..., Any]


def cancel_ignored() -> AbstractContextManager[None]:
    """A cancel is folded as if it said nothing."""

    def ignore(*_: object) -> None:
        pass

    return patch_everywhere(fold._fold_cancellation, ignore)  # pyright: ignore[reportPrivateUsage]


def duplicate_counted() -> AbstractContextManager[None]:
    """A use that comes first in its page is counted twice."""

    def replace(folded: Method) -> Method:
        def twice(events: Iterable[PositionedEvent], *others: Any) -> Any:
            page = list(events)
            return folded([*(event for event in page[:1] if isinstance(event[1], MeterEventData)), *page], *others)

        return twice

    return patch_everywhere(fold.fold_page, replace(fold.fold_page))


def late_event_dropped() -> AbstractContextManager[None]:
    """The last event of a full page is left out of the fold, though its position is reached."""

    def replace(folded: Method) -> Method:
        def without_last(events: Iterable[PositionedEvent], *others: Any) -> Any:
            page = list(events)
            is_full = len(page) == PAGE and isinstance(page[-1][1], MeterEventData)
            return folded(page[:-1] if is_full else page, *others)

        return without_last

    return patch_everywhere(fold.fold_page, replace(fold.fold_page))


def oldest_counted() -> AbstractContextManager[None]:
    """In an hour or day the first report stays, and later ones don't replace it."""

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


def adjustment_misses_cancel() -> AbstractContextManager[None]:
    """What is owed on a closed period leaves out what was cancelled since."""

    def replace(changes: Method) -> Method:
        def without(*arguments: Any) -> Iterable[VerdictChange]:
            return (
                change for change in changes(*arguments) if change.before is change.now or change.now.counts is not None
            )

        return without

    return patch_method(UsageView, "changes", replace)


def promoted_behind() -> AbstractContextManager[None]:
    """A generation is said to be up to date before it is promoted, and isn't."""

    def replace(catch_up: Method) -> Method:
        def only_said(self: Generations, generation: Any, *arguments: Any, **named: Any) -> Any:
            if generation.position == 0:
                return catch_up(self, generation, *arguments, **named)
            head = self.ledger.head()
            with self.views.read_models(generation.number).write_session() as rows:
                if rows.position() < head:
                    rows.advance_position(head, "said")
            return head

        return only_said

    return patch_method(Generations, "catch_up", replace)


def rules_of_now() -> AbstractContextManager[None]:
    """A figure as of an earlier position follows the rules of now."""

    def replace(in_force: Method) -> Method:
        def of_now(self: ProjectedMeter, _: AsOf | None = None) -> Any:
            return in_force(self)

        return of_now

    return patch_method(ProjectedMeter, "rules_as_of", replace)


def conflict_taken_for_duplicate() -> AbstractContextManager[None]:
    """Another report under a taken identifier is answered as the same one."""

    def yes(_: MeterEventData, __: object) -> bool:
        return True

    return patch_method(MeterEventData, "matches", lambda _: yes)


def stale_decision_stored() -> AbstractContextManager[None]:
    """A report is stored though its meter was changed while it was decided on."""

    def replace(insert: Method) -> Method:
        def unchecked(self: SQLiteEventRecorder, rows: Any, _: object = None, attach: Any = None) -> Any:
            return insert(self, rows, None, attach)

        return unchecked

    return patch_method(SQLiteEventRecorder, "insert_rows", replace)


def batch_in_two() -> AbstractContextManager[None]:
    """A batch is stored in two transactions."""

    def replace(insert: Method) -> Method:
        def halves(self: Any, rows: Any, unless_moved: Any = None, attach: Any = None) -> Any:
            if len(rows) < 2 or attach is not None:
                return insert(self, rows, unless_moved, attach)
            return [*insert(self, rows[:1], unless_moved), *insert(self, rows[1:], unless_moved)]

        return halves

    return patch_method(SQLiteEventRecorder, "insert_rows", replace)


def answered_before_stored() -> AbstractContextManager[None]:
    """Every seventh write is acknowledged and lost."""
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
    """A question is answered from before the call: the read models are brought up by one page at most."""

    def replace(head: Method) -> Method:
        def near(self: Projector) -> int:
            with self.read_models.read_session() as rows:
                return min(head(self), rows.position() + PAGE)

        return near

    return patch_method(Projector, "head", replace)


def one_too_many_known() -> AbstractContextManager[None]:
    """As of a position, the event after it is known too."""

    def replace(includes: Method) -> Method:
        def one_more(self: AsOf, recorded_at: int, position: int) -> bool:
            return includes(self, recorded_at, position) or (
                self.position is not None and position == self.position + 1
            )

        return one_more

    return patch_method(AsOf, "includes", replace)


MUTANTS: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    plant.__name__.replace("_", "-"): plant
    for plant in (
        cancel_ignored,
        duplicate_counted,
        late_event_dropped,
        oldest_counted,
        adjustment_misses_cancel,
        promoted_behind,
        rules_of_now,
        conflict_taken_for_duplicate,
        stale_decision_stored,
        batch_in_two,
        answered_before_stored,
        stale_read,
        one_too_many_known,
    )
}


@contextmanager
def install_mutant(name: str | None) -> Generator[None]:
    """Plant a fault for a while; none where there is no name."""
    if name is None:
        yield
        return
    with MUTANTS[name]():
        yield
