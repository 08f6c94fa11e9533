"""Prunes the history of a ledger: replaces the states of old usage, which are in an archive, by their leaf hashes.

Everything is checked first, then an event says where the history is, then states are replaced. A run that is killed
leaves a ledger that answers as before, and the next run goes on with the states that are left.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from eventsourcing.persistence import IntegrityError

from ...domain.acceptance_policy import AcceptancePolicy
from ...domain.errors import ArchiveInUse, ArchiveMismatch
from ...domain.history_pruning import DEFAULT_KEEP, STREAM_PREFIX, HistoryPruning, require_keep
from ...domain.timestamps import MIN_DATETIME, ensure_utc
from ...projections.ports import ResettableReadModelStore
from ..checkpoints.leaves import leaf_hashes
from ..checkpoints.pruned_headings import check_headings, headings_digest
from ..checkpoints.signing_keys import PublicKey
from ..interruption import check_interruption
from ..ledger.ledger import Ledger
from ..storage.ports import PositionedEventRow
from ..validation import optional_note, require_bool
from .reader import ArchiveReader, no_progress, verify_archive
from .results import ArchiveVerification, PrunedHistory, PruningResult
from .service import ArchiveService

if TYPE_CHECKING:
    from .destinations import Destination

ROWS_PER_TRANSACTION = 5_000
LOCK = "pruning the history"


class PruningService(ArchiveService):
    """Exports the events of a ledger, compares an archive with it, and prunes what is archived: `metering.archive`."""

    def __init__(
        self,
        ledger: Ledger,
        read_models: ResettableReadModelStore,
        position_at: Callable[[datetime], int],
        policy: AcceptancePolicy,
        clock: Callable[[], datetime],
    ) -> None:
        """Prune usage that was recorded up to `position_at` a time, which brings the read models up to date."""
        super().__init__(ledger)
        self._read_models = read_models
        self._position_at = position_at
        self._policy = policy
        self._clock = clock

    def pruned(self) -> PrunedHistory | None:
        """Return where the states of pruned usage are; None if the history was never pruned."""
        last = self._last_pruning()
        if last is None:
            return None
        return PrunedHistory(
            position=last.position,
            archive=last.archive,
            archived_position=last.archived_position,
            root=last.root,
            checkpoint_size=last.checkpoint_size,
            pruned_at=last.created_on,
            by=last.pruned_by,
        )

    def prune(
        self,
        destination: str | Path,
        *,
        checkpoints: str | Path,
        key: str | Path,
        previous_keys: Sequence[str | Path] = (),
        keep: timedelta = DEFAULT_KEEP,
        by: str | None = None,
        dry_run: bool = False,
        compact: bool = False,
        progress: Callable[[int, int], None] = no_progress,
    ) -> PruningResult:
        """Replace the states of usage that was recorded longer than `keep` ago, and is in the archive at `destination`.

        All answers stay the same; what needs the content of a pruned event reads it from the archive, whose place the
        ledger stores. Identifiers stay, so that a retry is a duplicate for ever. The whole archive is verified first:
        against the ledger, and against the checkpoint file `checkpoints`, which must be signed by `key`, a public key
        or its file, or by one of `previous_keys`. Usage after the last archived event or the last checkpoint is not
        pruned. It can be interrupted at any time; the next call goes on. If the archive was moved, call it with the new
        place.

        `keep` is at least the maximum age and the cancel window of the policy. With `dry_run`, nothing is changed, and
        the result says what would be. With `compact`, the freed space is returned to the operating system, and nothing
        can be recorded meanwhile.

        Raises InvalidParameter, InvalidArchive, ArchiveUnavailable, ArchiveInUse, ArchiveMismatch if anything differs,
        InvalidCheckpointFile or InvalidSigningKey.
        """
        keep, by = require_keep(keep, self._policy), optional_note(by, "by")
        dry_run, compact = require_bool(dry_run, "dry_run"), require_bool(compact, "compact")
        PublicKey.load(key)  # an archive can be verified without one
        archive = ArchiveReader.open(destination)
        url = _url_of(archive.destination)
        with self._ledger.key_value_store().try_lock(LOCK) as is_locked, archive.destination.exclusive():
            if not is_locked:
                raise ArchiveInUse("Another process is pruning this ledger. Try again when it has finished.")
            size_before = self._ledger.ledger_recorder.size_bytes()
            now = ensure_utc(self._clock(), "clock")
            recorded_until = now - min(keep, now - MIN_DATETIME)
            verification = verify_archive(archive, self._ledger, checkpoints, key, progress, previous_keys)
            previous = self._last_pruning()
            self._require_unchanged(verification, previous)
            if previous is not None and previous.archive != url and not dry_run:
                # The place is stored first: what follows may read pruned events, and the previous place may be gone.
                previous = self._append(previous, previous.position, url, verification, by, now)
            archived = min(verification.last_position, verification.checkpointed_rows)
            position = min(self._position_at(recorded_until), archived)
            if position > (0 if previous is None else previous.position) and not dry_run:
                self._append(previous, position, url, verification, by, now)
                self._position_at(now)  # brings the read models past the new event, so that they don't end before it
            events, state_bytes = self._replace_states(position, progress, dry_run=dry_run)
            if compact and not dry_run:
                self._ledger.ledger_recorder.compact()
        return PruningResult(
            archive=url,
            position=position,
            archived_position=verification.last_position,
            checkpoint_size=verification.checkpointed_rows,
            recorded_until=recorded_until,
            events=events,
            state_bytes=state_bytes,
            size_before=size_before,
            size_after=self._ledger.ledger_recorder.size_bytes(),
            is_dry_run=dry_run,
        )

    def _require_unchanged(self, verification: ArchiveVerification, previous: HistoryPruning | None) -> None:
        """Raise ArchiveMismatch if the archive differs, or hasn't got all events that were pruned before."""
        changed = check_headings(self._ledger)
        if verification.differences:
            first = verification.differences[0]
            problem = f"{first.file}: {first.message}"
        elif previous is not None and verification.last_position < previous.position:
            last = verification.last_position
            problem = f"it ends at position {last}, and the history is pruned to {previous.position}"
        elif changed is not None:
            problem = changed.message.rstrip(".")
        else:
            return
        raise ArchiveMismatch(
            f"Nothing was pruned, because the archive {verification.destination} can't replace the events: {problem}.",
            field="destination",
            value=verification.destination,
        )

    def _last_pruning(self) -> HistoryPruning | None:
        stored = self._ledger.ledger_recorder.select_by_prefix(STREAM_PREFIX)
        prunings = [one for one in self._ledger.aggregates(stored[-1:]) if isinstance(one, HistoryPruning)]
        return prunings[0] if prunings else None

    def _append(
        self,
        previous: HistoryPruning | None,
        position: int,
        url: str,
        verification: ArchiveVerification,
        by: str | None,
        now: datetime,
    ) -> HistoryPruning:
        """Store where the history up to a position is."""
        pruning = HistoryPruning.prune(
            previous,
            position,
            headings=headings_digest(self._ledger, position),
            archive=url,
            archived_position=verification.last_position,
            root=verification.root or "",
            checkpoint_size=verification.checkpointed_rows,
            by=by,
            at=now,
        )
        try:
            self._ledger.append(pruning.collect_events())
        except IntegrityError as error:  # the lock was lost with its connection
            raise ArchiveInUse("Another process has pruned this ledger meanwhile. Try again.") from error
        return pruning

    def _replace_states(self, position: int, progress: Callable[[int, int], None], *, dry_run: bool) -> tuple[int, int]:
        """Replace the states up to a position. Return their number and their bytes.

        The events at which generations of the read models end stay whole: they are read whenever the ledger is opened.
        """
        ends = {end for end, _ in self._read_models.generation_heads()}
        events, state_bytes = 0, 0
        for rows in self._pages(position):
            check_interruption()
            pruned = [row for row in rows if row[0] not in ends]
            if not dry_run and pruned:
                leaves = leaf_hashes(pruned)
                self._ledger.ledger_recorder.replace_states(
                    [(row[0], leaf) for row, leaf in zip(pruned, leaves, strict=True)]
                )
            events += len(pruned)
            state_bytes += sum(len(row[4]) for row in pruned)
            progress(rows[-1][0], position)
        return events, state_bytes

    def _pages(self, position: int) -> Iterator[Sequence[PositionedEventRow]]:
        """Yield the rows of usage up to a position whose states are in the ledger."""
        after = 0
        while rows := self._ledger.ledger_recorder.unpruned_rows(after, position, ROWS_PER_TRANSACTION):
            yield rows
            after = rows[-1][0]


def _url_of(destination: "Destination") -> str:
    from .locations import archive_url  # noqa: PLC0415 - an extra

    return archive_url(destination)
