"""The receipts of a batch: which meter events are new, and which are rejected, duplicates or conflicts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import msgspec

from ...domain.errors import ArchiveUnavailable, DuplicateMeterEvent, TallybookError
from ...domain.meter_event import MeterEventData
from ...domain.meter_event_input import MeterEventInput
from ..ledger.known_events import KnownEvent, PrunedMeterEvent, read_pruned_events
from ..ledger.ledger import Ledger, StoredMeterEvent
from ..results import MeterEventsRejected, Outcome, Receipt, Receipts


class Decision(msgspec.Struct):
    """The decision on one meter event: the data to store, or the error it is rejected with."""

    identifier: str | None
    event_input: MeterEventInput | None
    data: MeterEventData | None
    error: TallybookError | None = None


class RecordedBatch:
    """A batch of meter events that was recorded, and how many of them are new.

    The receipts are made when they are needed, by the thread that recorded the batch. An import whose rows are all new
    needs none.
    """

    def __init__(self, accepted: int, make_receipts: Callable[[], Receipts]) -> None:
        self.accepted = accepted
        self._make_receipts = make_receipts
        self._receipts: Receipts | None = None

    @property
    def receipts(self) -> Receipts:
        """A receipt for each meter event.

        A `cached_property` would hold a lock of all batches until they are made, before Python 3.12: a thread that
        reads an archive for them would hold up all others.
        """
        if self._receipts is None:
            self._receipts = self._make_receipts()
        return self._receipts


@dataclass(frozen=True, slots=True)
class PendingReceipt(Receipt):
    """The receipt of a meter event with the identifier of a pruned one, until `compare_pruned` has compared them.

    It isn't recorded in any case: it is a duplicate or a conflict.
    """

    identifier: str
    event_input: MeterEventInput = field(kw_only=True)
    pruned: PrunedMeterEvent = field(kw_only=True)


def has_pending(receipts: Iterable[Receipt]) -> bool:
    """Return whether some events have to be compared with pruned ones."""
    return PendingReceipt in map(type, receipts)


def build_receipts(
    decisions: Sequence[Decision], stored: Mapping[str, KnownEvent], positions: Mapping[str, int]
) -> Receipts:
    """Return the receipts of a batch, from the events stored before and the `positions` of the new ones."""
    if len(positions) == len(decisions):  # each event is new, under an identifier of its own
        return Receipts(map(Receipt, positions, positions.values(), repeat(Outcome.ACCEPTED)))
    known = dict(stored)
    receipts = Receipts()
    for decision in decisions:
        identifier, data = decision.identifier, decision.data
        if identifier is not None and data is not None and identifier in positions and identifier not in known:
            receipts.append(Receipt(identifier, positions[identifier], Outcome.ACCEPTED))
            known[identifier] = StoredMeterEvent(data, positions[identifier])  # a duplicate may follow in the batch
        elif identifier is None or decision.event_input is None or identifier not in known:
            receipts.append(Receipt(identifier, None, Outcome.REJECTED, decision.error))
        else:
            receipts.append(_known_receipt(identifier, decision.event_input, known[identifier]))
    return receipts


def compare_pruned(ledger: Ledger, receipts: Receipts) -> Receipts:
    """Return receipts none of which is pending: those that are were compared with what their archive has."""
    if not has_pending(receipts):
        return receipts
    pending = [receipt for receipt in receipts if isinstance(receipt, PendingReceipt)]
    stored = read_pruned_events(ledger, {receipt.identifier: receipt.pruned for receipt in pending})
    return Receipts(
        _known_receipt(receipt.identifier, receipt.event_input, stored[receipt.identifier])
        if isinstance(receipt, PendingReceipt)
        else receipt
        for receipt in receipts
    )


def require_recorded(receipts: Receipts) -> None:
    """Raise MeterEventsRejected if any of the meter events is not recorded with its content."""
    first = next(((index, receipt) for index, receipt in enumerate(receipts) if receipt.error is not None), None)
    if first is None:
        return
    index, receipt = first
    raise MeterEventsRejected(
        f"{receipts.rejected + receipts.conflicts} of {len(receipts)} meter events were not recorded; the first is "
        f"number {index} (identifier {receipt.identifier!r}): {receipt.error}",
        receipts,
    )


def _known_receipt(identifier: str, event_input: MeterEventInput, stored: KnownEvent) -> Receipt:
    """Return the receipt of an event whose identifier is taken.

    A resubmission of a stored event is a duplicate even if the current rules would reject it. If the stored event can't
    be read, it is rejected with the reason: it is a duplicate or a conflict, so nothing is lost.
    """
    if isinstance(stored, PrunedMeterEvent):
        error = ArchiveUnavailable(
            f"The identifier {identifier!r} is taken by an old meter event, which isn't read from the archive yet.",
            field="identifier",
            value=identifier,
        )
        return PendingReceipt(identifier, None, Outcome.REJECTED, error, event_input=event_input, pruned=stored)
    if not isinstance(stored, StoredMeterEvent):
        return Receipt(identifier, None, Outcome.REJECTED, stored)
    data, position = stored
    if data.matches(event_input):
        return Receipt(identifier, position, Outcome.DUPLICATE)
    conflict = DuplicateMeterEvent(
        f"The identifier {identifier!r} is taken by an event with other content, recorded at "
        f"{data.recorded_at:%Y-%m-%dT%H:%M:%SZ}; an identifier can be used once.",
        field="identifier",
        value=identifier,
    )
    return Receipt(identifier, position, Outcome.CONFLICT, conflict)
