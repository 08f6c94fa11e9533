"""Meter event errors: rejected meter events of a stream, with the reason."""

import re
from collections.abc import Callable
from itertools import islice
from typing import Literal, NamedTuple

import msgspec

from .....domain.timestamps import from_microseconds
from ....storage.key_value import KeyValueEntry, KeyValueStore
from ..api_types import ListObject, ListParameters, Name, Parameters, to_unix
from ..errors import missing_object
from ..ledgers import RequestContext
from ..operations import OperationRegistry
from ..pagination import list_response, resolve_cursors
from ..rejected_events import REJECTED_EVENT_KIND, RejectedEvent

URL = "/v1/billing/meter_event_errors"
operations = OperationRegistry("Meter event errors")
_BATCH_SIZE = 500
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

    matches = _scan(key_values, before or after, matches_filter, params.limit + 1, newest_first=before is None)
    page = matches[: params.limit] if before is None else matches[: params.limit][::-1]
    data = [_to_response(stored, livemode=context.ledger.livemode) for stored in page]
    return list_response(data, URL, has_more=len(matches) > params.limit)


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


def _scan(
    key_values: KeyValueStore,
    after: str | None,
    matches_filter: Callable[[_StoredError], bool],
    limit: int,
    *,
    newest_first: bool,
) -> list[_StoredError]:
    """Return up to `limit` matching events after a key. Reads all stored events if few match."""
    matches: list[_StoredError] = []
    while len(matches) < limit:
        entries = key_values.scan(REJECTED_EVENT_KIND, after=after, limit=_BATCH_SIZE, newest_first=newest_first)
        matches += islice(filter(matches_filter, map(_decode, entries)), limit - len(matches))
        if len(entries) < _BATCH_SIZE:
            break
        after = entries[-1].key
    return matches


def _decode(entry: KeyValueEntry) -> _StoredError:
    return _StoredError(entry, msgspec.json.decode(entry.body, type=RejectedEvent))


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
