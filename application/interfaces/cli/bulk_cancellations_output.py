"""Bulk cancellations as text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..formatting import (
    format_count,
    format_difference,
    format_number,
    format_requester,
    format_time,
    format_window_start,
)
from .tables import table
from .terminal import say

if TYPE_CHECKING:
    from ...cancellation_views import BulkCancellationView, CancellationPreview
    from .bulk_cancellations import CancellationOutcome

_NUMBERS = ("events", "now", "without them", "difference")


def show_outcome(timezone: str, limit: int, outcome: "CancellationOutcome") -> None:
    """Print what would be cancelled, and the bulk cancellations or how to make them."""
    for preview in outcome.previews:
        show_preview(timezone, limit, preview)
    if not outcome.previews:
        say("No meter events are selected.")
    for bulk in outcome.cancellations:
        show_cancellation(bulk)
    if not outcome.cancellations:
        say("Nothing is changed. The same command with --yes and --reason cancels them.")


def show_preview(timezone: str, limit: int, preview: "CancellationPreview") -> None:
    """Print how many events would be cancelled, and the total of each customer and month before and after."""
    from ....domain.calendar import get_timezone  # noqa: PLC0415 - loads the domain

    zone = get_timezone(timezone)
    events = format_count(preview.count, "event")
    say(f"{preview.event_name}: {events} to cancel, as of position {format_number(preview.position)}")
    rows = [
        (row.customer, format_window_start(row.start, "month", zone), format_number(row.count),
         format_number(row.quantity), format_number(row.new_quantity), format_difference(row.difference))
        for row in preview.rows[:limit]
    ]  # fmt: skip
    if rows:
        table(("customer", f"month ({timezone})", *_NUMBERS), rows, right=_NUMBERS)
    if len(preview.rows) > limit:
        say(f"and {format_count(len(preview.rows) - limit, 'more row', 'more rows')}; --limit shows them.")
    if preview.already_cancelled:
        say(f"not selected: {format_count(preview.already_cancelled, 'event')}, cancelled already")
    if preview.too_old:
        say(
            f"not selected: {format_count(preview.too_old, 'event')}, recorded before the cancel window; "
            "--any-age cancels them too"
        )
    say(f"SHA-256 {preview.digest}")


def show_cancellation(bulk: "BulkCancellationView") -> None:
    """Print the progress of a bulk cancellation, its reason and its id."""
    say(f"{bulk.status}: {_progress(bulk)} of {bulk.event_name}, {_when(bulk)}")
    say(f"id {bulk.cancellation_id}")


def show_cancellations(cancellations: "Sequence[BulkCancellationView]") -> None:
    """Print one line for each bulk cancellation."""
    if not cancellations:
        say("No bulk cancellations.")
        return
    rows = [
        (bulk.cancellation_id, bulk.event_name, bulk.status, _progress(bulk), _when(bulk)) for bulk in cancellations
    ]
    table(("id", "meter", "status", "events", "decision"), rows, whole=("id",))


def _progress(bulk: "BulkCancellationView") -> str:
    done, total = (bulk.revoked, bulk.cancelled) if bulk.revoked_at else (bulk.cancelled, bulk.count)
    return f"{format_number(done)} of {format_count(total, 'event')}"


def _when(bulk: "BulkCancellationView") -> str:
    if bulk.revoked_at is not None:
        at = format_time(bulk.revoked_at.replace(microsecond=0))
        return f"{at}{format_requester(bulk.revocation_reason, bulk.revoked_by, bulk.revoked_on_behalf_of)}"
    requester = format_requester(bulk.reason, bulk.by, bulk.on_behalf_of)
    return f"{format_time(bulk.cancelled_at.replace(microsecond=0))}{requester}"
