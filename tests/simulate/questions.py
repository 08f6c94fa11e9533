"""Questions: asked of the ledger, and answered again from the book by plain loops."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from tallybook.application import Adjustment, Explanation, Metering, Total

from .done import Done
from .meters import is_view_of
from .model import Book, Bounds, Row, Stand, bounds_of, quantity_of
from .periods import is_told

Fits = Callable[[Book, int, Any], object]
"""What differs between an answer and the book up to a position; nothing where it fits."""


@dataclass(frozen=True)
class Ask:
    """A question. Its answer must be that of one moment between its beginning and its end, of the ledger as a whole."""

    said: str
    question: Callable[[Metering], Any]
    fits: Fits
    event_name: str | None = None

    def __str__(self) -> str:
        return f"ask {self.said}"

    def do(self, metering: Metering) -> Any:
        """Ask it."""
        return self.question(metering)

    def judge(self, done: Done) -> None:
        """It fits one of the positions there were."""
        done.expect(not done.wrote, "asking changes nothing", wrote=done.wrote)
        if done.was_cut_off or done.was_kept_out:
            return
        if done.error is not None:
            is_missing = any(self.event_name not in done.book.meters(head) for head in done.heads)
            done.expect(self.event_name and is_missing and done.code == "no_meter", "refused", code=done.code)
            return
        found = [self.fits(done.book, head, done.value) for head in dict.fromkeys(done.heads)]
        done.expect(not all(found), f"another answer than the plain one: {self.said}", found=found, heads=done.heads)


def _figures(total: Total) -> tuple[Fraction, int, Fraction | None]:
    return Fraction(total.sum), total.count, None if total.last is None else Fraction(total.last)


def _misfit(found: object, expected: object) -> object:
    return None if found == expected else f"{found!r} is told, {expected!r} expected"


def total(meter: str, customer: str | None, bounds: Bounds, as_of: int | None = None) -> Ask:
    """One total, now or as of a position."""

    def fits(book: Book, head: int, told: Total) -> object:
        until = head if as_of is None else min(as_of, head)
        expected = book.figures(meter, customer, bounds, until)
        quantity = quantity_of(expected, book.rules(meter, until).formula)
        told_of = (*_figures(told), Fraction(told.value), Fraction(told.billable))
        return _misfit(told_of, (*expected, quantity, max(quantity, Fraction(0))))

    return Ask(
        f"total {meter!r:.20} {customer!r:.12} as of {as_of}",
        lambda metering: metering.total(meter, customer, *bounds, as_of=as_of), fits, meter,
    )  # fmt: skip


def totals(meter: str, bounds: Bounds, as_of: int | None = None) -> Ask:
    """The totals of all customers with usage that counts."""

    def fits(book: Book, head: int, told: Sequence[Total]) -> object:
        until = head if as_of is None else min(as_of, head)
        counting = [one for one in book.counting(meter, until) if bounds[0] <= one.occurred_at < bounds[1]]
        names = sorted({one.customer for one in counting})
        expected = [(name, book.figures(meter, name, bounds, until)) for name in names]
        return _misfit([(one.customer, _figures(one)) for one in told], expected)

    return Ask(
        f"totals {meter!r:.20} as of {as_of}",
        lambda metering: metering.totals(meter, *bounds, as_of=as_of), fits, meter,
    )  # fmt: skip


def summaries(meter: str, customer: str | None, bounds: Bounds, window: str, timezone: str) -> Ask:
    """The totals of windows: each is that of its own range, none overlaps, and none is left out."""

    def fits(book: Book, head: int, told: Sequence[Total]) -> object:
        for one in told:
            found = _misfit(_figures(one), book.figures(meter, customer, (one.start, one.end), head))
            if found is not None:
                return found
        if any(earlier.end > later.start for earlier, later in pairwise(told)):
            return f"windows overlap: {told}"
        return _misfit(sum(one.count for one in told), book.figures(meter, customer, bounds, head)[1])

    return Ask(
        f"summaries {meter!r:.20} {customer!r:.12} by {window} of {timezone}",
        lambda metering: metering.summaries(meter, customer, *bounds, window=window, timezone=timezone), fits, meter,
    )  # fmt: skip


def explanation(meter: str, customer: str | None, bounds: Bounds, as_of: int | None = None) -> Ask:
    """Every event behind a total, with its verdict; what they add is the total."""

    def fits(book: Book, head: int, told: Explanation) -> object:
        until = head if as_of is None else min(as_of, head)
        expected = book.stands(meter, customer, bounds, until)
        found = {one.identifier: (str(one.verdict), Fraction(one.contribution)) for one in told.events}
        added = sum((one.contribution for one in told.events), start=told.total.value * 0)
        return (
            _misfit(list(found.items()), list(expected.items()))
            or _misfit(_figures(told.total), book.figures(meter, customer, bounds, until))
            or _misfit(added, told.total.value)
            or _misfit((told.digest, told.position), (book.digest(meter, customer, bounds, until), until))
        )

    return Ask(
        f"explain {meter!r:.20} {customer!r:.12} as of {as_of}",
        lambda metering: metering.explain(meter, customer, *bounds, as_of=as_of), fits, meter,
    )  # fmt: skip


def events(meter: str) -> Ask:
    """All meter events of a meter: as many as there are rows."""

    def fits(book: Book, head: int, told: Sequence[Any]) -> object:
        rows = [row for row in book.of("UsageRecorded", until=head) if row.said["event_name"] == meter]
        found = {one.identifier: (one.position, one.payload, one.recorded_at) for one in told}
        return _misfit(found, {row.identifier: (row.position, row.said["payload"], row.recorded_at) for row in rows})

    return Ask(f"events {meter!r:.20}", lambda metering: metering.events(meter, limit=10_000), fits, meter)


def meters() -> Ask:
    """All meters, as they are."""

    def fits(book: Book, head: int, told: Sequence[Any]) -> object:
        expected = book.meters(head)
        is_so = [one.event_name for one in told] == sorted(expected) and all(
            is_view_of(one, expected[one.event_name]) for one in told
        )
        return None if is_so else f"{told!r} is told, {expected!r} expected"

    return Ask("meters", lambda metering: metering.meters(), fits)


def closed_periods(meter: str, as_of: int | None = None) -> Ask:
    """The closed periods that stand: as they were frozen."""

    def fits(book: Book, head: int, told: Sequence[Any]) -> object:
        until = head if as_of is None else min(as_of, head)
        rows = sorted(book.standing(meter, None, until), key=lambda row: (row.said["customer"], bounds_of(row)))
        is_so = len(rows) == len(told) and all(is_told(one, row) for one, row in zip(told, rows, strict=True))
        return None if is_so else f"{told!r} is told, {rows!r} expected"

    return Ask(
        f"closed periods {meter!r:.20} as of {as_of}",
        lambda metering: metering.closed_periods(meter, as_of=as_of), fits, meter,
    )  # fmt: skip


def adjustments(meter: str) -> Ask:
    """What is owed on closed periods: frozen and owed are what it is now, and each event behind that is told."""

    def fits(book: Book, head: int, told: Sequence[Adjustment]) -> object:
        owed = {(one.period.customer, (one.period.start, one.period.end)): one for one in told}
        for row in book.standing(meter, None, head):
            found = _owed(book, head, row, owed.pop((row.said["customer"], bounds_of(row)), None))
            if found is not None:
                return found
        return f"owed on no closed period: {owed!r}" if owed else None

    return Ask(f"adjustments {meter!r:.20}", lambda metering: metering.adjustments(meter), fits, meter)


def _owed(book: Book, head: int, row: Row, told: Adjustment | None) -> object:
    """What differs of the adjustment of one closing, under the rules that it was closed with."""
    said, bounds = row.said, bounds_of(row)
    meter, customer = said["event_name"], said["customer"]
    rules = book.rules(meter, said["position"])
    before = book.stands(meter, customer, bounds, said["position"], rules)
    now = book.stands(meter, customer, bounds, head, rules)
    figure = book.quantity(meter, customer, bounds, head, rules)
    by_rules = book.quantity(meter, customer, bounds, head) - figure
    touched = {name for name, stood in now.items() if before.get(name) != stood}
    if told is None:
        return _misfit(None, (touched, by_rules)) if touched or by_rules else None
    frozen = Fraction(said["quantity"])
    return (
        _misfit(Fraction(told.quantity), figure)
        or _misfit(Fraction(told.difference), figure - frozen)
        or _misfit(Fraction(told.billable_difference), max(figure, Fraction(0)) - Fraction(said["billable"]))
        or _misfit(Fraction(told.rules_difference), by_rules)
        or _misfit({one.identifier: _told_change(one) for one in told.events}, _changes(before, now, touched))
    )


def _told_change(event: Any) -> tuple[str | None, str, Fraction]:
    return None if event.before is None else str(event.before), str(event.verdict), Fraction(event.change)


def _changes(
    before: Mapping[str, Stand], now: Mapping[str, Stand], touched: set[str]
) -> dict[str, tuple[str | None, str, Fraction]]:
    nothing = None, Fraction(0)
    return {
        name: (before.get(name, nothing)[0], now[name][0], now[name][1] - before.get(name, nothing)[1])
        for name in touched
    }


def verify() -> Ask:
    """The read models and the closed periods are those of a fresh fold."""

    def fits(_: Book, __: int, told: Any) -> object:
        differing = [f"{table.table}: {table.difference}" for table in told.tables if not table.is_equal]
        return None if told.is_equal else f"{differing or told.differing_periods} differ from a fresh fold"

    return Ask("verify", lambda metering: metering.verify(), fits)


def catch_up() -> Ask:
    """The read models reach the head."""
    return Ask("catch up", lambda metering: metering.catch_up(), lambda _, head, told: _misfit(told, head))
