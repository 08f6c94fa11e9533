"""The screen History: who did what, when and why; such as all cancellations, of any meter and period."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple
from urllib.parse import unquote

from .....domain.billing_run import STREAM_PREFIX as RUN_PREFIX
from .....domain.bulk_cancellation import STREAM_PREFIX as CANCELLATION_PREFIX
from .....domain.calendar import get_timezone
from .....domain.customer_periods import STREAM_PREFIX as PERIOD_PREFIX
from .....domain.import_run import STREAM_PREFIX as IMPORT_PREFIX
from .....domain.meter import STREAM_PREFIX as METER_PREFIX
from .....domain.meter_event import STREAM_PREFIX as EVENT_PREFIX
from ....history_results import HistoryEntry
from ...history_text import format_effect, format_via
from ..registry import ViewContext, ViewRegistry
from ..responses import Page
from ..selection import parse_selection, parse_time

views = ViewRegistry()

ENTRIES_PER_PAGE = 100
MAX_INLINE_HEAD = 200_000
"""In a longer ledger, the entries are loaded after the page."""
DEFAULT_AGE = timedelta(days=92)
_READ_AT_ONCE = 1_000
KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "all": ("everything", ("",)),
    "cancellations": ("cancellations", (EVENT_PREFIX, CANCELLATION_PREFIX)),
    "rules": ("meters and rules", (METER_PREFIX,)),
    "periods": ("closed periods", (PERIOD_PREFIX, RUN_PREFIX)),
    "imports": ("imports", (IMPORT_PREFIX,)),
}
"""What can be shown: its name, and the streams that it is about."""


class HistoryRow(NamedTuple):
    """An entry as it is shown: what it is about, and the page of that, if there is one."""

    entry: HistoryEntry
    subject: str
    url: str | None
    effect: str
    via: str


@views.get("/history")
def history(context: ViewContext) -> Page:
    """Show what happened, oldest first, without recorded usage."""
    filters = _filters(context)
    is_inline = context.metering.catch_up() <= MAX_INLINE_HEAD or context.params.is_set("details")
    values = _page_of_entries(context, filters) if is_inline else {"rows": None}
    kinds = [(name, text) for name, (text, _) in KINDS.items()]
    selection = parse_selection(context)
    return Page("history.html", {"selection": selection, "kinds": kinds, "filters": filters, **values})


@views.get("/history/entries", is_large=True)
def entries(context: ViewContext) -> Page:
    """Show the entries alone, which take long to find in a large ledger."""
    filters = _filters(context)
    selection = parse_selection(context)
    values = {"selection": selection, "filters": filters, **_page_of_entries(context, filters)}
    return Page("history_entries.html", values)


def _filters(context: ViewContext) -> dict[str, str]:
    """Return the fields of the form, as they are used: by default, what was recorded in the last months."""
    params, kind = context.params, context.params.get("kind", "all")
    return {
        "kind": kind if kind in KINDS else "all",
        "by": params.get("by"),
        "recorded_from": params.get("recorded_from") or f"{context.user.ledger.now() - DEFAULT_AGE:%Y-%m-%d}",
        "recorded_until": params.get("recorded_until"),
        "timezone": params.get("timezone", "UTC"),
    }


def _page_of_entries(context: ViewContext, filters: Mapping[str, str]) -> dict[str, object]:
    zone, until = get_timezone(filters["timezone"]), filters["recorded_until"]
    found = _entries(
        context, filters["by"] or None, parse_time(filters["recorded_from"], "recorded_from", zone),
        parse_time(until, "recorded_until", zone) if until else None, context.params.number("after", 0, 2**62),
    )  # fmt: skip
    _, prefixes = KINDS[filters["kind"]]
    selected = list(islice((one for one in found if one.stream.startswith(prefixes)), ENTRIES_PER_PAGE + 1))
    shown = selected[:ENTRIES_PER_PAGE]
    return {
        "rows": [_row(context, entry) for entry in shown],
        "next_after": shown[-1].position if len(selected) > len(shown) else None,
    }


def _entries(
    context: ViewContext, by: str | None, since: datetime, until: datetime | None, after: int
) -> Iterator[HistoryEntry]:
    """Yield the entries after a position, page by page."""
    has_more = True
    while has_more:
        page = context.metering.history.list(
            by=by, recorded_from=since, recorded_until=until, after=after, limit=_READ_AT_ONCE
        )
        yield from page.entries
        after, has_more = page.next_after, page.has_more


def _row(context: ViewContext, entry: HistoryEntry) -> HistoryRow:
    kind, _, name = entry.stream.partition("/")
    url = None
    match f"{kind}/":
        case prefix if prefix == EVENT_PREFIX:
            url = context.url("/event", id=name)
        case prefix if prefix == METER_PREFIX:
            url = context.url("/rules", meter=name)
        case prefix if prefix == PERIOD_PREFIX:
            meter, _, customer = map(unquote, name.partition("/"))
            name = f"{customer} on {meter}"
            bounds = entry.details.get("start"), entry.details.get("end")
            if all(isinstance(bound, str) for bound in bounds) and not customer.startswith("="):
                start, end = bounds
                url = context.url("/periods/customer", meter=meter, customer=customer, **{"from": start, "to": end})
        case _:
            pass
    return HistoryRow(entry, f"{kind} {name}", url, format_effect(entry), format_via(entry))
