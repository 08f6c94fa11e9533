"""Verifying: the read models and the closed periods against a fresh fold of the ledger."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

import msgspec

from ..domain.closed_period import ClosedPeriod, Figures
from ..domain.instants import FIRST, LAST, instant, iso, microseconds
from ..projections.projector import Progress, Projector
from ..projections.rows import AsOf, Record, Rows
from .closing import figures_of
from .ledger import Ledger
from .reading import Asked, UsageReader
from .stores.store import GenerationViews, UnreadableRow


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A row of the read models that isn't as a fresh fold makes it; None on the side where there is no such row."""

    table: str
    key: str
    found: str | None
    expected: str | None


@dataclass(frozen=True, slots=True)
class TableVerification:
    """One table of the live read models beside that of a fresh fold: SHA-256 over their rows in order."""

    table: str
    rows: int
    digest: str
    expected_digest: str
    difference: RowDifference | None

    @property
    def is_equal(self) -> bool:
        """Whether all rows are equal."""
        return self.digest == self.expected_digest


@dataclass(frozen=True, slots=True)
class PeriodDifference:
    """A closed period whose frozen figures are not those that the ledger gives for its position and rules."""

    period: ClosedPeriod
    expected: Figures


@dataclass(frozen=True, slots=True)
class Verification:
    """The read models and the closed periods, as compared with the ledger up to `position`."""

    generation: int
    position: int
    tables: tuple[TableVerification, ...]
    closed_periods: int
    differing_periods: tuple[PeriodDifference, ...]

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differing_periods and all(table.is_equal for table in self.tables)


class Verifier:
    """Folds the ledger afresh and compares."""

    def __init__(self, ledger: Ledger, views: GenerationViews, reader: UsageReader) -> None:
        self.ledger = ledger
        self.views = views
        self.reader = reader

    def verify(self, progress: Callable[[Progress], None] | None = None) -> Verification:
        """Compare the live generation, table by table, and every closed period, also reopened ones."""
        with self.reader.caught_up(also_damaged=True) as live:
            position = live.position()
            in_force = {meter.event_name: meter.rules for meter in self.ledger.meters(AsOf(position=position))}
            with self.views.scratch(in_force) as scratch:

                def reached(page: Progress) -> None:
                    live.position()  # a store may take who asks nothing for minutes for one that has died
                    if progress is not None:
                        progress(page)

                Projector(self.ledger, scratch).catch_up(reached, until=position)
                with scratch.reading() as fresh:
                    tables = tuple(_compared(table, live, fresh) for table in (*fresh.tables(), _OF_ITSELF))
                    stored_at = self.ledger.closing_positions()
                    periods = [
                        (one, at)
                        for each in self.ledger.closings(as_of=AsOf(position=position))
                        for one, at in zip(each.closings, stored_at[each.id], strict=False)
                    ]
                    differing = tuple(found for one in periods if (found := self._period(fresh, *one)) is not None)
        return Verification(live.generation, position, tables, len(periods), differing)

    def _period(self, fresh: Rows, period: ClosedPeriod, stored_at: int) -> PeriodDifference | None:
        """How a closing differs from what the ledger gives. It can know of nothing that came after it."""
        meter = fresh.meters()[period.event_name]
        then = AsOf(position=min(period.position, stored_at - 1))
        view = self.reader.view(fresh, meter, meter.in_force(then).rules)
        asked = Asked(view, meter.in_force(then).revision, lambda: then.position or 0, then)
        expected = figures_of(asked, period.customer, (microseconds(period.start), microseconds(period.end)))
        frozen = Figures.model_validate({field: getattr(period, field) for field in Figures.model_fields})
        return None if frozen == expected else PeriodDifference(period, expected)


def _compared(table: str, live: Rows, fresh: Rows) -> TableVerification:
    found_digest, expected_digest = hashlib.sha256(), hashlib.sha256()
    difference: RowDifference | None = None
    count = 0
    for found, expected in zip_longest(_lines(live, table), _lines(fresh, table)):
        if found is not None:
            count += 1
            found_digest.update(found[1])
        if expected is not None:
            expected_digest.update(expected[1])
        if difference is None and found != expected:
            difference = _difference(table, fresh, found, expected)
    return TableVerification(table, count, found_digest.hexdigest(), expected_digest.hexdigest(), difference)


Line = tuple[Record, bytes]
_OF_ITSELF = "generations"
_KEYS = {
    _OF_ITSELF: ("column", "meter"),
    "meters": ("meter",),
    "customers": ("customer",),
    "usage": ("meter", "customer", "start", "dimensions", "position"),
    "totals": ("meter", "bucket_seconds", "start", "customer", "dimensions"),
}


def _lines(rows: Rows, table: str) -> Iterator[Line]:
    for record in _of_itself(rows) if table == _OF_ITSELF else rows.records(table):
        yield record, _encode(record) + b"\n"


def _of_itself(rows: Rows) -> Iterator[Record]:
    """What a generation says of itself: up to where it is folded, and under which rules."""
    yield Record(("ledger_mark",), (rows.ledger_mark(),))
    try:
        pinned = rows.pinned()
    except UnreadableRow:
        yield Record(("pinned",), None)
        return
    configured = {name: meter.history[0].rules for name, meter in rows.meters().items()}
    for name, rules in sorted({**configured, **pinned}.items(), key=lambda item: str(item[0])):
        yield Record(("pinned", name), (rules.model_dump(mode="json"),))


def _difference(table: str, fresh: Rows, found: Line | None, expected: Line | None) -> RowDifference:
    """The first of two rows that differ; of the one that comes first, where only one has such a key."""
    if found is not None and expected is not None and found[0].key != expected[0].key:
        found, expected = (found, None) if _order(found) < _order(expected) else (None, expected)
    line = expected or found
    assert line is not None
    key = _in_words(table, line[0].key, fresh)
    return RowDifference(table, key, _cells(found), _cells(expected))


def _in_words(table: str, key: tuple[int | str, ...], rows: Rows) -> str:
    """The key of a row with the names that its numbers stand for, as far as these are known."""
    meters = {meter.number: name for name, meter in rows.meters().items()}
    words: list[str] = []
    for column, value in zip(_KEYS[table], key, strict=False):
        shown: object = value
        if isinstance(value, int):
            if column == "meter":
                shown = meters.get(value, value)
            elif column == "customer" and 1 <= value <= rows.last_customer_number():
                shown = rows.customer_names([value])[value]
            elif column == "start" and _FIRST <= value <= _LAST:
                shown = iso(instant(value))
        words.append(f"{column} {shown}")
    return ", ".join(word for word in words if word != "dimensions ")


def _order(line: Line) -> list[tuple[int, int | str]]:
    """The place of a row among others, as SQLite orders keys: numbers, texts, and bytes, which only damage makes."""
    return [(_RANKS.get(type(part), 0), part) for part in line[0].key]


def _cells(line: Line | None) -> str | None:
    if line is None:
        return None
    return "unreadable" if line[0].cells is None else _encode(line[0].cells).decode()


_encode = msgspec.json.Encoder().encode
_FIRST, _LAST = microseconds(FIRST), microseconds(LAST)
_RANKS: dict[type, int] = {str: 1, bytes: 2}
