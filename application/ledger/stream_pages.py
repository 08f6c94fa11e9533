"""Reads many streams in pages, so that their events need not be in memory at once."""

from collections.abc import Iterator

from eventsourcing.persistence import Notification

from ..interruption import check_interruption
from ..storage.ports import EventRecorder

PAGE_SIZE = 2_000


def events_by_prefix(
    recorder: EventRecorder, prefix: str, page_size: int = PAGE_SIZE, after_position: int = 0
) -> Iterator[Notification]:
    """Yield the events after a position of all streams whose ids begin with `prefix`, by stream and version."""
    after = prefix, 0
    while True:
        check_interruption()
        page = recorder.select_prefix_page(prefix, after, page_size, after_position)
        yield from page
        if len(page) < page_size:
            return
        after = str(page[-1].originator_id), page[-1].originator_version
