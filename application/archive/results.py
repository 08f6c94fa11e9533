"""The results of exporting and verifying an archive: plain values."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ArchiveExport:
    """The result of an export: what it added, and what the archive contains now.

    `rows` events were added in `segments` files of `bytes` bytes together. `last_position` is the last archived
    position, and `root` the root of the Merkle tree of all archived events in base64, as in a checkpoint.
    """

    destination: str
    segments: int
    rows: int
    bytes: int
    last_position: int
    root: str


@dataclass(frozen=True, slots=True)
class ArchiveDifference:
    """What is wrong with a file of an archive, and at which positions, if that is known."""

    file: str
    first_position: int | None
    last_position: int | None
    message: str


@dataclass(frozen=True, slots=True)
class ArchiveVerification:
    """The result of verifying an archive. It is unchanged if there are no `differences`.

    It has `rows` events in `segments` files. The first `matching_checkpoints` of the `checkpoints` that cover archived
    events match; the last of them covers `checkpointed_rows`. `is_compared_with_ledger` is whether each event was
    compared with that of the ledger. `warnings` are what the next export corrects, and what is not verified.
    """

    destination: str
    segments: int
    rows: int
    last_position: int
    root: str | None
    checkpoints: int
    matching_checkpoints: int
    checkpointed_rows: int
    is_compared_with_ledger: bool
    differences: tuple[ArchiveDifference, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UsageMaterialization:
    """The result of materializing the usage of a meter in an archive: what was added, and what there is now.

    `added` of the `segments` files are new, with `added_bytes` bytes together. There is a file for each segment of the
    archive and each way in which revisions of the meter's rules read events.
    """

    destination: str
    event_name: str
    added: int
    added_bytes: int
    segments: int
    last_position: int


@dataclass(frozen=True, slots=True)
class IcebergRegistration:
    """The result of registering an archive as an Iceberg table, in which `segments` files are new.

    `location` is that of the table and of the archive. `last_position` and `root` are those of the archive; the
    snapshot has them as the properties `tallybook.last-position` and `tallybook.root`.
    """

    table: str
    location: str
    segments: int
    last_position: int
    root: str


@dataclass(frozen=True, slots=True)
class TotalDifference:
    """A total of the read models that isn't that of the archive: `found` there, `expected` from the archive.

    It is that of a customer in [start, end) with these dimension values, None if that side has none; or the digest of a
    closed period.
    """

    event_name: str
    customer: str
    start: datetime
    end: datetime
    dimensions: dict[str, str | None] = field(hash=False)
    found: str | None
    expected: str | None


@dataclass(frozen=True, slots=True)
class ArchiveComparison:
    """The live read models compared with what DuckDB computes from an archive, as of its last event at `position`.

    `totals` and `closed_periods` are the numbers of those that were compared. The first 100 of the `difference_count`
    differences are listed.
    """

    destination: str
    position: int
    totals: int
    closed_periods: int
    difference_count: int
    differences: tuple[TotalDifference, ...]

    @property
    def is_equal(self) -> bool:
        """Whether there is no difference."""
        return not self.difference_count


@dataclass(frozen=True, slots=True)
class PruningResult:
    """The result of pruning the history, or of `is_dry_run` what it would be.

    The states of `events`, of `state_bytes` together, were replaced by their leaf hashes of 32 bytes. They are those of
    usage up to `position`, recorded until `recorded_until`, whose states were still in the ledger. They are in
    `archive`, which ends at `archived_position` and matches a signed checkpoint of `checkpoint_size` events. The ledger
    took `size_before` bytes, and takes `size_after`, of which what is free is used for new events.
    """

    archive: str
    position: int
    archived_position: int
    checkpoint_size: int
    recorded_until: datetime
    events: int
    state_bytes: int
    size_before: int
    size_after: int
    is_dry_run: bool


@dataclass(frozen=True, slots=True)
class PrunedHistory:
    """Where the states of pruned usage are: up to `position` in `archive`, since `pruned_at`.

    The archive ended at `archived_position` then, with the root `root`, and matched a signed checkpoint of
    `checkpoint_size` events.
    """

    position: int
    archive: str
    archived_position: int
    root: str
    checkpoint_size: int
    pruned_at: datetime
    by: str | None
