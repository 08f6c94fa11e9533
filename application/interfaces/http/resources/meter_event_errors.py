"""Meter event errors: rejected meter events of a stream, with the reason."""

import re
import sys
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from .....domain.timestamps import from_microseconds
from ....storage.key_value import KeyValueEntry
from ..api_types import ListObject, ListParameters, Name, Parameters, to_unix
from ..errors import missing_object
from ..ledgers import RequestContext
from ..operations import OperationRegistry
from ..pagination import list_response, page_within_size, read_in_parts, resolve_cursors
from ..rejected_events import REJECTED_EVENT_KIND, RejectedEvent, decode_rejected

URL = "/v1/billing/meter_event_errors"
operations = OperationRegistry("Meter event errors")
_ID_PATTERN = re.compile(r"mtrerr_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class ErrorRequest(msgspec.Struct, kw_only=True):
    """The request that contained the event."""

    id: str
    idempotency_key: str | None


class MeterEventError(msgspec.Struct, kw_only=True):
    """A meter event that was rejected after the response, complete so that it can be corrected and resent."""

    id: str
    object: Literal["billing.meter_event_error"] = "billing.meter_event_error"
    code: str
    created: int
    event_name: str
    identifier: str | None
    livemode: bool
    message: str
    payload: dict[str, str]
    request: ErrorRequest
    timestamp: int | None


class ListMeterEventErrors(ListParameters, kw_only=True):
    """Filters for rejected meter events: code and event name."""

    code: Name | None = None
    event_name: Name | None = None


class _StoredError(NamedTuple):
    """A rejected event and its entry."""

    entry: KeyValueEntry
    event: RejectedEvent


@operations.get(URL)
def list_meter_event_errors(context: RequestContext[ListMeterEventErrors]) -> ListObject[MeterEventError]:
    """List rejected meter events, newest first."""
    params, key_values = context.params, context.ledger.key_values
    after, before = resolve_cursors(params, lambda object_id: object_id if _ID_PATTERN.fullmatch(object_id) else None)

    def matches_filter(stored: _StoredError) -> bool:
        return params.event_name in (None, stored.event.event_name) and params.code in (None, stored.event.code)

    def read_after(last: KeyValueEntry | None, count: int) -> Sequence[KeyValueEntry]:
        start = (before or after) if last is None else last.key
        return key_values.scan(REJECTED_EVENT_KIND, after=start, limit=count, newest_first=before is None)

    stored_errors = map(_decode, read_in_parts(read_after, lambda entry: len(entry.body), sys.maxsize))
    page, has_more = page_within_size(filter(matches_filter, stored_errors), params.limit, _size_of)
    data = [
        _to_response(stored, livemode=context.ledger.livemode) for stored in (page if before is None else page[::-1])
    ]
    return list_response(data, URL, has_more=has_more)


@operations.get(URL + "/{id}")
def retrieve_meter_event_error(context: RequestContext[Parameters]) -> MeterEventError:
    """Retrieve a rejected meter event."""
    object_id = context.path_parameters["id"]
    entry = (
        context.ledger.key_values.get(REJECTED_EVENT_KIND, [object_id]).get(object_id)
        if _ID_PATTERN.fullmatch(object_id)
        else None
    )
    if entry is None:
        raise missing_object("meter event error", object_id)
    return _to_response(_decode(entry), livemode=context.ledger.livemode)


def _size_of(stored: _StoredError) -> int:
    return len(stored.entry.body)


def _decode(entry: KeyValueEntry) -> _StoredError:
    return _StoredError(entry, decode_rejected(entry.body))


def _to_response(stored: _StoredError, *, livemode: bool) -> MeterEventError:
    event = stored.event
    return MeterEventError(
        id=stored.entry.key,
        code=event.code,
        created=to_unix(from_microseconds(stored.entry.at)),
        event_name=event.event_name,
        identifier=event.identifier,
        livemode=livemode,
        message=event.message,
        payload=event.payload,
        request=ErrorRequest(id=event.request_id, idempotency_key=event.idempotency_key),
        timestamp=None if event.timestamp is None else to_unix(event.timestamp),
    )
