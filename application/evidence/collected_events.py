"""The stored events behind the totals of a pack: their positions, and samples for its page."""

from collections.abc import Callable, Iterator

from eventsourcing.persistence import Notification

from ...domain.customer_periods import CustomerPeriods
from ...domain.meter import Meter
from ...domain.meter_event import MeterEvent
from ..ledger.ledger import Ledger
from ..results import ExplainedEvent

CHANGES_OF_EVENTS = ("EventCancelled", "CancelRevoked")
MAX_SAMPLES = 500
"""How many meter events of a total, and how many cancellations, the page shows. The other files have all."""
_BATCH_SIZE = 1_000


class PositionSet:
    """A set of positions up to a largest one, as one bit for each position of the ledger."""

    def __init__(self, largest: int) -> None:
        self._bits = bytearray(largest // 8 + 1)

    def add(self, position: int) -> None:
        """Add a position."""
        self._bits[position >> 3] |= 1 << (position & 7)

    def __len__(self) -> int:
        return sum(map(int.bit_count, self._bits))

    def __iter__(self) -> Iterator[int]:
        """Yield the positions in order."""
        for index, byte in enumerate(self._bits):
            if byte:
                yield from (index * 8 + bit for bit in range(8) if byte >> bit & 1)


class CollectedEvents:
    """The positions of stored events up to a checkpoint, in little memory: a pack may have hundreds of thousands.

    `facts` are the events about meters and periods, and `cancellations` the first ones about meter events. `progress`
    is called with the number of explained meter events; those of several totals are counted several times.
    """

    def __init__(self, ledger: Ledger, size: int, progress: Callable[[int], object]) -> None:
        self._ledger = ledger
        self._size = size
        self._progress = progress
        self._explained = 0
        self._streams: set[str] = set()
        self.positions = PositionSet(size)
        self.facts: list[Notification] = []
        self.cancellations: dict[int, Notification] = {}

    def add_meter(self, meter: Meter, customer: str) -> None:
        """Add the events of a meter and of its source, and the closed periods of a customer on it."""
        streams = {meter.id, CustomerPeriods.stream_id(meter.event_name, customer)}
        streams |= set() if meter.source is None else {Meter.stream_id(meter.source)}
        new_streams = streams - self._streams
        self._streams |= new_streams
        for stored in self._ledger.ledger_recorder.select_streams(sorted(new_streams)):
            if stored.id <= self._size:
                self.positions.add(stored.id)
                self.facts.append(stored)

    def of_explanation(
        self, events: Iterator[ExplainedEvent], samples: list[ExplainedEvent]
    ) -> Iterator[ExplainedEvent]:
        """Yield the events of an explanation; collect what is stored of them, and the first ones in `samples`."""
        identifiers: set[str] = set()
        for event in events:
            if len(samples) < MAX_SAMPLES:
                samples.append(event)
            identifiers.add(event.identifier)
            if event.superseded_by is not None:
                identifiers.add(event.superseded_by)
            if len(identifiers) >= _BATCH_SIZE:
                self._add_meter_events(identifiers)
                identifiers.clear()
            yield event
        self._add_meter_events(identifiers)

    def _add_meter_events(self, identifiers: set[str]) -> None:
        """Add the recordings, cancellations and revocations of meter events."""
        streams = [MeterEvent.stream_id(identifier) for identifier in sorted(identifiers)]
        for stored in self._ledger.ledger_recorder.select_streams(streams):
            if stored.id <= self._size:
                self.positions.add(stored.id)
                if stored.topic in CHANGES_OF_EVENTS and len(self.cancellations) < MAX_SAMPLES:
                    self.cancellations[stored.id] = stored
        self._explained += len(identifiers)
        self._progress(self._explained)
