"""SQL statements that compute totals from the stored events: for other engines, and for auditors."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime

from ...domain.errors import InvalidParameter
from ...domain.rules_schedule import EffectiveRules, RulesInRange
from ...domain.totals import Totals
from ..archive.sql.dialects import DialectName
from ..archive.sql.document import SqlDocument, lines_document, totals_document
from ..archive.sql.statement import UsageSelection
from ..archive.sql.totals_statement import TotalsQuery, ValueLimits
from ..ledger.ledger import Ledger
from ..ledger.retry import retry_on_connection_loss
from ..validation import TimeRange, optional_customer, require_bool, require_choice, require_time_range
from .closed_query import query_closed_period
from .dimension_query import DimensionArguments, Where, parse_dimensions
from .meter_query import MeterQuery, MeterQueryFactory
from .period_totals import counted_usage


class SqlQueries:
    """Returns SQL that other engines run on the stored events of the ledger, or of an archive of it.

    A document computes what was known at one position of the ledger, so its result never changes. The `dialect` is
    `duckdb`, `spark`, `postgres`, `sqlite` or `clickhouse`.
    """

    def __init__(self, ledger: Ledger, meter_queries: MeterQueryFactory) -> None:
        self._ledger = ledger
        self._meter_queries = meter_queries

    @retry_on_connection_loss
    def totals(
        self,
        event_name: str,
        start: datetime,
        end: datetime,
        *,
        dialect: str,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
    ) -> SqlDocument:
        """Return SQL for the total of each customer in [start, end), as `metering.totals` returns them.

        With `group_by`, the result has the groups of each customer instead. Raises as `metering.totals` does, and
        InvalidParameter if the engine can't compute the result exactly.
        """
        time_range, dimensions = require_time_range(start, end), parse_dimensions(where, group_by)
        dialect_name = self._require_dialect(dialect)
        with self._meter_queries.query(event_name, as_of, time_range.bounds, dimensions) as query:
            by_customer: defaultdict[int, list[Totals]] = defaultdict(list)
            for (_, customer_id, _), totals in query.view.totals(None, time_range.bounds, query.as_of).items():
                by_customer[customer_id].append(totals)
            limits = ValueLimits.of([Totals.merge_all(parts) for parts in by_customer.values()])
            selection = usage_selection(query, None, dimensions)
            totals_query = TotalsQuery(selection, query.rules, True, dimensions.group_by, limits)
            return totals_document(totals_query, dialect_name, time_range.start, time_range.end)

    @retry_on_connection_loss
    def total(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        dialect: str,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
        closed: bool = False,
    ) -> SqlDocument:
        """Return SQL for the total of `customer` in [start, end), or of all customers together if None.

        With `group_by`, the result has the groups instead. With `closed`, it is the frozen total of the closed period
        [start, end), under its rules. Raises as `metering.total` does, PeriodNotClosed, and InvalidParameter if the
        engine can't compute the result exactly.
        """
        time_range, customer = require_time_range(start, end), optional_customer(customer)
        dimensions, dialect_name = parse_dimensions(where, group_by), self._require_dialect(dialect)
        is_closed = require_bool(closed, "closed")
        with self._query(event_name, customer, time_range, as_of, dimensions, is_closed) as query:
            limits = ValueLimits.of([_totals_of(query, customer, time_range, is_closed)])
            selection = usage_selection(query, customer, dimensions)
            totals_query = TotalsQuery(selection, query.rules, False, dimensions.group_by, limits)
            return totals_document(totals_query, dialect_name, time_range.start, time_range.end)

    @retry_on_connection_loss
    def digest_lines(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        dialect: str,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        closed: bool = False,
    ) -> SqlDocument:
        """Return SQL for one line `position,occurred_at,value` for each event that counts, in the order of the digest.

        The SHA-256 of the lines, each with a line feed, is the digest of the explanation with these arguments; with
        `closed`, that of the closed period [start, end). Raises as `total` does.
        """
        time_range, customer = require_time_range(start, end), optional_customer(customer)
        dimensions, dialect_name = parse_dimensions(where, ()), self._require_dialect(dialect)
        is_closed = require_bool(closed, "closed")
        with self._query(event_name, customer, time_range, as_of, dimensions, is_closed) as query:
            selection = usage_selection(query, customer, dimensions)
            return lines_document(selection, query.rules, dialect_name, time_range.start, time_range.end)

    def _require_dialect(self, dialect: object) -> DialectName:
        """Return a dialect. Raise InvalidParameter if it reads the ledger's own table, which lacks pruned usage."""
        name = require_choice(dialect, "dialect", DialectName)
        recorder = self._ledger.ledger_recorder
        if name in {DialectName.SQLITE, DialectName.POSTGRES} and recorder.has_pruned_rows():
            raise InvalidParameter(
                f"Old usage of this ledger is in the archive {recorder.last_pruning().archive}, and the SQL of "
                f"{name.value!r} reads the ledger's table. Use 'duckdb', 'spark' or 'clickhouse' on the archive.",
                field="dialect",
                value=dialect,
            )
        return name

    def _query(
        self,
        event_name: str,
        customer: str | None,
        time_range: TimeRange,
        as_of: datetime | int | None,
        dimensions: DimensionArguments,
        is_closed: bool,
    ) -> AbstractContextManager[MeterQuery]:
        start, end, bounds = time_range
        if not is_closed:
            return self._meter_queries.query(event_name, as_of, bounds, dimensions)
        return query_closed_period(
            self._ledger, self._meter_queries, event_name, customer, start, end, as_of, dimensions
        )


def usage_selection(query: MeterQuery, customer: str | None, dimensions: DimensionArguments) -> UsageSelection:
    """Return the usage of a query, under the revisions of the rules that apply to its range."""
    parts: list[RulesInRange] = []
    for part in query.view.parts:
        if parts and parts[-1].effective.revision == part.revision:  # folded in several parts
            parts[-1] = parts[-1]._replace(end=part.end)
        else:
            parts.append(RulesInRange(part.start, part.end, EffectiveRules(part.start, part.revision, part.rules)))
    return UsageSelection(
        query.event_name, query.recorded_name, tuple(parts), query.position, customer, dimensions.where
    )


def _totals_of(query: MeterQuery, customer: str | None, time_range: TimeRange, is_closed: bool) -> Totals:
    if is_closed and customer is not None:
        return Totals.from_usage(counted_usage(query, customer))
    totals = query.view.totals(query.customer_id(customer), time_range.bounds, query.as_of)
    return Totals.merge_all(list(totals.values()))
