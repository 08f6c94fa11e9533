"""Meter event errors: the events of streams that couldn't be counted, kept whole with the reason."""

import re
from collections.abc import Callable
from itertools import islice
from typing import Literal, NamedTuple

import msgspec

from ....domain.instants import instant
from ...stores.kept import Keeper, KeptRow
from ..desk import Call
from ..paging import listed, places
from ..refusals import missing_object
from ..refused_events import REFUSED_EVENT, RefusedEvent
from ..routes import Routes
from ..times import unix
from ..wire import Listed, ListParameters, Name, Parameters

URL = "/v1/billing/meter_event_errors"
routes = Routes("Meter event errors")
_ROWS_AT_A_TIME = 500
_ID = re.compile(r"mtrerr_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class ErrorRequest(msgspec.Struct, kw_only=True):
    """The request that the event came with."""

    id: str
    idempotency_key: str | None


class MeterEventError(msgspec.Struct, kw_only=True):
    """A meter event that was refused after its request was answered: all of it, so that it can be mended and resent."""

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
    """Refused meter events: of one event name and code, or all."""

    code: Name | None = None
    event_name: Name | None = None


class Refused(NamedTuple):
    """A refused event, and where it is kept."""

    row: KeptRow
    event: RefusedEvent


@routes.get(URL)
def list_meter_event_errors(call: Call[ListMeterEventErrors]) -> Listed[MeterEventError]:
    """List refused meter events, newest first."""
    asked, keeper = call.asked, call.desk.keeper
    after, before = places(asked, lambda given: given if _ID.fullmatch(given) else None)

    def is_asked_for(one: Refused) -> bool:
        return asked.event_name in (None, one.event.event_name) and asked.code in (None, one.event.code)

    found = _first(keeper, before or after, is_asked_for, asked.limit + 1, newest_first=before is None)
    shown = found[: asked.limit] if before is None else found[: asked.limit][::-1]
    data = [_shown(one, livemode=call.desk.livemode) for one in shown]
    return listed(data, URL, has_more=len(found) > asked.limit)


@routes.get(URL + "/{id}")
def retrieve_meter_event_error(call: Call[Parameters]) -> MeterEventError:
    """Retrieve a refused meter event."""
    given = call.path["id"]
    row = call.desk.keeper.get(REFUSED_EVENT, [given]).get(given) if _ID.fullmatch(given) else None
    if row is None:
        raise missing_object("meter event error", given)
    return _shown(_read(row), livemode=call.desk.livemode)


def _first(
    keeper: Keeper, after: str | None, is_asked_for: Callable[[Refused], bool], most: int, *, newest_first: bool
) -> list[Refused]:
    """Up to so many that are asked for, beyond a place. All that are kept are looked through, where few are."""
    found: list[Refused] = []
    while len(found) < most:
        rows = keeper.select(REFUSED_EVENT, after=after, limit=_ROWS_AT_A_TIME, newest_first=newest_first)
        found += islice(filter(is_asked_for, map(_read, rows)), most - len(found))
        if len(rows) < _ROWS_AT_A_TIME:
            break
        after = rows[-1].key
    return found


def _read(row: KeptRow) -> Refused:
    return Refused(row, msgspec.json.decode(row.body, type=RefusedEvent))


def _shown(one: Refused, *, livemode: bool) -> MeterEventError:
    event = one.event
    return MeterEventError(
        id=one.row.key,
        code=event.code,
        created=unix(instant(one.row.at)),
        event_name=event.event_name,
        identifier=event.identifier,
        livemode=livemode,
        message=event.message,
        payload=event.payload,
        request=ErrorRequest(id=event.request_id, idempotency_key=event.idempotency_key),
        timestamp=None if event.timestamp is None else unix(event.timestamp),
    )
