"""Faults planted in the package, each of which the simulator has to find: what finds nothing may be looking away."""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tallybook.application.generations import Generations
from tallybook.application.stores.sqlite_ledger import SQLiteLedgerRecorder
from tallybook.domain.counting import Usage, survivors, window_start
from tallybook.domain.meter_event import ReportedUse
from tallybook.domain.rules import EventTimeWindow
from tallybook.projections import fold
from tallybook.projections.projector import Projector
from tallybook.projections.rows import AsOf, ProjectedMeter
from tallybook.projections.stored_events import StoredEvent
from tallybook.projections.usage_view import Change, UsageView

from .seams import PAGE, method_replaced, replaced

Method = Callable[..., Any]


def cancel_ignored() -> AbstractContextManager[None]:
    """A cancel is folded as if it said nothing."""

    def ignore(*_: object) -> None:
        pass

    return replaced(fold._fold_cancel, ignore)  # pyright: ignore[reportPrivateUsage]


def duplicate_counted() -> AbstractContextManager[None]:
    """A use that comes first in its page is counted twice."""

    def replace(folded: Method) -> Method:
        def twice(events: Iterable[StoredEvent], *others: Any) -> Any:
            page = list(events)
            return folded([*(one for one in page[:1] if isinstance(one[1], ReportedUse)), *page], *others)

        return twice

    return replaced(fold.fold, replace(fold.fold))


def late_event_dropped() -> AbstractContextManager[None]:
    """The last event of a full page is left out of the fold, though its position is reached."""

    def replace(folded: Method) -> Method:
        def of(events: Iterable[StoredEvent], *others: Any) -> Any:
            page = list(events)
            is_full = len(page) == PAGE and isinstance(page[-1][1], ReportedUse)
            return folded(page[:-1] if is_full else page, *others)

        return of

    return replaced(fold.fold, replace(fold.fold))


def oldest_kept() -> AbstractContextManager[None]:
    """In an hour or day the first report stays, and later ones don't replace it."""

    def oldest(usages: Iterable[Usage], window: EventTimeWindow | None) -> dict[int, Usage]:
        if window is None:
            return survivors(usages, window)
        standing: dict[tuple[int, str, int], Usage] = {}
        effective = [usage for usage in usages if usage.cancelled_position is None]
        for one in sorted(effective, key=lambda usage: usage.position):
            standing.setdefault((one.customer, one.dimensions, window_start(one.occurred_at, window)), one)
        return {
            one.position: standing[one.customer, one.dimensions, window_start(one.occurred_at, window)]
            for one in effective
        }

    return replaced(survivors, oldest)


def adjustment_misses_cancel() -> AbstractContextManager[None]:
    """What is owed on a closed period leaves out what was cancelled since."""

    def replace(changes: Method) -> Method:
        def without(*arguments: Any) -> Iterable[Change]:
            return (one for one in changes(*arguments) if one.before is one.now or one.now.counts is not None)

        return without

    return method_replaced(UsageView, "changes", replace)


def promoted_behind() -> AbstractContextManager[None]:
    """A generation is said to be up to date before it is promoted, and isn't."""

    def replace(bring_up: Method) -> Method:
        def only_said(self: Generations, generation: Any, *arguments: Any, **named: Any) -> Any:
            if generation.position == 0:
                return bring_up(self, generation, *arguments, **named)
            head = self.ledger.head()
            with self.views.of(generation.number).writing() as rows:
                if rows.position() < head:
                    rows.advance(head, "said")
            return head

        return only_said

    return method_replaced(Generations, "bring_up", replace)


def rules_of_now() -> AbstractContextManager[None]:
    """A figure as of an earlier position follows the rules of now."""

    def replace(in_force: Method) -> Method:
        def of_now(self: ProjectedMeter, _: AsOf | None = None) -> Any:
            return in_force(self)

        return of_now

    return method_replaced(ProjectedMeter, "in_force", replace)


def conflict_taken_for_duplicate() -> AbstractContextManager[None]:
    """Another report under a taken identifier is answered as the same one."""

    def yes(_: ReportedUse, __: object) -> bool:
        return True

    return method_replaced(ReportedUse, "is_said_by", lambda _: yes)


def stale_decision_kept() -> AbstractContextManager[None]:
    """A report is stored though its meter was changed while it was decided on."""

    def replace(insert: Method) -> Method:
        def unchecked(self: SQLiteLedgerRecorder, rows: Any, _: object = None, beside: Any = None) -> Any:
            return insert(self, rows, None, beside)

        return unchecked

    return method_replaced(SQLiteLedgerRecorder, "insert_rows", replace)


def batch_in_two() -> AbstractContextManager[None]:
    """A batch is stored in two transactions."""

    def replace(insert: Method) -> Method:
        def halves(self: Any, rows: Any, unless_moved: Any = None, beside: Any = None) -> Any:
            if len(rows) < 2 or beside is not None:
                return insert(self, rows, unless_moved, beside)
            return [*insert(self, rows[:1], unless_moved), *insert(self, rows[1:], unless_moved)]

        return halves

    return method_replaced(SQLiteLedgerRecorder, "insert_rows", replace)


def answered_before_stored() -> AbstractContextManager[None]:
    """Every seventh write is acknowledged and lost."""
    count = 0

    def replace(insert: Method) -> Method:
        def lost(self: SQLiteLedgerRecorder, rows: Any, unless_moved: Any = None, beside: Any = None) -> Any:
            nonlocal count
            count += 1
            if count % 7:
                return insert(self, rows, unless_moved, beside)
            return range(self.head() + 1, self.head() + 1 + len(rows))

        return lost

    return method_replaced(SQLiteLedgerRecorder, "insert_rows", replace)


def stale_read() -> AbstractContextManager[None]:
    """A question is answered from before the call: the read models are brought up by one page at most."""

    def replace(head: Method) -> Method:
        def near(self: Projector) -> int:
            with self.views.reading() as rows:
                return min(head(self), rows.position() + PAGE)

        return near

    return method_replaced(Projector, "head", replace)


def one_too_many_known() -> AbstractContextManager[None]:
    """As of a position, the event after it is known too."""

    def replace(includes: Method) -> Method:
        def one_more(self: AsOf, recorded_at: int, position: int) -> bool:
            return includes(self, recorded_at, position) or (
                self.position is not None and position == self.position + 1
            )

        return one_more

    return method_replaced(AsOf, "includes", replace)


CANARIES: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    plant.__name__.replace("_", "-"): plant
    for plant in (
        cancel_ignored,
        duplicate_counted,
        late_event_dropped,
        oldest_kept,
        adjustment_misses_cancel,
        promoted_behind,
        rules_of_now,
        conflict_taken_for_duplicate,
        stale_decision_kept,
        batch_in_two,
        answered_before_stored,
        stale_read,
        one_too_many_known,
    )
}


@contextmanager
def planted(name: str | None) -> Generator[None]:
    """Plant a fault for a while; none where there is no name."""
    if name is None:
        yield
        return
    with CANARIES[name]():
        yield
