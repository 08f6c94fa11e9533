"""The values that the calls of `metering.cancellations` return. They are immutable."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from ..domain.bulk_cancellation import BulkCancellation, BulkCancellationStatus, CancellationSelection


@dataclass(frozen=True, slots=True)
class CancellationPreviewRow:
    """The meter events of a customer in a month that would be cancelled, and what that changes.

    `quantity` is that of the customer in [start, end) now, and `new_quantity` without the selected events.
    """

    customer: str
    start: datetime
    end: datetime
    count: int
    quantity: Decimal
    new_quantity: Decimal
    difference: Decimal


@dataclass(frozen=True, slots=True)
class CancellationPreview:
    """The meter events that a bulk cancellation would cancel, as of a position of the ledger.

    `count` events would be cancelled; `already_cancelled` of the selected ones are, and `too_old` were recorded before
    the cancel window. `digest` is the SHA-256 of the identifiers, in the order of recording, each followed by a line
    feed. `rows` are the totals by customer and month.
    """

    event_name: str
    selection: CancellationSelection
    position: int
    count: int
    digest: str
    already_cancelled: int
    too_old: int
    rows: tuple[CancellationPreviewRow, ...]


@dataclass(frozen=True, slots=True)
class BulkCancellationView:
    """One decision that cancels many meter events of a meter, and its progress.

    `count` are the events that it cancels, `cancelled` those that are so far and `revoked` those that count again. Some
    may never be cancelled by it, because they were cancelled singly meanwhile. `digest` and `position` are those of the
    preview. `revoked_at`, `revocation_reason` and `revoked_by` are set if it is revoked.
    `on_behalf_of` and `revoked_on_behalf_of` are names that the authors stated for somebody else.
    """

    cancellation_id: str
    event_name: str
    selection: CancellationSelection
    status: BulkCancellationStatus
    count: int
    cancelled: int
    revoked: int
    digest: str
    position: int
    cancelled_at: datetime
    reason: str
    by: str | None
    revoked_at: datetime | None = None
    revocation_reason: str | None = None
    revoked_by: str | None = None
    on_behalf_of: str | None = None
    revoked_on_behalf_of: str | None = None

    @classmethod
    def from_aggregate(cls, bulk: BulkCancellation) -> "BulkCancellationView":
        """Return the view of a bulk cancellation."""
        return cls(
            bulk.cancellation_id, bulk.event_name, bulk.selection, bulk.status, bulk.count, bulk.cancelled,
            bulk.revoked, bulk.digest, bulk.position, bulk.created_on, bulk.reason, bulk.by, bulk.revoked_at,
            bulk.revocation_reason, bulk.revoked_by, bulk.on_behalf_of,
            bulk.revoked_on_behalf_of,
        )  # fmt: skip
