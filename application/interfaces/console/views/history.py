"""The screen History: who did what, when and why; such as all cancellations, of any meter and period."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple
from urllib.parse import unquote

from .....domain.billing_run import STREAM_PREFIX as RUN_PREFIX
from .....domain.bulk_cancellation import STREAM_PREFIX as CANCELLATION_PREFIX
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


@views.get("/history", is_large=True)
def history(context: ViewContext) -> Page:
    """Show what happened, oldest first, without recorded usage."""
    params, selection = context.params, parse_selection(context)
    kind = params.get("kind", "all")
    since = context.user.ledger.now() - DEFAULT_AGE
    if text := params.optional("recorded_from"):
        since = parse_time(text, "recorded_from", selection.timezone)
    until = params.optional("recorded_until")
    _, prefixes = KINDS.get(kind, KINDS["all"])
    entries = _entries(
        context, params.optional("by"), since, None if until is None else parse_time(until, "recorded_until",
        selection.timezone), params.number("after", 0, 2**62),
    )  # fmt: skip
    found = list(islice((one for one in entries if one.stream.startswith(prefixes)), ENTRIES_PER_PAGE + 1))
    shown = found[:ENTRIES_PER_PAGE]
    return Page(
        "history.html",
        {
            "selection": selection, "kind": kind, "kinds": [(name, text) for name, (text, _) in KINDS.items()],
            "by": params.get("by"), "recorded_from": params.get("recorded_from") or f"{since:%Y-%m-%d}",
            "recorded_until": params.get("recorded_until"), "rows": [_row(context, entry) for entry in shown],
            "next_after": shown[-1].position if len(found) > len(shown) else None,
        },
    )  # fmt: skip


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
