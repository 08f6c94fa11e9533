"""An archive that can't be read until a test allows it, as one in an object store that doesn't answer."""

from collections.abc import Mapping
from threading import Event

from tallybook.application import Metering
from tallybook.application.storage.ports import PositionedEventRow


class BlockedArchive:
    """Reads the pruned events of a ledger once `release` was called."""

    def __init__(self, metering: Metering) -> None:
        recorder = metering.imports.ledger.ledger_recorder
        self._archived_events = recorder.archived_events
        self._is_reached, self._is_released = Event(), Event()
        recorder.archived_events = self

    def read(self, archive: str, leaf_hashes: Mapping[int, bytes]) -> Mapping[int, PositionedEventRow]:
        """Return the rows, after the release."""
        self._is_reached.set()
        assert self._is_released.wait(60)
        return self._archived_events.read(archive, leaf_hashes)

    def wait_until_reached(self) -> None:
        """Wait until a thread reads the archive."""
        assert self._is_reached.wait(60)

    def release(self) -> None:
        """Let all threads go on."""
        self._is_released.set()

    def close(self) -> None:
        """Close the archive."""
        self._archived_events.close()
