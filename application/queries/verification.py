"""Verify the read models and the closed periods against a new projection of the ledger."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest

import msgspec

from ...domain.closed_period import ClosedPeriod, PeriodTotals, Settlement
from ...domain.decimals import EXACT_CONTEXT
from ...domain.rules_schedule import ALWAYS, RulesPart
from ...domain.timestamps import MAX_DATETIME, MIN_DATETIME, from_microseconds, to_iso, to_microseconds
from ...projections.models import AsOf, PinnedMeter
from ...projections.ports import ReadModelReader, TableRow
from ...projections.projector import Progress, Projector
from ..ledger.closings import closing_positions
from ..ledger.ledger import Ledger
from ..storage.ports import CorruptedReadModel, GenerationStore
from .control_totals import ControlTotalComparer, ControlTotalDifference
from .meter_query import MeterQueryFactory
from .period_totals import group_keys, totals_at
from .range_views import bounds_of, under_rules_of


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A row of the read models that differs from a new projection.

    `found` is the stored row, None if it is missing; `expected` is the projected row, None if there should be none.
    """

    table: str
    key: str
    found: str | None
    expected: str | None


@dataclass(frozen=True, slots=True)
class TableVerification:
    """One table of the live read models, compared with a new projection.

    The digests are SHA-256 over the rows in order; `difference` is the first row that differs.
    """

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
    """A closed period whose frozen totals differ from those computed from the ledger at its position and rules.

    If `settlement` is set, its totals differ, and `expected` are those at its position.
    """

    period: ClosedPeriod
    expected: PeriodTotals
    settlement: Settlement | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of comparing read models, closed periods and billing runs with the ledger up to `position`.

    `differing_runs` are the control totals of billing runs that aren't the sums of the closings and of the usage.
    `missing_triggers` are those that protect stored events and are missing or disabled.
    """

    generation: int
    position: int
    tables: tuple[TableVerification, ...]
    closed_periods: int
    differing_periods: tuple[PeriodDifference, ...]
    missing_triggers: tuple[str, ...] = ()
    billing_runs: int = 0
    differing_runs: tuple[ControlTotalDifference, ...] = ()

    @property
    def is_equal(self) -> bool:
        """Whether there is no difference, and the triggers are there that protect stored events."""
        differs = self.differing_periods or self.differing_runs or self.missing_triggers
        return not differs and all(table.is_equal for table in self.tables)


StoredClosing = tuple[ClosedPeriod, int, ClosedPeriod | None]
"""A closing, the position of its event in the ledger, and one before it with the same rules, if there is one."""


class Verifier:
    """Projects the ledger into temporary read models and compares."""

    def __init__(
        self, ledger: Ledger, generations: GenerationStore, meter_queries: MeterQueryFactory, projector: Projector
    ) -> None:
        self._ledger = ledger
        self._generations = generations
        self._meter_queries = meter_queries
        self._projector = projector
        self._control_totals = ControlTotalComparer(ledger, meter_queries)

    def verify(self, progress: Callable[[Progress], None] | None = None) -> Verification:
        """Compare each table of the live generation, every closed period, also reopened ones, and all billing runs."""
        with self._meter_queries.session(accept_outdated_rules=True) as live:
            position = live.position()
            meters = self._ledger.meters(AsOf(position=position))
            pinned = {meter.event_name: PinnedMeter.of(meter) for meter in meters}
            with self._generations.temporary(pinned) as temporary:

                def report(page: Progress) -> None:
                    live.position()  # a database may drop a session that sends no query for minutes
                    if progress is not None:
                        progress(page)

                Projector(self._ledger, temporary, workers=self._projector.workers).catch_up(report, until=position)
                with temporary.read_session() as expected:
                    table_names = (*expected.table_names(), _GENERATIONS)
                    tables = tuple(_compare_table(table, live, expected) for table in table_names)
                    periods = self.closings(position)
                    differences = tuple(
                        difference for closing in periods for difference in self._period_differences(expected, *closing)
                    )
                    runs = self._control_totals.closed_runs(position)
                    differing_runs = tuple(self._control_totals.differences(expected, runs))
        triggers = tuple(self._ledger.ledger_recorder.missing_triggers())
        return Verification(
            live.generation, position, tables, len(periods), differences, triggers, len(runs), differing_runs
        )

    def closings(self, position: int) -> list[StoredClosing]:
        """Return all closings up to a position of the ledger."""
        positions = closing_positions(self._ledger.ledger_recorder)
        stored = [
            (period, stored_at, customer_periods.closed_periods[:index])
            for customer_periods in self._ledger.closed_periods(as_of=AsOf(position=position))
            for index, (period, stored_at) in enumerate(
                zip(customer_periods.closed_periods, positions[customer_periods.id], strict=False)
            )
        ]
        first_of_range: dict[_RangeAtPosition, tuple[int, ClosedPeriod]] = {}
        for period, stored_at, _ in stored:
            key = _range_at_position(period)
            if key not in first_of_range or stored_at < first_of_range[key][0]:
                first_of_range[key] = stored_at, period
        return [
            (period, stored_at, _earlier_closing(period, (*earlier, first_of_range[_range_at_position(period)][1])))
            for period, stored_at, earlier in stored
        ]

    def _period_differences(
        self, expected: ReadModelReader, period: ClosedPeriod, stored_at: int, earlier: ClosedPeriod | None
    ) -> Iterator[PeriodDifference]:
        """Compare a closing and its settlements with the ledger. It can't include an event that was stored after it.

        It has the rules that were in force at its position, or those of an earlier closing of the same period: of the
        customer, or, for a late customer, of another one at the same position.
        """
        position = min(period.position, stored_at - 1)
        meter = self._meter_queries.open_meter(expected, period.event_name, AsOf(position=position))
        if earlier is not None:
            meter = under_rules_of(meter, bounds_of(period), earlier.rules, earlier.revision)
        totals = totals_at(meter, period, position, group_keys(period))
        if period.totals != totals:
            yield PeriodDifference(period, totals)
        invoiced: PeriodTotals | Settlement = period
        for settlement in period.settlements:
            totals = totals_at(meter, period, settlement.position)
            difference = EXACT_CONTEXT.subtract(totals.quantity, invoiced.quantity)
            billable_difference = EXACT_CONTEXT.subtract(totals.billable, invoiced.billable)
            if (totals.quantity, totals.billable, difference, billable_difference) != (
                settlement.quantity, settlement.billable, settlement.difference, settlement.billable_difference,
            ):  # fmt: skip
                yield PeriodDifference(period, totals, settlement)
            invoiced = settlement


_RangeAtPosition = tuple[str, datetime, datetime, int, int]


def _range_at_position(period: ClosedPeriod) -> _RangeAtPosition:
    return period.event_name, period.start, period.end, period.revision, period.position


def _earlier_closing(period: ClosedPeriod, earlier: Sequence[ClosedPeriod]) -> ClosedPeriod | None:
    """Return an earlier closing of a period with the same rules.

    Only a closing without usage may have those of another customer: it is that of a late customer, which is computed
    from the last closing of the period.
    """
    same = ("start", "end", "revision", "rules")
    return next(
        (
            one
            for one in earlier
            if one is not period
            and (one.customer == period.customer or not period.count)
            and all(getattr(one, name) == getattr(period, name) for name in same)
        ),
        None,
    )


def _compare_table(table: str, live: ReadModelReader, expected: ReadModelReader) -> TableVerification:
    found_digest, expected_digest = hashlib.sha256(), hashlib.sha256()
    difference: RowDifference | None = None
    count = 0
    for found_line, expected_line in zip_longest(_lines(live, table), _lines(expected, table)):
        if found_line is not None:
            count += 1
            found_digest.update(found_line[1])
        if expected_line is not None:
            expected_digest.update(expected_line[1])
        if difference is None and found_line != expected_line:
            difference = _row_difference(table, expected, found_line, expected_line)
    return TableVerification(table, count, found_digest.hexdigest(), expected_digest.hexdigest(), difference)


TableLine = tuple[TableRow, bytes]
"""A row, and its JSON with a line break, which is what the digests are computed from."""
_GENERATIONS = "generations"
_KEY_COLUMNS = {
    _GENERATIONS: ("column", "meter"),
    "meters": ("meter",),
    "customers": ("customer",),
    "usage": ("meter", "customer", "start", "dimensions", "position"),
    "totals": ("meter", "bucket_seconds", "start", "customer", "dimensions"),
    "high_water_marks": ("position",),
}


def _lines(read_models: ReadModelReader, table: str) -> Iterator[TableLine]:
    for row in _generation_rows(read_models) if table == _GENERATIONS else read_models.table_rows(table):
        yield row, _encode(row) + b"\n"


def _generation_rows(read_models: ReadModelReader) -> Iterator[TableRow]:
    """Return the generation's own metadata as rows: what it stores of the events up to its position, and its rules."""
    yield TableRow(("latest_recorded_at",), (read_models.latest_recorded_at(),))
    yield TableRow(("ledger_fingerprint",), (read_models.ledger_fingerprint(),))
    try:
        pinned = read_models.pinned()
    except CorruptedReadModel:
        yield TableRow(("pinned",), None)
        return
    configured = {
        event_name: PinnedMeter((RulesPart(ALWAYS, meter.history[0].rules),))
        for event_name, meter in read_models.meters().items()
        if meter.source is None
    }
    for event_name, (parts, source) in sorted({**configured, **pinned}.items(), key=lambda item: str(item[0])):
        rules_over_time = [(start, rules.model_dump(mode="json")) for start, rules in parts]
        yield TableRow(("pinned", event_name), (rules_over_time, source))


