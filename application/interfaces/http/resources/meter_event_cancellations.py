"""Meter event cancellations: many meter events cancelled by one decision, with a preview. An extension."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .....domain.access_key import Scope
from .....domain.bulk_cancellation import BulkCancellationStatus, CancellationSelection
from .....domain.errors import CancellationNotFound, InvalidParameter
from ....cancellation_views import BulkCancellationView, CancellationPreview
from ..api_types import (
    AsOfParameters,
    Customer,
    Id,
    ListAsOfParameters,
    ListObject,
    Name,
    Number,
    Parameters,
    Reason,
    UnixTime,
    encode_decimal,
    from_unix,
    optional_unix,
    parse_as_of,
    to_unix,
)
from ..dimension_parameters import DimensionFilters, to_where
from ..errors import missing_object
from ..ledgers import RequestContext, ServedLedger
from ..operations import OperationRegistry
from ..pagination import list_response, paginate_unsorted

URL = "/v1/billing/meter_event_cancellations"
MAX_EVENTS = 10_000
"""The number of meter events that one request cancels: it takes seconds."""
MAX_PREVIEW_ROWS = 1_000
operations = OperationRegistry("Meter event cancellations")


class Selection(Parameters, kw_only=True):
    """The meter events of a meter: those that match all of these. Ranges include their start and exclude their end."""

    customer: Customer | None = None
    dimension_filters: DimensionFilters | None = None
    end_time: UnixTime | None = None
    event_name: Name
    identifier_prefix: Name | None = None
    import_run: Name | None = None
    recorded_end_time: UnixTime | None = None
    recorded_start_time: UnixTime | None = None
    start_time: UnixTime | None = None


class PreviewCancellation(Selection, kw_only=True):
    """The meter events to preview, and the timezone of the months."""

    timezone: Name = "UTC"


class CreateCancellation(Selection, kw_only=True):
    """The meter events to cancel: at most 10,000, within 24 hours of their receipt.

    With the `digest` of a preview, nothing is cancelled unless the same events would be. `by` is
    stored as `on_behalf_of`.
    """

    by: Reason | None = None
    digest: Annotated[str, Meta(max_length=64)] | None = None
    reason: Reason


class RevokeBulkCancellation(Parameters, kw_only=True):
    """Why a cancellation is revoked, and by whom. `by` is stored as `on_behalf_of`."""

    by: Reason | None = None
    reason: Reason


class RetrieveCancellation(AsOfParameters, kw_only=True):
    """A cancellation, now or as of an earlier time."""


class ListCancellations(ListAsOfParameters, kw_only=True):
    """A filter for cancellations: the meter."""

    event_name: Name | None = None


class SelectedMeterEvents(msgspec.Struct, kw_only=True):
    """The selection of a cancellation; null for what it doesn't select by."""

    customer: str | None
    dimension_filters: dict[str, list[str | None]] | None
    end_time: int | None
    identifier_prefix: str | None
    import_run: str | None
    recorded_end_time: int | None
    recorded_start_time: int | None
    start_time: int | None


class CancellationPreviewRow(msgspec.Struct, kw_only=True):
    """A customer's usage in a calendar month: its quantity now, and without the selected events."""

    aggregated_value: Number
    count: int
    customer: str
    difference: Number
    end_time: int
    new_aggregated_value: Number
    start_time: int


class MeterEventCancellationPreview(msgspec.Struct, kw_only=True):
    """What a cancellation would change, as of a `position` of the ledger.

    `rows` are the first 1,000 by customer and month; `has_more` is set if there are others. Of the selected events,
    those that are cancelled already or `too_old` would be left out.
    """

    object: Literal["billing.meter_event_cancellation_preview"] = "billing.meter_event_cancellation_preview"
    already_cancelled: int
    count: int
    digest: str
    event_name: str
    has_more: bool
    livemode: bool
    position: int
    rows: list[CancellationPreviewRow]
    too_old: int


class Revocation(msgspec.Struct, kw_only=True):
    """When and why a cancellation was revoked, and by whom."""

    by: str | None
    reason: str | None
    revoked_at: int


class MeterEventCancellation(msgspec.Struct, kw_only=True):
    """The cancellation of many meter events by one decision, and its progress.

    `count` events are cancelled; `cancelled_count` of them are so far, and `revoked_count` count again. A status that
    ends in `ing` stays if a request was interrupted: resume it.
    """

    id: str
    object: Literal["billing.meter_event_cancellation"] = "billing.meter_event_cancellation"
    by: str | None
    on_behalf_of: str | None
    cancelled_count: int
    count: int
    created: int
    digest: str
    event_name: str
    livemode: bool
    position: int
    reason: str
    revocation: Revocation | None
    revoked_count: int
    selection: SelectedMeterEvents
    status: BulkCancellationStatus


@operations.post(URL + "/preview", Scope.READ, is_large=True)
def preview_meter_event_cancellation(context: RequestContext[PreviewCancellation]) -> MeterEventCancellationPreview:
    """Preview a cancellation: which events it would cancel, and the totals before and after that."""
    params, ledger = context.params, context.ledger
    preview = ledger.metering.cancellations.preview(
        params.event_name, timezone=params.timezone, **selection_arguments(params)
    )
    return cancellation_preview_object(preview, ledger)


@operations.post(URL, Scope.CANCEL)
def create_meter_event_cancellation(context: RequestContext[CreateCancellation]) -> MeterEventCancellation:
    """Cancel meter events by one decision, at most 10,000 of them."""
    params, ledger = context.params, context.ledger
    bulk = ledger.metering.cancellations.cancel_many(
        params.event_name,
        **selection_arguments(params),
        reason=params.reason,
        by=params.by,
        digest=params.digest,
        max_events=MAX_EVENTS,
        identifier=context.retry_identifier,
    )
    return _to_response(bulk, ledger)


