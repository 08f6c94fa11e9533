"""Explanations: every meter event behind a total, with its verdict and its contribution."""

from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice

from ...domain.closed_period import ClosedPeriod
from ...domain.counting import UsageDigest, UsageRecord
from ...domain.decimals import ZERO
from ...domain.totals import Totals
from ...projections.dimensions import Group
from ...projections.usage_view import UsageVerdict, UsageView
from ..ledger.ledger import Ledger
from ..ledger.retry import retry_on_connection_loss
from ..results import ExplainedEvent, Explanation, ExplanationPage, ExplanationStream, Verdict
from ..validation import optional_customer, require_bool, require_choice, require_int, require_time_range
from .closed_query import query_closed_period, query_closing
from .dimension_query import Where, parse_dimensions
from .events import MAX_EVENTS_PER_PAGE, cancellation_positions, event_view_fields, verdict_for
from .meter_query import MeterQuery, MeterQueryFactory
from .total_results import CountedRange, TotalResults

_BATCH_SIZE = 1_000
"""The number of meter events of an explanation that are in memory."""
_MERGE_BATCH = 20
"""The number of partial totals that are held before they are merged."""


class ExplanationQueries:
    """Explains totals, and the frozen totals of closed periods."""

    def __init__(self, ledger: Ledger, meter_queries: MeterQueryFactory) -> None:
        self._ledger = ledger
        self._meter_queries = meter_queries

    @retry_on_connection_loss
    def explain(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        as_of: datetime | int | None,
        where: Where | None,
        group_by: Sequence[str],
        closed: bool,
    ) -> Explanation:
        """Return every meter event behind a total, with its verdict and contribution."""
        with self.open_explanation(event_name, customer, start, end, as_of, where, group_by, closed) as stream:
            return Explanation(
                stream.total, stream.formula, stream.event_time_window, stream.revision, stream.position,
                stream.digest, stream.dimension_keys, tuple(stream.events),
            )  # fmt: skip

    @contextmanager
    def open_explanation(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        as_of: datetime | int | None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
        closed: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Generator[ExplanationStream]:
        """Open an explanation whose events are read while they are iterated, in one consistent state.

        The usage is read for the total, which the contributions depend on, and again for the events unless it is short.
        """
        (start, end, bounds), customer = require_time_range(start, end), optional_customer(customer)
        dimensions = parse_dimensions(where, group_by)
        if require_bool(closed, "closed"):
            opened = query_closed_period(
                self._ledger, self._meter_queries, event_name, customer, start, end, as_of, dimensions
            )
        else:
            opened = self._meter_queries.query(event_name, as_of, bounds, dimensions)
        with (
            opened as query,
            self._explained(query, customer, start, end, dimensions.group_by, progress) as explanation,
        ):
            yield explanation

    @contextmanager
    def open_closing(self, period: ClosedPeriod, position: int) -> Generator[ExplanationStream]:
        """Explain the total of a closed period under its rules, as known at a position: that of its closing, or later.

        The closing may have been reopened since.
        """
        with (
            query_closing(self._meter_queries, period, position) as query,
            self._explained(query, period.customer, period.start, period.end) as explanation,
        ):
            yield explanation

    @contextmanager
    def _explained(
        self,
        query: MeterQuery,
        customer: str | None,
        start: datetime,
        end: datetime,
        group_by: Sequence[str] = (),
        progress: Callable[[int], None] | None = None,
    ) -> Generator[ExplanationStream]:
        rules, customer_id = query.rules, query.customer_id(customer)
        summary, batch = _Summary(query.view), list[UsageVerdict]()
        for batch in _batches(query.view.verdicts(customer_id, *query.view.bounds, query.as_of)):
            summary.add(batch)
            if progress is not None:
                progress(summary.event_count)
        is_one_batch, totals_by_group = summary.event_count == len(batch), summary.totals_by_group()
        events = _EventsInBlock(
            self._explained_events(
                iter(batch) if is_one_batch else query.view.verdicts(customer_id, *query.view.bounds, query.as_of),
                query,
                Totals.merge_all(list(totals_by_group.values())),
            )
        )
        try:
            yield ExplanationStream(
                TotalResults(rules, group_by).total(
                    totals_by_group, customer, CountedRange.of(start, end, query.view.bounds)
                ),
                rules.formula,
                rules.event_time_window,
                query.revision,
                query.position,
                summary.digest.hexdigest(),
                query.view.dimension_keys,
                summary.event_count,
                events,
            )
        finally:
            events.close()

    @retry_on_connection_loss
    def explain_page(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        as_of: datetime | int | None,
        where: Where | None,
        closed: bool,
        verdicts: Collection[str] | None,
        offset: int,
        limit: int,
        max_events: int,
    ) -> ExplanationPage | None:
        """Explain a total with some of its events, read at once; None if there are more than `max_events`."""
        (start, end, bounds), customer = require_time_range(start, end), optional_customer(customer)
        offset, limit = require_int(offset, "offset", 0, 2**31), require_int(limit, "limit", 0, MAX_EVENTS_PER_PAGE)
        max_events = require_int(max_events, "max_events", 0, 2**31)
        wanted = None if verdicts is None else {require_choice(verdict, "verdicts", Verdict) for verdict in verdicts}
        dimensions = parse_dimensions(where, ())
        if require_bool(closed, "closed"):
            opened = query_closed_period(
                self._ledger, self._meter_queries, event_name, customer, start, end, as_of, dimensions
            )
        else:
            opened = self._meter_queries.query(event_name, as_of, bounds, dimensions)
        with opened as query:
            rules, view = query.rules, query.view
            found = view.verdicts(query.customer_id(customer), *view.bounds, query.as_of)
            of_total = list(islice(found, max_events + 1))
            if len(of_total) > max_events:
                return None
            summary = _Summary(view)
            summary.add(of_total)
            totals_by_group = summary.totals_by_group()
            contribution_of = rules.contributions(Totals.merge_all(list(totals_by_group.values())))
            contributions = [contribution_of(one.record) if one.is_counted else ZERO for one in of_total]
            kinds = list(map(verdict_for, of_total))
            matching = [index for index, kind in enumerate(kinds) if wanted is None or kind in wanted]
            page = matching[offset : offset + limit]
            fields = event_view_fields(self._ledger, [of_total[index] for index in page], view)
            return ExplanationPage(
                TotalResults(rules, ()).total(totals_by_group, customer, CountedRange.of(start, end, view.bounds)),
                rules.formula, rules.event_time_window, query.revision, query.position, summary.digest.hexdigest(),
                view.dimension_keys,
                len(of_total), {verdict: kinds.count(verdict) for verdict in Verdict},
                tuple(sorted(cancellation_positions(of_total))), len(matching),
                tuple(ExplainedEvent(*of_event, contributions[index])
                      for index, of_event in zip(page, fields, strict=True)),
            )  # fmt: skip

    def _explained_events(
        self, verdicts: Iterator[UsageVerdict], query: MeterQuery, totals: Totals
    ) -> Iterator[ExplainedEvent]:
        contribution_of = query.rules.contributions(totals)
        for batch in _batches(verdicts):
            events = zip(batch, event_view_fields(self._ledger, batch, query.view), strict=True)
            for verdict, fields in events:
                contribution = contribution_of(verdict.record) if verdict.is_counted else ZERO
                yield ExplainedEvent(*fields, contribution)


class _EventsInBlock(Iterator[ExplainedEvent]):
    """The events of an explanation, which can only be read in the state of its total, until the end of its block."""

    def __init__(self, events: Iterator[ExplainedEvent]) -> None:
        self._events = events
        self._is_closed = False

    def __next__(self) -> ExplainedEvent:
        if self._is_closed:
            raise RuntimeError(
                "The events of an explanation were read after its `with` block had ended. Iterate over them inside the "
                "block of `open_explanation`, or use `explain`, which returns all of them at once."
            )
        return next(self._events)

    def close(self) -> None:
        """Let no more events be read."""
        self._is_closed = True


class _Summary:
    """The totals by group, the digest and the number of the meter events behind a total, added in order of time."""

    def __init__(self, view: UsageView) -> None:
        self.digest = UsageDigest()
        self.event_count = 0
        self._view = view
        self._parts: defaultdict[Group, list[Totals]] = defaultdict(list)

    def add(self, verdicts: Sequence[UsageVerdict]) -> None:
        """Add the next meter events."""
        counted: defaultdict[Group, list[UsageRecord]] = defaultdict(list)
        for verdict in verdicts:
            if verdict.is_counted:
                self.digest.add(verdict.record)
                counted[self._view.group_of(verdict.record)].append(verdict.record)
        for group, records in counted.items():
            parts = self._parts[group]
            parts.append(Totals.with_unique_values(records))
            if len(parts) >= _MERGE_BATCH:
                parts[:] = [Totals.merge_all(parts)]
        self.event_count += len(verdicts)

    def totals_by_group(self) -> dict[Group, Totals]:
        """Return the totals of the counted events of each group."""
        return {group: Totals.merge_all(parts) for group, parts in self._parts.items()}


def _batches(verdicts: Iterator[UsageVerdict]) -> Iterator[list[UsageVerdict]]:
    while batch := list(islice(verdicts, _BATCH_SIZE)):
        yield batch