def _row_difference(
    table: str, read_models: ReadModelReader, found: TableLine | None, expected: TableLine | None
) -> RowDifference:
    """Describe the first difference. If the keys differ, the row with the lower key is missing on the other side."""
    if found is not None and expected is not None and found[0].key != expected[0].key:
        found, expected = (found, None) if _sort_key(found) < _sort_key(expected) else (None, expected)
    line = expected or found
    assert line is not None
    return RowDifference(table, _describe_key(table, line[0].key, read_models), _cells(found), _cells(expected))


def _describe_key(table: str, key: tuple[int | str | None, ...], read_models: ReadModelReader) -> str:
    """Return the key of a row as text, with names for ids and ISO times, as far as they are known."""
    meters = {
        folded.meter_id: event_name for event_name, meter in read_models.meters().items() for folded in meter.folded
    }
    parts: list[str] = []
    for column, value in zip(_KEY_COLUMNS[table], key, strict=False):
        text: object = value
        if isinstance(value, int):
            if column == "meter":
                text = meters.get(value, value)
            elif column == "customer" and 1 <= value <= read_models.last_customer_id():
                text = read_models.customer_names([value])[value]
            elif column == "start" and _FIRST <= value <= _LAST:
                text = to_iso(from_microseconds(value))
        parts.append(f"{column} {text}")
    return ", ".join(part for part in parts if part != "dimensions ")


def _sort_key(line: TableLine) -> list[tuple[int, int | str]]:
    """Return the key in SQLite's order: NULL, numbers, text, then bytes. Only corrupted rows have NULL or bytes."""
    return [(-1, 0) if part is None else (_RANKS.get(type(part), 0), part) for part in line[0].key]


def _cells(line: TableLine | None) -> str | None:
    if line is None:
        return None
    return "unreadable" if line[0].cells is None else _encode(line[0].cells).decode()


_encode = msgspec.json.Encoder().encode
_FIRST, _LAST = to_microseconds(MIN_DATETIME), to_microseconds(MAX_DATETIME)
_RANKS: dict[type, int] = {str: 1, bytes: 2}
