"""Invoice lines: the closed usage of a period, and the open adjustments of earlier periods, settled at once."""

from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from .....domain.access_key import Scope
from .....domain.errors import InvalidAsOf
from .....domain.timestamps import to_microseconds
from .....projections.dimensions import group_order
from ....invoice_results import InvoiceLine, InvoiceLineKind, UnsettledAdjustment
from ..api_types import (
    AsOfPosition,
    Id,
    ListAsOfParameters,
    ListObject,
    Number,
    Parameters,
    Reason,
    UnixTime,
    encode,
    encode_decimal,
    from_unix,
    optional_number,
    parse_as_of,
    to_unix,
)
from ..dimension_parameters import Dimensions, group_token
from ..ledgers import RequestContext, ServedLedger
from ..object_ids import METER_PREFIX, decode_compound_id, encode_compound_id, encode_id, name_from_token, name_token
from ..operations import OperationRegistry
from ..pagination import UnsortedPage
from .closed_period_ids import PERIOD_ADJUSTMENT_PREFIX, find_closed_key, late_key
from .closed_periods import require_event_name
from .settlements import Document, invalid_position

URL = "/v1/billing/invoice_lines"
INVOICE_LINE_PREFIX = "mtrline"
MAX_LINES = 10_000
MAX_UNSETTLED = 100
operations = OperationRegistry("Invoice lines")

Meters = Annotated[list[Id], Meta(min_length=1, max_length=1_000, description="The meters, by default all.")]


class ListInvoiceLines(ListAsOfParameters, kw_only=True):
    """The period that the lines are for, and the meters."""

    customer: str | None = None
    end_time: UnixTime
    limit: Annotated[int, Meta(ge=1, le=MAX_LINES)] = 10
    meters: Meters | None = None
    start_time: UnixTime


class SettleInvoiceLines(Parameters, kw_only=True):
    """The period and the meters of the lines, their `position`, and the number of the document that has them.

    `by` is stored as `on_behalf_of`.
    """

    as_of_position: AsOfPosition
    by: Reason | None = None
    customer: str | None = None
    document: Document
    end_time: UnixTime
    meters: Meters | None = None
    start_time: UnixTime


class BillingInvoiceLine(msgspec.Struct, kw_only=True):
    """A line of an invoice: the usage of a customer in a closed period, or the adjustment of an earlier one.

    The values of usage are those that the period was closed with; of an adjustment they are signed differences since
    the period was invoiced. `dimensions` are those of the group, if the period was closed by dimensions. `position` is
    that of the closing or of the adjustment, `digest` that of the closing. `previously_billed` is the billable value
    that earlier documents have; of usage, those of a reopened closing, which are withdrawn. `period_adjustment` is null
    for usage. `late` is set for a customer without a closing.
    """

    id: str
    object: Literal["billing.invoice_line"] = "billing.invoice_line"
    aggregated_value: Number
    billable_value: Number
    customer: str
    digest: str
    dimensions: Dimensions | None
    end_time: int
    kind: Literal["usage", "adjustment"]
    late: bool
    livemode: bool
    meter: str
    period_adjustment: str | None
    position: int
    previously_billed: Number | None
    start_time: int


class InvoiceLineList(ListObject[BillingInvoiceLine], kw_only=True):
    """A page of invoice lines. They are those known at `position`: request further pages as of this position."""

    position: int


class UnsettledLine(msgspec.Struct, kw_only=True):
    """An adjustment that the document did not settle, and why: the code and the message of the error."""

    code: str
    customer: str
    end_time: int
    message: str
    meter: str
    start_time: int


class InvoiceLineSettlement(msgspec.Struct, kw_only=True):
    """How many adjustments among the lines of a period are settled by a document, and up to 100 that are not.

    Those were settled by another document meanwhile, or their period was closed again.
    """

    object: Literal["billing.invoice_line_settlement"] = "billing.invoice_line_settlement"
    document: str
    end_time: int
    livemode: bool
    not_settled: list[UnsettledLine]
    not_settled_count: int
    settled: int
    start_time: int


class LineKey(NamedTuple):
    """The key of a line, with the bounds of its period in microseconds. `group_token` is empty without a group."""

    kind: Literal["usage", "adjustment"]
    event_name: str
    customer_token: str
    start: int
    end: int
    group_token: str


@operations.get(URL, is_large=True)
def list_invoice_lines(context: RequestContext[ListInvoiceLines]) -> InvoiceLineList:
    """List the lines for the invoices of a period: its closed usage, then open adjustments of earlier periods.

    Both are ordered by customer, meter and start. Each page reads all closings: use a limit of up to 10,000. For
    further pages, and to settle the adjustments, send the `position` as as_of_position.
    """
    params, ledger = context.params, context.ledger
    event_names = _event_names(ledger, params.meters)
    start, end = from_unix(params.start_time), from_unix(params.end_time)

    def decode_cursor(object_id: str) -> "_SortKey | None":
        key = decode_compound_id(INVOICE_LINE_PREFIX, object_id, LineKey)
        if key is None or (event_names is not None and key.event_name not in event_names):
            return None
        first = to_microseconds(start)
        is_in_list = first < key.end <= to_microseconds(end) if key.kind == "usage" else key.end <= first
        try:
            return _sort_key(key) if is_in_list else None
        except (msgspec.DecodeError, UnicodeError):
            return None

    page = UnsortedPage[InvoiceLine](
        lambda line: _sort_key(_key(line)), decode_cursor, params, _variable_size, is_ascending=True
    )
    invoice_lines = ledger.metering.periods.read_invoice_lines(
        start, end, meters=event_names, customer=params.customer, as_of=parse_as_of(params)
    )
    with invoice_lines as reader:
        position = reader.position
        if not page.begins_after(_FIRST_ADJUSTMENT):
            page.add_all(reader.usage())
        if not page.ends_before(_FIRST_ADJUSTMENT):
            page.add_all(reader.adjustments())
    adjustment_ids = _AdjustmentIds(ledger, position)
    data = [_to_object(line, ledger, adjustment_ids) for line in page.items()]
    return InvoiceLineList(data=data, has_more=page.has_more, url=URL, position=position)


