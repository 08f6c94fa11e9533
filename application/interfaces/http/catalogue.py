"""The list of all operations."""

from collections.abc import Sequence

from .operations import Operation, OperationRegistry
from .resources import (
    access_keys,
    billing_runs,
    checkpoints,
    closed_periods,
    cloud_events,
    comparisons,
    customers,
    embed_tokens,
    event_summaries,
    events,
    evidence,
    explanations,
    history,
    imports,
    invoice_lines,
    jobs,
    meter_event_adjustments,
    meter_event_cancellations,
    meter_event_errors,
    meter_event_stream,
    meter_events,
    meter_rules,
    meters,
    period_adjustments,
    projection,
    proposals,
    recorded_meter_events,
    settlements,
    tasks,
    totals,
    verification,
    webhook_endpoints,
)

REGISTRIES: Sequence[OperationRegistry] = (
    meters.operations,
    event_summaries.operations,
    meter_events.operations,
    cloud_events.operations,
    meter_event_adjustments.operations,
    meter_event_cancellations.operations,
    meter_event_stream.operations,
    recorded_meter_events.operations,
    meter_event_errors.operations,
    totals.operations,
    explanations.operations,
    comparisons.operations,
    customers.operations,
    embed_tokens.operations,
    closed_periods.operations,
    period_adjustments.operations,
    settlements.operations,
    invoice_lines.operations,
    billing_runs.operations,
    meter_rules.operations,
    proposals.operations,
    projection.operations,
    history.operations,
    verification.operations,
    tasks.operations,
    imports.operations,
    jobs.operations,
    checkpoints.operations,
    evidence.operations,
    events.operations,
    webhook_endpoints.operations,
    access_keys.operations,
)


def all_operations() -> list[Operation]:
    """Return all operations, in the order of the documentation."""
    return [operation for registry in REGISTRIES for operation in registry]
