"""An archive that can't be read until a test allows it, as one in an object store that doesn't answer."""

from collections.abc import Mapping
from threading import Event, Semaphore

from tallybook.application import Metering
from tallybook.application.storage.ports import PositionedEventRow


class BlockedArchive:
    """Reads the pruned events of a ledger once `release` was called."""

    def __init__(self, metering: Metering) -> None:
        recorder = metering.imports.ledger.ledger_recorder
        self._archived_events = recorder.archived_events
        self._readers, self._is_released = Semaphore(0), Event()
        recorder.archived_events = self

    def read(self, archive: str, leaf_hashes: Mapping[int, bytes]) -> Mapping[int, PositionedEventRow]:
        """Return the rows, after the release."""
        self._readers.release()
        assert self._is_released.wait(60)
        return self._archived_events.read(archive, leaf_hashes)

    def wait_until_reached(self, threads: int = 1) -> None:
        """Wait until this many threads read the archive."""
        for _ in range(threads):
            assert self._readers.acquire(timeout=60)

    def release(self) -> None:
        """Let all threads go on."""
        self._is_released.set()

    def close(self) -> None:
        """Close the archive."""
        self._archived_events.close()
