"""The everyday queries of a Metering."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

from ..projections.projector import Progress
from .archive.reader import ArchiveReader
from .archive.results import ArchiveComparison
from .metering_parts import MeteringParts
from .queries.dimension_query import Where
from .queries.verification import Verification
from .result_lists import MeterEventList, TotalList
from .results import (
    Explanation,
    ExplanationPage,
    ExplanationStream,
    MeterEventView,
    Total,
    TotalChange,
)


class MeteringQueries(MeteringParts):
    """The queries that are methods of a Metering."""

    def total(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
    ) -> Total:
        """Return the total of `customer` in [start, end); of all customers if None; zeros if there is no usage.

        `as_of` returns what was known then: at a time (before anything was recorded later) or at a ledger position.
        `where` selects usage by its dimension values, such as {"model": "small", "region": ["eu", None]}; None is the
        usage without an optional dimension. `group_by` adds the total of each combination of the values of these
        dimensions as `groups`. Raises MeterNotFound, InvalidTimeRange, InvalidAsOf or InvalidParameter.
        """
        return self._total_queries.total(event_name, customer, start, end, as_of, where, group_by)

    def totals(
        self,
        event_name: str,
        start: datetime,
        end: datetime,
        *,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
    ) -> TotalList:
        """Return the total of each customer with counted usage in [start, end), ordered by customer."""
        return self._total_queries.totals(event_name, start, end, as_of, where, group_by)

    def replay_totals(self, event_name: str, start: datetime, end: datetime) -> TotalList:
        """Return the totals computed from the ledger alone, without reading or writing the read models.

        It reads the whole ledger on each call. Raises MeterNotFound, InvalidTimeRange or ProjectionStopped.
        """
        return self._total_queries.replay_totals(event_name, start, end)

    def summaries(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        window: str,
        timezone: str = "UTC",
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
    ) -> TotalList:
        """Return a total for each `minute`, `hour`, `day`, `month` or `year` of [start, end) with counted usage.

        Windows follow the local time of `timezone`, an IANA name, and are cut at the ends of the range. `start` and
        `end` of each total are in UTC. At most 100,000 windows. Raises UnknownTimezone too.
        """
        return self._total_queries.summaries(event_name, customer, start, end, window, timezone, as_of, where, group_by)

    def events(
        self,
        event_name: str,
        *,
        customer: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | int | None = None,
        limit: int = 1_000,
        starting_after: str | None = None,
        where: Where | None = None,
    ) -> MeterEventList:
        """Return the meter events in [start, end) with their verdicts, ordered by the time they occurred.

        At most `limit` (1 to 10,000). For the next page, pass the last identifier as `starting_after`.
        """
        return self._event_queries.events(event_name, customer, start, end, as_of, limit, starting_after, where)

    def event(
        self, identifier: str, *, event_name: str | None = None, as_of: datetime | int | None = None
    ) -> MeterEventView:
        """Return a meter event with its verdict: that of the meter it was recorded for, or of a derived `event_name`.

        Raises MeterEventNotFound, also if that meter doesn't count it or it was not recorded at `as_of`.
        """
        return self._event_queries.event(identifier, event_name, as_of)

    def explain(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
        closed: bool = False,
    ) -> Explanation:
        """Return every meter event behind a total with its verdict; the contributions add up to the total.

        With `closed`, it is the frozen total of the closed period [start, end), under its rules.
        """
        return self._explanations.explain(event_name, customer, start, end, as_of, where, group_by, closed)

    def open_explanation(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
        closed: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[ExplanationStream]:
        """Explain a total of any number of meter events: they are read while they are iterated, inside a `with` block.

        Before the block, all usage is read for the total; `progress` is called with the number of events read so far.
        After the block, reading events raises RuntimeError.
        """
        return self._explanations.open_explanation(
            event_name, customer, start, end, as_of, where, group_by, closed, progress
        )

    def explain_page(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        closed: bool = False,
        verdicts: Collection[str] | None = None,
        offset: int = 0,
        limit: int = 100,
        max_events: int = 10_000,
    ) -> ExplanationPage | None:
        """Explain a total with a page of its meter events: `limit` of them, after the first `offset`.

        `verdicts` selects some, such as ["cancelled", "superseded"]. The total, the digest and the counts are those of
        all events, which are read for each page. Returns None if there are more than `max_events`: use shorter ranges,
        or `open_explanation`.
        """
        return self._explanations.explain_page(
            event_name, customer, start, end, as_of, where, closed, verdicts, offset, limit, max_events
        )

    def compare(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        since: datetime | int,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        offset: int = 0,
        limit: int = 100,
    ) -> TotalChange:
        """Return a total as of two points of the ledger, and the events that were recorded, cancelled, superseded or
        restored in between: `limit` of them, after the first `offset`. `as_of` is the later point; now if None.
        """
        return self._change_queries.compare(event_name, customer, start, end, since, as_of, where, offset, limit)

    def verify(self, progress: Callable[[Progress], None] | None = None) -> Verification:
        """Compare the live read models, all closed periods and billing runs with a new fold of the ledger."""
        return self._verifier.verify(progress)

    def verify_with_archive(
        self, destination: str | Path, progress: Callable[[int, int], None] | None = None
    ) -> ArchiveComparison:
        """Compare the live read models and all closed periods with what DuckDB computes from an archive.

        These are the totals of all customers by month, day and hour, under the rules in the archive, and the digests of
        closed periods: an account by SQL, without the code that projects. It doesn't read single usage records;
        `verify` does. `destination` is a folder or a URL. Raises InvalidArchive, ArchiveUnavailable, ArchiveMismatch,
        or LedgerCorrupted if events are missing in the archive; `archive.verify` verifies each byte of it.
        """
        archive = ArchiveReader.open(destination)
        return self._archive_comparer.compare(archive.location, archive.files, progress)
