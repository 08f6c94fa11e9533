"""An archive that can't be read takes little of the time of those who record: it isn't tried again at once."""

from typing import Any

import pytest
from tallybook.application.archive import locations
from tallybook.application.archive.archived_events import ArchivedEvents
from tallybook.domain.errors import ArchiveUnavailable

pytestmark = pytest.mark.fast


class UnreachableStore:
    """Archives that take six seconds to be found unreachable, and the clock that says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.opened: list[str] = []

    def open(self, archive: str, _: Any) -> None:
        """Fail after six seconds."""
        self.opened.append(archive)
        self.now += 6
        raise ArchiveUnavailable("no connection.", field="destination")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> UnreachableStore:
    """Let all archives be unreachable."""
    store = UnreachableStore()
    monkeypatch.setattr(locations, "resolve_destination", store.open)
    return store


def test_an_unreachable_archive_is_tried_again_after_ten_times_as_long(store: UnreachableStore) -> None:
    """Until then each call fails at once, with the same reason. Another archive is tried."""
    events = ArchivedEvents(lambda: store.now)
    for after, opened in ((0, 1), (0, 1), (59, 1), (2, 2), (0, 2)):
        store.now += after
        with pytest.raises(ArchiveUnavailable, match=r"position 7 is in the archive s3://bucket/usage.* no connection"):
            events.read("s3://bucket/usage", {7: bytes(32)})
        assert len(store.opened) == opened
    with pytest.raises(ArchiveUnavailable, match="s3://bucket/moved"):
        events.read("s3://bucket/moved", {7: bytes(32)})
    assert store.opened[-1] == "s3://bucket/moved"
