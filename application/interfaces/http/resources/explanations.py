"""Explanations: a total with every meter event behind it."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .....domain.formulas import Formula
from ....results import ExplainedEvent, ExplanationPage, Verdict
from ....results import Explanation as ExplanationResult
from ..api_types import AsOfParameters, Customer, ListObject, Number, UnixTime, encode_decimal, from_unix, parse_as_of
from ..dimension_parameters import DimensionFilters, DimensionGroupByKeys, to_where
from ..errors import ApiError
from ..ledgers import RequestContext, ServedLedger
from ..operations import OperationRegistry
from ..pagination import list_response, page_within_size
from ..rules_objects import Window
from .recorded_meter_events import URL as EVENTS
from .recorded_meter_events import EventFilter, RecordedMeterEvent, payload_size, read_events, recorded_fields
from .totals import MeterTotal, meter_total

operations = OperationRegistry("Explanations")
MAX_EVENTS, MAX_PAYLOAD_BYTES = 10_000, 8_000_000
"""The most events in a response, and bytes of their payloads. Otherwise it could have 2.5 GB."""


class ExplainedMeterEvent(RecordedMeterEvent, kw_only=True):
    """A meter event with its contribution to the total: 0 if it does not count."""

    contribution: Number


class Explanation(msgspec.Struct, kw_only=True):
    """A total and all events behind it. The contributions add up to its `aggregated_value`. `groups` are its parts.

    It covers the ledger up to `position`, under the rules of `revision`. `digest` is the SHA-256 of the counted
    events, as in a closed period.
    """

    object: Literal["billing.meter_explanation"] = "billing.meter_explanation"
    digest: str
    event_time_window: Window | None
    events: ListObject[ExplainedMeterEvent]
    formula: Formula
    groups: list[MeterTotal]
    livemode: bool
    meter: str
    position: int
    revision: int
    total: MeterTotal


class MeterExplanationPage(msgspec.Struct, kw_only=True):
    """A total and a page of the events behind it: of the `matching_count` ones with the `verdicts` that were asked for.

    The total, the `digest`, `event_count` and `verdict_counts` are those of all events. `corrections` are the positions
    of the cancellations, and of their revocations, among all events.
    """

    object: Literal["billing.meter_explanation_page"] = "billing.meter_explanation_page"
    corrections: list[int]
    digest: str
    event_count: int
    event_time_window: Window | None
    events: ListObject[ExplainedMeterEvent]
    formula: Formula
    livemode: bool
    matching_count: int
    meter: str
    position: int
    revision: int
    total: MeterTotal
    verdict_counts: dict[Verdict, int]


class ExplainTotal(AsOfParameters, kw_only=True):
    """The total to explain: of one customer or of all customers together, of all or of some dimension values.

    With `closed`, it is the frozen total of the customer's closed period, under the rules of the closing.
    """

    closed: bool = False
    customer: Customer | None = None
    dimension_filters: DimensionFilters | None = None
    dimension_group_by_keys: DimensionGroupByKeys = ()
    end_time: UnixTime
    start_time: UnixTime


class ExplainTotalPage(AsOfParameters, kw_only=True):
    """The total to explain, as for an explanation, and which of its events: with some verdicts, after the first ones.

    `offset` is the number of matching events to skip, and `limit` the most to return.
    """

    closed: bool = False
    customer: Customer | None = None
    dimension_filters: DimensionFilters | None = None
    end_time: UnixTime
    limit: Annotated[int, Meta(ge=0, le=100)] = 100
    offset: Annotated[int, Meta(ge=0, le=2**31)] = 0
    start_time: UnixTime
    verdicts: Annotated[list[Verdict], Meta(min_length=1, max_length=10)] | None = None


@operations.get("/v1/billing/meters/{id}/explanation", is_large=True)
def retrieve_explanation(context: RequestContext[ExplainTotal]) -> Explanation:
    """Explain a total: return every meter event behind it, including those that do not count.

    The response is complete, so that it adds up. It is an error if there are more than 10,000 events, or more than
    8,000,000 bytes of payloads: use shorter ranges or the list of meter events.
    """
    params, as_of, meter_id, ledger = (
        context.params,
        parse_as_of(context.params),
        context.path_parameters["id"],
        context.ledger,
    )
    event_name, where = ledger.meter(meter_id, as_of).event_name, to_where(params.dimension_filters)
    start, end = from_unix(params.start_time), from_unix(params.end_time)
    known = None if params.closed else as_of
    _check_size(ledger, EventFilter(event_name, params.customer, start, end, known, where))
    explanation = ledger.metering.explain(
        event_name, params.customer, start, end, as_of=as_of, where=where, group_by=params.dimension_group_by_keys,
        closed=params.closed,
    )  # fmt: skip
    return Explanation(
        **_common_fields(explanation, event_name, ledger),
        events=list_response([_explained(event, ledger) for event in explanation.events], EVENTS, has_more=False),
        groups=[meter_total(group, event_name, ledger) for group in explanation.total.groups],
        meter=meter_id,
    )


@operations.get("/v1/billing/meters/{id}/explanation_page", is_large=True)
def retrieve_explanation_page(context: RequestContext[ExplainTotalPage]) -> MeterExplanationPage:
    """Explain a total with a page of its events, such as those that were cancelled.

    All events are read for each page. It is an error if there are more than 10,000: use shorter ranges. A page has
    fewer than `limit` events, and `has_more`, if their payloads have more than 4 MB: continue after those it has.
    """
    params, ledger, as_of = context.params, context.ledger, parse_as_of(context.params)
    meter_id = context.path_parameters["id"]
    event_name = ledger.meter(meter_id, as_of).event_name
    explanation = ledger.metering.explain_page(
        event_name, params.customer, from_unix(params.start_time), from_unix(params.end_time), as_of=as_of,
        where=to_where(params.dimension_filters), closed=params.closed, verdicts=params.verdicts, offset=params.offset,
        limit=params.limit, max_events=MAX_EVENTS,
    )  # fmt: skip
    if explanation is None:
        raise _too_many_events()
    page, _ = page_within_size(explanation.events, params.limit, payload_size)
    has_more = params.offset + len(page) < explanation.matching_count
    return MeterExplanationPage(
        **_common_fields(explanation, event_name, ledger),
        corrections=list(explanation.corrections),
        event_count=explanation.event_count,
        events=list_response([_explained(event, ledger) for event in page], EVENTS, has_more=has_more),
        matching_count=explanation.matching_count,
        meter=meter_id,
        verdict_counts=explanation.verdict_counts,
    )


def _common_fields(
    explanation: ExplanationResult | ExplanationPage, event_name: str, ledger: ServedLedger
) -> dict[str, Any]:
    window = explanation.event_time_window
    return {
        "digest": explanation.digest,
        "event_time_window": None if window is None else window.value,
        "formula": explanation.formula,
        "livemode": ledger.livemode,
        "position": explanation.position,
        "revision": explanation.revision,
        "total": meter_total(explanation.total, event_name, ledger),
    }


def _explained(event: ExplainedEvent, ledger: ServedLedger) -> ExplainedMeterEvent:
    return ExplainedMeterEvent(**recorded_fields(event, ledger), contribution=encode_decimal(event.contribution))


def _check_size(ledger: ServedLedger, wanted: EventFilter) -> None:
    """Raise ApiError if the events are too many or too large, before all of them are in memory."""
    size = 0
    for count, event in enumerate(read_events(ledger, wanted, MAX_EVENTS + 1), start=1):
        size += payload_size(event)
        if count > MAX_EVENTS or size > MAX_PAYLOAD_BYTES:
            raise _too_many_events()


def _too_many_events() -> ApiError:
    return ApiError(
        400, f"There are more than {MAX_EVENTS} meter events behind this total, or more than "
        f"{MAX_PAYLOAD_BYTES} bytes of payloads. Use shorter ranges, or list the events at {EVENTS}.",
        code="too_many_meter_events", param="end_time",
    )  # fmt: skip
