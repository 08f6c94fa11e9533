"""The rows of the CSV output of each command that prints a table."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ....domain.billing_run import ControlTotal
from ....domain.closed_period import ClosedPeriod, PeriodGroup
from ...access_keys.views import AccessKeyView
from ...adjustment_results import Adjustment, GroupAdjustment
from ...approvals.views import ProposalView
from ...archive.results import ArchiveComparison, TotalDifference
from ...billing_results import BillingRunResult, BillingRunView, MeterPeriodStatus, PeriodStatus
from ...cancellation_views import BulkCancellationView, CancellationPreview, CancellationPreviewRow
from ...checkpoints.checkpoint import Checkpoint
from ...commands.period_closing import PeriodClosing
from ...history_results import HistoryEntry, HistoryPage
from ...import_views import ImportRunView
from ...invoice_results import PeriodPreview
from ...meter_views import MeterView, RulesRevisionView
from ...outbox.results import RejectedRow
from ...queries.comparison import CustomerDifference
from ...queries.verification import TableVerification, Verification
from ...results import ChangedEvent, GenerationView, MeterEventView, Total, TotalChange
from ...topics.results import RejectedMessage, TopicLag
from .bulk_cancellations import CancellationOutcome
from .csv_output import CsvRows
from .import_runs import DryRunResult
from .projection_output import LimitedDifference, left_out_note
from .rules import RuleChange


class _DryRunMeter(NamedTuple):
    event_name: str


class CsvTables:
    """Each method returns the rows for a result. If a total has groups, they are the rows instead of the total."""

    @staticmethod
    def meters(meters: Iterable[MeterView]) -> CsvRows:
        """Return a row for each meter."""
        return _single(MeterView, meters)

    @staticmethod
    def revisions(revisions: Iterable[RulesRevisionView]) -> CsvRows:
        """Return a row for each revision of the rules of a meter."""
        return _single(RulesRevisionView, revisions)

    @staticmethod
    def total(total: Total) -> CsvRows:
        """Return a row for a total, or for each of its groups."""
        return CsvTables.totals([total])

    @staticmethod
    def totals(totals: Iterable[Total]) -> CsvRows:
        """Return a row for each total, or for each of its groups."""
        return _single(Total, (part for total in totals for part in total.groups or (total,)))

    @staticmethod
    def events(events: Iterable[MeterEventView]) -> CsvRows:
        """Return a row for each meter event, with a column for each key of the payloads."""
        return _single(MeterEventView, events)

    @staticmethod
    def verification(verification: Verification) -> CsvRows:
        """Return a row for each table of the read models."""
        return _single(TableVerification, verification.tables)

    @staticmethod
    def archive_comparison(comparison: ArchiveComparison) -> CsvRows:
        """Return a row for each figure that differs."""
        more = comparison.difference_count - len(comparison.differences)
        return _single(TotalDifference, comparison.differences, f"and {more} more differences." if more else "")

    @staticmethod
    def closing(closing: PeriodClosing) -> CsvRows:
        """Return a row for a closed period, or for each of its groups."""
        return CsvTables.periods([closing.period])

    @staticmethod
    def preview(preview: PeriodPreview) -> CsvRows:
        """Return a row for what would be closed."""
        return _single(PeriodPreview, [preview])

    @staticmethod
    def periods(periods: Iterable[ClosedPeriod]) -> CsvRows:
        """Return a row for each closed period, or for each of its groups."""
        rows = [(period, group) for period in periods for group in period.groups or (None,)]
        return CsvRows((ClosedPeriod, PeriodGroup), rows)

    @staticmethod
    def adjustments(adjustments: Iterable[Adjustment]) -> CsvRows:
        """Return a row for each adjustment, or for each of its groups."""
        rows = [(adjustment, group) for adjustment in adjustments for group in adjustment.groups or (None,)]
        return CsvRows((Adjustment, GroupAdjustment), rows)

    @staticmethod
    def run(result: BillingRunResult) -> CsvRows:
        """Return a row for each control total of a billing run."""
        return CsvTables.runs([result.run])

    @staticmethod
    def runs(runs: Iterable[BillingRunView]) -> CsvRows:
        """Return a row for each control total of billing runs, and for each run without one."""
        rows = [(run, control_total) for run in runs for control_total in run.meters or (None,)]
        return CsvRows((BillingRunView, ControlTotal), rows)

    @staticmethod
    def status(status: PeriodStatus) -> CsvRows:
        """Return a row for each meter."""
        return _single(MeterPeriodStatus, status.meters)

    @staticmethod
    def generations(generations: Iterable[GenerationView]) -> CsvRows:
        """Return a row for each generation."""
        return _single(GenerationView, generations)

    @staticmethod
    def difference(difference: LimitedDifference) -> CsvRows:
        """Return a row for each total of a customer that differs."""
        return _single(CustomerDifference, difference.differences, left_out_note(difference))

    @staticmethod
    def rule_change(change: RuleChange) -> CsvRows:
        """Return a row for each total of a customer that the rules change."""
        return CsvTables.difference(change.difference)

    @staticmethod
    def cancellation_outcome(outcome: CancellationOutcome) -> CsvRows:
        """Return a row for each customer and month of the previews."""
        rows = [(preview, row) for preview in outcome.previews for row in preview.rows]
        return CsvRows((CancellationPreview, CancellationPreviewRow), rows)

    @staticmethod
    def cancellations(cancellations: Iterable[BulkCancellationView]) -> CsvRows:
        """Return a row for each bulk cancellation."""
        return _single(BulkCancellationView, cancellations)

    @staticmethod
    def import_runs(runs: Iterable[ImportRunView]) -> CsvRows:
        """Return a row for each import."""
        return _single(ImportRunView, runs)

    @staticmethod
    def dry_run(result: DryRunResult) -> CsvRows:
        """Return a row for each meter, customer and month that a file adds to."""
        rows = [(_DryRunMeter(event_name), row) for event_name, usage in result.usage.items() for row in usage]
        return CsvRows((_DryRunMeter, CancellationPreviewRow), rows)

    @staticmethod
    def history(page: HistoryPage) -> CsvRows:
        """Return a row for each event."""
        return _single(HistoryEntry, page.entries, f"Continue with --after {page.next_after}." if page.has_more else "")

    @staticmethod
    def change(change: TotalChange) -> CsvRows:
        """Return a row for each meter event whose verdict has changed."""
        left_out = change.event_count - len(change.events)
        note = f"{left_out} more changed events: see --limit and --offset." if left_out else ""
        return _single(ChangedEvent, change.events, note)

    @staticmethod
    def checkpoints(checkpoints: Iterable[Checkpoint]) -> CsvRows:
        """Return a row for each checkpoint."""
        return _single(Checkpoint, checkpoints)

    @staticmethod
    def topic_lags(lags: Iterable[TopicLag]) -> CsvRows:
        """Return a row for each partition of a topic."""
        return _single(TopicLag, lags)

    @staticmethod
    def rejected_messages(messages: Iterable[RejectedMessage]) -> CsvRows:
        """Return a row for each message that was not recorded."""
        return _single(RejectedMessage, messages)

    @staticmethod
    def rejected_rows(rows: Iterable[RejectedRow]) -> CsvRows:
        """Return a row for each row of an outbox."""
        return _single(RejectedRow, rows)

    @staticmethod
    def proposals(proposals: Iterable[ProposalView]) -> CsvRows:
        """Return a row for each proposal."""
        return _single(ProposalView, proposals)

    @staticmethod
    def access_keys(keys: Iterable[AccessKeyView]) -> CsvRows:
        """Return a row for each access key."""
        return _single(AccessKeyView, keys)


def _single(row_type: type, items: Iterable[object], note: str = "") -> CsvRows:
    rows: Sequence[Sequence[object]] = [(item,) for item in items]
    return CsvRows((row_type,), rows, note)
