"""Billing runs: close a period for all customers of one or all meters, as one recorded fact.

A run is resumed by the same call, whenever it was interrupted: each closing is stored once, and all are computed from
the events up to the position at which the run started.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from eventsourcing.persistence import IntegrityError

from ...domain.acceptance_policy import AcceptancePolicy
from ...domain.billing_run import BillingRun
from ...domain.calendar import get_timezone
from ...domain.errors import BillingRunInProgress
from ...domain.rules_schedule import bound_to_datetime
from ...domain.timestamps import ensure_utc, from_microseconds
from ...projections.models import AsOf
from ..billing_results import BillingRunResult, BillingRunView, RunDifference
from ..ledger.closings import billing_runs
from ..ledger.ledger import Ledger
from ..queries.dimension_query import DimensionArguments, parse_dimensions
from ..queries.meter_query import MeterQueryFactory
from ..storage.ports import ConcurrentStreamUpdate
from ..validation import optional_event_names, optional_note, require_time_range
from .run_closings import MeterRun, RunProgress

MAX_LISTED_DIFFERENCES = 1_000


class RunArguments(NamedTuple):
    """The checked arguments of a run. `event_names` is None for all meters."""

    start: datetime
    end: datetime
    event_names: tuple[str, ...] | None
    timezone: str
    group_by: tuple[str, ...]
    by: str | None

    @classmethod
    def parse(
        cls, start: datetime, end: datetime, meters: Sequence[str] | None, timezone: str, group_by: Sequence[str],
        by: str | None,
    ) -> "RunArguments":  # fmt: skip
        """Return checked arguments. Raises InvalidTimeRange, InvalidParameter or UnknownTimezone."""
        first, last = map(from_microseconds, require_time_range(start, end).bounds)
        names = optional_event_names(meters)
        group_keys = parse_dimensions(None, group_by).group_by
        return cls(first, last, names, get_timezone(timezone).key, group_keys, optional_note(by, "by"))

    def is_scope_of(self, run: BillingRun) -> bool:
        """Return whether a run has this period and these meters."""
        if (run.start, run.end, run.is_for_all_meters) != (self.start, self.end, self.event_names is None):
            return False
        return self.event_names is None or set(run.event_names) == set(self.event_names)


class BillingRunner:
    """Starts, resumes and closes billing runs."""

    def __init__(
        self, ledger: Ledger, meter_queries: MeterQueryFactory, policy: AcceptancePolicy, clock: Callable[[], datetime]
    ) -> None:
        self._ledger = ledger
        self._meter_queries = meter_queries
        self._policy = policy
        self._clock = clock

    def run(self, arguments: RunArguments, progress: RunProgress | None) -> BillingRunResult:
        """Start or resume a run, and close it. A run that has closed all customers is returned as it is."""
        run = self._start_or_resume(arguments)
        if run.is_closed:
            return BillingRunResult(BillingRunView.from_run(run), was_closed=True)
        differences: list[RunDifference] = []
        difference_count = 0
        with suppress(ConcurrentStreamUpdate):  # another process, which resumed the run too, has closed it
            runs = billing_runs(self._ledger)
            # A closing is recorded at the end of its period or later.
            closed_after = self._meter_queries.position_at(run.end - timedelta(microseconds=1))
            meter_runs = [
                MeterRun(self._ledger, run, event_name, arguments.by, self._now, runs) for event_name in run.event_names
            ]
            for index, meter_run in enumerate(meter_runs):
                with self._meter_queries.session() as read_models:
                    meter = self._meter_queries.open_meter(
                        read_models, meter_run.event_name, AsOf(position=run.position)
                    )
                    last = read_models.last_customer_id()
                    for customer_id in meter_run.close_all(meter):
                        if progress is not None:
                            progress(index * last + max(customer_id, 0), len(meter_runs) * last, meter_run.event_name)
            customers: set[str] = set()
            totals = tuple(meter_run.control_total(customers, closed_after) for meter_run in meter_runs)
            for meter_run in meter_runs:
                differences += meter_run.differences[: MAX_LISTED_DIFFERENCES - len(differences)]
                difference_count += meter_run.difference_count
            run.finish(totals, len(customers), by=arguments.by, at=self._now())
            with suppress(IntegrityError):  # another process was first
                self._ledger.append(run.collect_events())
        stored = next(stored for stored in billing_runs(self._ledger) if stored.id == run.id)
        return BillingRunResult(BillingRunView.from_run(stored), False, tuple(differences), difference_count)

    def _start_or_resume(self, arguments: RunArguments) -> BillingRun:
        """Return the run to resume, the last one if that closed all customers, or a new one."""
        while True:
            position, runs = self._ledger.head(), billing_runs(self._ledger)
            same = [run for run in runs if arguments.is_scope_of(run)]
            if same and same[-1].is_complete:
                return same[-1]
            if same and not same[-1].is_closed:
                self._check_arguments(same[-1], arguments)
                return same[-1]
            event_names, counted_until = self._scope(arguments, position)
            run = BillingRun.begin(
                runs[-1].number + 1 if runs else 1, arguments.start, arguments.end, timezone=arguments.timezone,
                event_names=event_names, is_for_all_meters=arguments.event_names is None, group_by=arguments.group_by,
                position=position, by=arguments.by, at=self._now(), policy=self._policy, counted_until=counted_until,
            )  # fmt: skip
            try:
                self._ledger.append(run.collect_events())
            except IntegrityError:
                continue  # another process started a run meanwhile, perhaps this one
            return run

    def _check_arguments(self, run: BillingRun, arguments: RunArguments) -> None:
        if (run.group_by, run.timezone) != (arguments.group_by, arguments.timezone):
            raise BillingRunInProgress(
                f"Run {run.number} of this period was interrupted. Complete it first, with the timezone {run.timezone} "
                + (f"and the dimensions {', '.join(run.group_by)}." if run.group_by else "and without dimensions."),
                field="timezone" if run.timezone != arguments.timezone else "group_by",
                value=run.number,
            )

    def _scope(self, arguments: RunArguments, position: int) -> tuple[tuple[str, ...], datetime]:
        """Return the meters to close, and when the last event time window that starts in the period ends.

        Raises MeterNotFound, or InvalidParameter if a meter lacks a dimension.
        """
        bounds, known = require_time_range(arguments.start, arguments.end).bounds, AsOf(position=position)
        event_names = arguments.event_names
        if event_names is None:
            event_names = tuple(meter.event_name for meter in self._ledger.meters(known))
        dimensions, last_end = DimensionArguments({}, arguments.group_by), bounds[1]
        with self._meter_queries.session() as read_models:
            for event_name in event_names:
                meter = self._meter_queries.open_meter(read_models, event_name, known)
                counted_from, counted_until = meter.query(bounds, dimensions).view.bounds
                last_end = max(last_end, counted_until) if counted_from < counted_until else last_end
        return event_names, bound_to_datetime(last_end)

    def _now(self) -> datetime:
        return ensure_utc(self._clock(), "clock")