@operations.get(URL)
def list_meter_event_cancellations(context: RequestContext[ListCancellations]) -> ListObject[MeterEventCancellation]:
    """List cancellations, newest first.

    A page has fewer than `limit` cancellations, and `has_more`, if their selections have more than 4 MB.
    """
    params, ledger = context.params, context.ledger
    cancellations, as_of = ledger.metering.cancellations, parse_as_of(params)

    def decode_cursor(object_id: str) -> tuple[object, ...] | None:
        try:
            return _sort_key(cancellations.get(object_id, as_of=as_of))
        except (CancellationNotFound, InvalidParameter):
            return None

    page, has_more = paginate_unsorted(
        cancellations.iterate(params.event_name, as_of=as_of),
        _sort_key,
        decode_cursor,
        params,
        lambda bulk: len(bulk.selection.model_dump_json()),
    )
    return list_response([_to_response(bulk, ledger) for bulk in page], URL, has_more=has_more)


@operations.get(URL + "/{id}")
def retrieve_meter_event_cancellation(context: RequestContext[RetrieveCancellation]) -> MeterEventCancellation:
    """Retrieve a cancellation and its progress."""
    return _to_response(_find(context, parse_as_of(context.params)), context.ledger)


@operations.post(URL + "/{id}/resume", Scope.CANCEL)
def resume_meter_event_cancellation(context: RequestContext[Parameters]) -> MeterEventCancellation:
    """Finish a cancellation, or its revocation, that was interrupted."""
    bulk = _find(context)
    return _to_response(context.ledger.metering.cancellations.resume(bulk.cancellation_id), context.ledger)


@operations.post(URL + "/{id}/revoke", Scope.CANCEL)
def revoke_meter_event_cancellation(context: RequestContext[RevokeBulkCancellation]) -> MeterEventCancellation:
    """Revoke a cancellation, within 24 hours: its meter events count again."""
    params, bulk = context.params, _find(context)
    by = params.by
    cancellations = context.ledger.metering.cancellations
    return _to_response(cancellations.revoke(bulk.cancellation_id, reason=params.reason, by=by), context.ledger)


def _find(context: RequestContext[Any], as_of: datetime | int | None = None) -> BulkCancellationView:
    object_id: Id = context.path_parameters["id"]
    try:
        return context.ledger.metering.cancellations.get(object_id, as_of=as_of)
    except (CancellationNotFound, InvalidParameter):
        raise missing_object("meter event cancellation", object_id) from None


def selection_arguments(params: Selection) -> dict[str, Any]:
    """Return a selection by the library's names."""
    times = {
        "start": params.start_time,
        "end": params.end_time,
        "recorded_from": params.recorded_start_time,
        "recorded_until": params.recorded_end_time,
    }
    return {
        "customer": params.customer,
        "import_run": params.import_run,
        "identifier_prefix": params.identifier_prefix,
        "where": to_where(params.dimension_filters),
        **{name: None if seconds is None else from_unix(seconds) for name, seconds in times.items()},
    }


def _sort_key(bulk: BulkCancellationView) -> tuple[object, ...]:
    return bulk.cancelled_at, bulk.cancellation_id


def cancellation_preview_object(preview: CancellationPreview, ledger: ServedLedger) -> MeterEventCancellationPreview:
    """Return the object of a preview, with its first rows."""
    return MeterEventCancellationPreview(
        already_cancelled=preview.already_cancelled,
        count=preview.count,
        digest=preview.digest,
        event_name=preview.event_name,
        has_more=len(preview.rows) > MAX_PREVIEW_ROWS,
        livemode=ledger.livemode,
        position=preview.position,
        rows=[
            CancellationPreviewRow(
                aggregated_value=encode_decimal(row.quantity),
                count=row.count,
                customer=row.customer,
                difference=encode_decimal(row.difference),
                end_time=to_unix(row.end),
                new_aggregated_value=encode_decimal(row.new_quantity),
                start_time=to_unix(row.start),
            )
            for row in preview.rows[:MAX_PREVIEW_ROWS]
        ],
        too_old=preview.too_old,
    )


def _to_response(bulk: BulkCancellationView, ledger: ServedLedger) -> MeterEventCancellation:
    return MeterEventCancellation(
        id=bulk.cancellation_id,
        by=bulk.by,
        on_behalf_of=bulk.on_behalf_of,
        cancelled_count=bulk.cancelled,
        count=bulk.count,
        created=to_unix(bulk.cancelled_at),
        digest=bulk.digest,
        event_name=bulk.event_name,
        livemode=ledger.livemode,
        position=bulk.position,
        reason=bulk.reason,
        revocation=None
        if bulk.revoked_at is None
        else Revocation(by=bulk.revoked_by, reason=bulk.revocation_reason, revoked_at=to_unix(bulk.revoked_at)),
        revoked_count=bulk.revoked,
        selection=_to_selection(bulk.selection),
        status=bulk.status,
    )


def _to_selection(selection: CancellationSelection) -> SelectedMeterEvents:
    return SelectedMeterEvents(
        customer=selection.customer,
        dimension_filters={key: list(values) for key, values in selection.where.items()} or None,
        end_time=optional_unix(selection.end),
        identifier_prefix=selection.identifier_prefix,
        import_run=selection.import_run,
        recorded_end_time=optional_unix(selection.recorded_until),
        recorded_start_time=optional_unix(selection.recorded_from),
        start_time=optional_unix(selection.start),
    )
