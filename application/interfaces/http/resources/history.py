"""The history of a ledger: who did what, when, how and why."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .....domain.access_key import Scope
from .....domain.errors import AccessKeyNotFound, MeterEventNotFound
from ....history_results import HistoryEntry
from ..api_types import Customer, Id, ListObject, Name, Parameters, Reason, UnixTime, from_unix, to_unix
from ..errors import missing_object
from ..ledgers import RequestContext
from ..object_ids import decode_id, encode_id
from ..operations import OperationRegistry
from ..pagination import cursor_not_found, list_response, page_within_size
from .closed_periods import require_event_name

URL = "/v1/billing/history"
PREFIX = "hist"
_MAX_DIGITS = 18
operations = OperationRegistry("History")


class ListHistory(Parameters, kw_only=True):
    """What to list: a meter, with a customer its closed periods, a meter event, an access key, or everything.

    Recorded usage is included only with `include_usage`, if everything is listed. `by` selects what one author did, or
    what was done on behalf of this name; the times select what was recorded in [recorded_start_time,
    recorded_end_time).
    """

    access_key: Name | None = None
    by: Reason | None = None
    customer: Customer | None = None
    identifier: Name | None = None
    include_usage: bool = False
    limit: Annotated[int, Meta(ge=1, le=100)] = 10
    meter: Id | None = None
    recorded_end_time: UnixTime | None = None
    recorded_start_time: UnixTime | None = None
    starting_after: Id | None = None


class EventAuthor(msgspec.Struct, kw_only=True):
    """Who caused an event, and how. All fields are null if it was stored without them.

    `via` is library, command_line, http, import or outbox. `request_id` is that of the HTTP request, `system_user` the
    user of the operating system of another process, `import_run` the import that a meter event was recorded by.
    `approved_by` is who approved the `proposal` of the author.
    """

    approved_by: str | None
    by: str | None
    import_run: str | None
    on_behalf_of: str | None
    proposal: str | None
    request_id: str | None
    system_user: str | None
    via: str | None


class RuleChange(msgspec.Struct, kw_only=True):
    """The value of one of the rules before and after a change."""

    after: Any
    before: Any


class BillingHistoryEntry(msgspec.Struct, kw_only=True):
    """One event of the ledger. `event` is its type, such as RulesChanged, and `stream` is what it belongs to.

    `accepted_under` has the limits that it exceeds by default, as they were set: null is no limit. `changed` has the
    rules that a RulesChanged changes. `details` are the other fields of the event as they are stored.
    """

    id: str
    object: Literal["billing.history_entry"] = "billing.history_entry"
    accepted_under: dict[str, str | None]
    author: EventAuthor
    changed: dict[str, RuleChange]
    created: int
    details: dict[str, Any]
    event: str
    livemode: bool
    position: int
    reason: str | None
    stream: str


@operations.get(URL, Scope.READ, is_large=True)
def list_history(context: RequestContext[ListHistory]) -> ListObject[BillingHistoryEntry]:
    """List what happened, oldest first, each event with its author, reason and details."""
    params, ledger = context.params, context.ledger
    try:
        page = ledger.metering.history.list(
            event_name=None if params.meter is None else require_event_name(ledger, params.meter),
            customer=params.customer,
            identifier=params.identifier,
            key_id=params.access_key,
            by=params.by,
            recorded_from=None if params.recorded_start_time is None else from_unix(params.recorded_start_time),
            recorded_until=None if params.recorded_end_time is None else from_unix(params.recorded_end_time),
            after=_position_of(params.starting_after),
            include_usage=params.include_usage,
            limit=params.limit,
        )
    except MeterEventNotFound:
        raise missing_object("meter event", params.identifier or "", "identifier", 400) from None
    except AccessKeyNotFound:
        raise missing_object("access key", params.access_key or "", "access_key", 400) from None
    entries, is_cut = page_within_size(page.entries, params.limit, _details_size)
    data = [_to_object(entry, livemode=ledger.livemode) for entry in entries]
    return list_response(data, URL, has_more=page.has_more or is_cut)


def _details_size(entry: HistoryEntry) -> int:
    """Return the number of bytes of what an event has besides its author and reason."""
    return len(msgspec.json.encode(entry.details))


def _position_of(object_id: str | None) -> int:
    """Return the position of the entry that a page starts after; 0 for the first page. Raises ApiError."""
    if object_id is None:
        return 0
    number = decode_id(PREFIX, object_id)
    if number is None or not number.isdecimal() or len(number) > _MAX_DIGITS:
        raise cursor_not_found("starting_after", object_id)
    return int(number)


def _to_object(entry: HistoryEntry, *, livemode: bool) -> BillingHistoryEntry:
    author = entry.author
    return BillingHistoryEntry(
        id=encode_id(PREFIX, str(entry.position)),
        accepted_under=entry.accepted_under,
        author=EventAuthor(
            approved_by=author.approved_by,
            by=author.by,
            import_run=author.import_run,
            on_behalf_of=author.on_behalf_of,
            proposal=author.proposal_id,
            request_id=author.request_id,
            system_user=author.system_user,
            via=author.via,
        ),
        changed={name: RuleChange(before=before, after=after) for name, (before, after) in entry.changed.items()},
        created=to_unix(entry.recorded_at),
        details=entry.details,
        event=entry.event,
        livemode=livemode,
        position=entry.position,
        reason=entry.reason,
        stream=entry.stream,
    )