@operations.post(URL + "/settle", Scope.CLOSE)
def settle_invoice_lines(context: RequestContext[SettleInvoiceLines]) -> InvoiceLineSettlement:
    """Settle the adjustments among the lines of a period, as of the position of the lines, by one document.

    The same request settles the rest after an interruption, and returns the same result afterwards.
    """
    params, ledger = context.params, context.ledger
    try:
        settlement = ledger.metering.periods.settle_invoice_lines(
            from_unix(params.start_time), from_unix(params.end_time), document=params.document,
            as_of=params.as_of_position, meters=_event_names(ledger, params.meters), customer=params.customer,
            by=params.by,
        )  # fmt: skip
    except InvalidAsOf as error:
        raise invalid_position(error) from error
    return InvoiceLineSettlement(
        document=params.document,
        end_time=params.end_time,
        livemode=ledger.livemode,
        not_settled=[_to_unsettled(unsettled) for unsettled in settlement.not_settled[:MAX_UNSETTLED]],
        not_settled_count=len(settlement.not_settled),
        settled=settlement.settled,
        start_time=params.start_time,
    )


def _event_names(ledger: ServedLedger, meters: list[str] | None) -> list[str] | None:
    return None if meters is None else [require_event_name(ledger, meter, "meters") for meter in meters]


def _to_unsettled(unsettled: UnsettledAdjustment) -> UnsettledLine:
    return UnsettledLine(
        code=unsettled.error.code, customer=unsettled.customer, end_time=to_unix(unsettled.end),
        message=unsettled.error.message, meter=encode_id(METER_PREFIX, unsettled.event_name),
        start_time=to_unix(unsettled.start),
    )  # fmt: skip


_SortKey = tuple[object, ...]
_FIRST_ADJUSTMENT: _SortKey = (True,)


def _key(line: InvoiceLine) -> LineKey:
    return LineKey(
        line.kind.value, line.event_name, name_token(line.customer), to_microseconds(line.start),
        to_microseconds(line.end), group_token(line.dimensions or {}),
    )  # fmt: skip


def _sort_key(key: LineKey) -> _SortKey:
    """Return what lines are sorted by. Long names come last, by their digests, so that a cursor needs no look-up."""
    is_adjustment = key.kind == InvoiceLineKind.ADJUSTMENT
    return is_adjustment, key.customer_token, key.event_name, key.start, key.end, *_group_order(key.group_token)


def _group_order(token: str) -> tuple[object, ...]:
    text = name_from_token(token)
    if text is None:
        return True, token
    return False, group_order(tuple(_decode_dimensions(text).values()))


def _variable_size(line: InvoiceLine) -> int:
    return len(encode((line.customer, line.dimensions)))


class _AdjustmentIds:
    """The ids of the adjustments of lines as of a position. The lines of the groups of a period have the same."""

    def __init__(self, ledger: ServedLedger, position: int) -> None:
        self._ledger = ledger
        self._position = position
        self._last: tuple[tuple[object, ...], str] | None = None

    def of(self, line: InvoiceLine) -> str | None:
        """Return the id of the adjustment of a line; None for usage."""
        if line.kind is InvoiceLineKind.USAGE:
            return None
        period = line.event_name, line.customer, line.start, line.end
        if self._last is None or self._last[0] != period:
            key = late_key(*period) if line.is_late else find_closed_key(self._ledger, *period, self._position)
            self._last = period, encode_compound_id(PERIOD_ADJUSTMENT_PREFIX, key)
        return self._last[1]


def _to_object(line: InvoiceLine, ledger: ServedLedger, ids: _AdjustmentIds) -> BillingInvoiceLine:
    return BillingInvoiceLine(
        id=encode_compound_id(INVOICE_LINE_PREFIX, _key(line)),
        aggregated_value=encode_decimal(line.quantity),
        billable_value=encode_decimal(line.billable),
        customer=line.customer,
        digest=line.digest,
        dimensions=line.dimensions,
        end_time=to_unix(line.end),
        kind=line.kind.value,
        late=line.is_late,
        livemode=ledger.livemode,
        meter=encode_id(METER_PREFIX, line.event_name),
        period_adjustment=ids.of(line),
        position=line.position,
        previously_billed=optional_number(line.previously_billed),
        start_time=to_unix(line.start),
    )


_decode_dimensions = msgspec.json.Decoder(Dimensions).decode
