"""The selection of a bulk cancellation from call arguments."""

from datetime import datetime
from typing import TypedDict
from uuid import NAMESPACE_URL, uuid5

import msgspec

from ...domain.bulk_cancellation import CancellationSelection
from ...domain.errors import InvalidCancellation, InvalidParameter, PreviewChanged
from ...domain.timestamps import from_microseconds
from ..queries.cancellation_selection import SelectedEvents
from ..queries.dimension_query import Where, parse_dimensions
from ..validation import optional_customer, optional_time_range, require_text

MAX_WHERE_BYTES = 64_000
"""The selection is stored with the decision."""


class SelectionArguments(TypedDict, total=False):
    """The arguments of `cancellations.preview` and `cancel_many` that select meter events."""

    customer: str | None
    start: datetime | None
    end: datetime | None
    recorded_from: datetime | None
    recorded_until: datetime | None
    import_run: str | None
    identifier_prefix: str | None
    where: Where | None


def parse_selection(
    customer: object = None, start: object = None, end: object = None, recorded_from: object = None,
    recorded_until: object = None, import_run: object = None, identifier_prefix: object = None, where: object = None,
) -> CancellationSelection:  # fmt: skip
    """Return the selection of the arguments. Raises InvalidParameter, also if it has no condition."""
    times = (*optional_time_range(start, end), *optional_time_range(recorded_from, recorded_until))
    first, last, recorded_first, recorded_last = (None if at is None else from_microseconds(at) for at in times)
    conditions = parse_dimensions(where, ()).where
    texts = (value or "" for values in conditions.values() for value in values)
    if sum(len(msgspec.json.encode(text)) - len('""') for text in texts) > MAX_WHERE_BYTES:
        raise InvalidParameter(
            f"'where' must have at most {MAX_WHERE_BYTES:,} bytes of dimension values, because it is stored. "
            "Select by customer, time, import or identifier, or cancel in several parts.",
            field="where",
        )
    selection = CancellationSelection(
        customer=optional_customer(customer),
        start=first,
        end=last,
        recorded_from=recorded_first,
        recorded_until=recorded_last,
        import_run=None if import_run is None else require_text(import_run, "import_run", 100),
        identifier_prefix=(
            None if identifier_prefix is None else require_text(identifier_prefix, "identifier_prefix", 100)
        ),
        where={key: tuple(sorted(values, key=lambda value: value or "")) for key, values in conditions.items()},
    )
    if selection.is_everything:
        raise InvalidParameter(
            "Select the meter events to cancel: by customer, time, time of recording, import, beginning of the "
            "identifier or dimension values.",
            field="customer",
        )
    return selection


def check_selected(event_name: str, selected: SelectedEvents, digest: str | None, max_events: int) -> None:
    """Raise PreviewChanged for another digest, or InvalidCancellation for no events or too many."""
    if digest is not None and digest != selected.digest:
        raise PreviewChanged(
            f"Other meter events would be cancelled than those of the preview: {len(selected.events):,} now, with the "
            f"digest {selected.digest}. Preview it again.",
            field="digest",
            value=digest,
        )
    if not selected.events:
        raise InvalidCancellation(
            f"No meter event of {event_name!r} can be cancelled: of those selected, "
            f"{selected.already_cancelled:,} are cancelled already and {selected.too_old:,} were recorded before the "
            "cancel window. Lift cancel_window in the policy to cancel those too.",
            field="event_name",
            value=event_name,
        )
    if len(selected.events) > max_events:
        raise InvalidCancellation(
            f"{len(selected.events):,} meter events would be cancelled, more than the limit of {max_events:,}.",
            field="event_name",
            value=event_name,
        )


def id_of(identifier: str) -> str:
    """Return the id of the bulk cancellation with an identifier.

    A bulk cancellation that was proposed has the id of its proposal. That of a proposal with the same identifier is
    another one, because it is of another namespace.
    """
    return str(uuid5(NAMESPACE_URL, require_text(identifier, "identifier", 1_000)))
