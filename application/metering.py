"""Metering: the public API of Tallybook, embedded in a program."""

import logging
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType

from ..domain.authorship import Author, acting_as
from ..domain.meter_event import Cancellation, Revocation
from ..domain.meter_event_input import MeterEventInput
from ..domain.policy import AcceptancePolicy
from ..projections.projector import Progress
from .archive.reader import ArchiveReader
from .archive.results import ArchiveComparison
from .clock import utc_now
from .commands.copy_ledger import copy_ledger
from .commands.usage import AttachToReceipts
from .ledger.ledger import Ledger
from .metering_parts import MeteringParts
from .queries.dimension_query import Where
from .queries.verification import Verification
from .read_models.projection_runner import RelayedOutbox
from .result_lists import MeterEventList, TotalList
from .results import (
    Backup,
    Explanation,
    ExplanationPage,
    ExplanationStream,
    LedgerCopy,
    MeterEventView,
    Receipt,
    Receipts,
    Total,
    TotalChange,
)
from .storage.key_value import KeyValueStore
from .storage.postgres.settings import PostgresSettings
from .storage.url import resolve_store
from .system_user import library
from .validation import optional_note, require_text

_log = logging.getLogger("tallybook.ledger")


class Metering(MeteringParts):
    """A usage ledger: record and cancel meter events, and query totals. Open one with `Metering.open`.

    The everyday calls are methods; the others are grouped in namespaces, such as `meters`, `periods` and `rules`. An
    instance may be shared between threads, and any number of processes may open the same ledger. Every error is a
    `TallybookError` with a code.
    """

    @classmethod
    def open(
        cls,
        url: str | PostgresSettings,
        *,
        policy: AcceptancePolicy = AcceptancePolicy(),  # noqa: B008 - frozen
        clock: Callable[[], datetime] = utc_now,
    ) -> "Metering":
        """Open the ledger at `url`, or create one there.

        `sqlite:///usage.db` is a file, `sqlite:////var/lib/usage.db` a file by its absolute path, and `sqlite://` a
        ledger in memory. `postgresql://user@host/database` is a database in the form that libpq reads, with
        `?schema=name` for another schema than `tallybook`; PostgresSettings have options that a URL has not.
        `policy` limits what is accepted. `clock` returns the time as a datetime with a timezone. Raises
        InvalidLedgerUrl, NotALedger, UnsupportedSchemaVersion or LedgerUnavailable.
        """
        store = resolve_store(url)
        with ExitStack() as stack:
            ledger = Ledger(store)
            stack.callback(ledger.close)
            _warn_about_missing_triggers(ledger)
            read_models = store.open_read_models(ledger.changed_rules)
            stack.callback(read_models.close)
            metering = cls(ledger, read_models, policy, clock)
            stack.pop_all()
        return metering

    def close(self) -> None:
        """Close the ledger. Calls in progress on other threads finish first; new ones raise LedgerUnavailable.

        Tasks that run in this process are interrupted.
        """
        self.tasks.close()
        self._read_models.close()
        self._ledger.close()

    def __enter__(self) -> "Metering":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def acting_as(self, by: str, *, on_behalf_of: str | None = None) -> Generator[None]:
        """Make `by` the author of all events that the current thread or task causes in the block.

        For a program that knows who its user is, such as a web application after the login: it states that once. What
        a call in the block names as `by` can't replace the author, and is stored as `on_behalf_of`. Names have at most
        500 characters. New threads don't inherit the author, tasks do.
        """
        author = Author(require_text(by, "by", 500), library(), optional_note(on_behalf_of, "on_behalf_of"))
        with acting_as(author):
            yield

    # --- commands ---------------------------------------------------------------------------------

    def record(
        self,
        event_name: str,
        payload: Mapping[str, str | int | Decimal],
        *,
        identifier: str | None = None,
        timestamp: datetime | None = None,
    ) -> Receipt:
        """Record one meter event. It is durable when this returns.

        With an identifier, a retry is safe forever: the same content again returns the outcome `duplicate` and the
        first position, and other content raises DuplicateMeterEvent. Without one, each call records another event.
        Payload values are text, int or Decimal. `timestamp` is when the usage occurred; now if None. Raises a subclass
        of InvalidRequest, MeterNotFound or DuplicateMeterEvent, which names the field.
        """
        return self._usage_commands.record(
            {"event_name": event_name, "payload": payload, "identifier": identifier, "timestamp": timestamp}
        )

    def record_many(
        self,
        meter_events: Iterable[MeterEventInput | Mapping[str, object] | object],
        *,
        strict: bool = False,
        attach: AttachToReceipts | None = None,
        authors: Sequence[Author | None] | None = None,
    ) -> Receipts:
        """Record many meter events in one transaction. They are durable when this returns.

        A meter event is a mapping or an object with `event_name`, `payload`, `identifier` and `timestamp`. Returns a
        receipt for each, in order: `accepted`, `duplicate`, `conflict` (the identifier has other content) or
        `rejected`, the last two with their `error`. An invalid event never affects the others. With `strict`,
        MeterEventsRejected is raised after the others are recorded if any event is in conflict or rejected; it has the
        receipts.

        `attach` is for programs that serve a ledger to others: it returns key-value entries to insert in the same
        transaction, given the receipts and the time of the batch. It may be called again if the transaction is
        retried, and must not use the ledger. EntryExists is raised, with nothing stored, if an entry exists already.
        `authors` has the author of each meter event then, instead of that of the current thread.
        """
        return self._usage_commands.record_many(meter_events, strict=strict, attach=attach, authors=authors)

    def cancel(
        self, event_name: str, identifier: str, *, reason: str | None = None, by: str | None = None
    ) -> Cancellation:
        """Cancel a meter event, as if it had never been recorded; the event itself stays in the ledger.

        Cancelling it again returns the first cancellation; `revoke_cancel` undoes it. Raises InvalidCancellation if no
        such event is recorded for the meter, or if its cancel window (24 hours from its recording by default) has
        passed.
        """
        return self._usage_commands.cancel(event_name, identifier, reason, by)

    def revoke_cancel(self, event_name: str, identifier: str, *, reason: str, by: str | None = None) -> Revocation:
        """Revoke the cancellation of a meter event: it counts again, as if it had never been cancelled.

        It can be cancelled again. Revoking again returns the first revocation. Raises InvalidCancellation if no such
        event of the meter was cancelled, or if the cancel window (24 hours by default) has passed since it was.
        """
        return self._usage_commands.revoke_cancel(event_name, identifier, reason, by)

    # --- queries ----------------------------------------------------------------------------------

    def total(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
    ) -> Total:
        """Return the total of `customer` in [start, end); of all customers if None; zeros if there is no usage.

        `as_of` returns what was known then: at a time (before anything was recorded later) or at a ledger position.
        `where` selects usage by its dimension values, such as {"model": "small", "region": ["eu", None]}; None is the
        usage without an optional dimension. `group_by` adds the total of each combination of the values of these
        dimensions as `groups`. Raises MeterNotFound, InvalidTimeRange, InvalidAsOf or InvalidParameter.
        """
        return self._total_queries.total(event_name, customer, start, end, as_of, where, group_by)

    def totals(
        self,
        event_name: str,
        start: datetime,
        end: datetime,
        *,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
    ) -> TotalList:
        """Return the total of each customer with counted usage in [start, end), ordered by customer."""
        return self._total_queries.totals(event_name, start, end, as_of, where, group_by)

    def replay_totals(self, event_name: str, start: datetime, end: datetime) -> TotalList:
        """Return the totals computed from the ledger alone, without reading or writing the read models.

        It reads the whole ledger on each call. Raises MeterNotFound, InvalidTimeRange or ProjectionStopped.
        """
        return self._total_queries.replay_totals(event_name, start, end)

    def summaries(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        window: str,
        timezone: str = "UTC",
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
    ) -> TotalList:
        """Return a total for each `minute`, `hour`, `day`, `month` or `year` of [start, end) with counted usage.

        Windows follow the local time of `timezone`, an IANA name, and are cut at the ends of the range. `start` and
        `end` of each total are in UTC. At most 100,000 windows. Raises UnknownTimezone too.
        """
        return self._total_queries.summaries(event_name, customer, start, end, window, timezone, as_of, where, group_by)

    def events(
        self,
        event_name: str,
        *,
        customer: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | int | None = None,
        limit: int = 1_000,
        starting_after: str | None = None,
        where: Where | None = None,
    ) -> MeterEventList:
        """Return the meter events in [start, end) with their verdicts, ordered by the time they occurred.

        At most `limit` (1 to 10,000). For the next page, pass the last identifier as `starting_after`.
        """
        return self._event_queries.events(event_name, customer, start, end, as_of, limit, starting_after, where)

    def event(
        self, identifier: str, *, event_name: str | None = None, as_of: datetime | int | None = None
    ) -> MeterEventView:
        """Return a meter event with its verdict: that of the meter it was recorded for, or of a derived `event_name`.

        Raises MeterEventNotFound, also if that meter doesn't count it or it was not recorded at `as_of`.
        """
        return self._event_queries.event(identifier, event_name, as_of)

    def explain(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
        closed: bool = False,
    ) -> Explanation:
        """Return every meter event behind a total with its verdict; the contributions add up to the total.

        With `closed`, it is the frozen total of the closed period [start, end), under its rules.
        """
        return self._explanations.explain(event_name, customer, start, end, as_of, where, group_by, closed)

    def open_explanation(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
        closed: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[ExplanationStream]:
        """Explain a total of any number of meter events: they are read while they are iterated, inside a `with` block.

        Before the block, all usage is read for the total; `progress` is called with the number of events read so far.
        After the block, reading events raises RuntimeError.
        """
        return self._explanations.open_explanation(
            event_name, customer, start, end, as_of, where, group_by, closed, progress
        )

    def explain_page(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        closed: bool = False,
        verdicts: Collection[str] | None = None,
        offset: int = 0,
        limit: int = 100,
        max_events: int = 10_000,
    ) -> ExplanationPage | None:
        """Explain a total with a page of its meter events: `limit` of them, after the first `offset`.

        `verdicts` selects some, such as ["cancelled", "superseded"]. The total, the digest and the counts are those of
        all events, which are read for each page. Returns None if there are more than `max_events`: use shorter ranges,
        or `open_explanation`.
        """
        return self._explanations.explain_page(
            event_name, customer, start, end, as_of, where, closed, verdicts, offset, limit, max_events
        )

    def compare(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        since: datetime | int,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        offset: int = 0,
        limit: int = 100,
    ) -> TotalChange:
        """Return a total as of two points of the ledger, and the events that were recorded, cancelled, superseded or
        restored in between: `limit` of them, after the first `offset`. `as_of` is the later point; now if None.
        """
        return self._change_queries.compare(event_name, customer, start, end, since, as_of, where, offset, limit)

    def verify(self, progress: Callable[[Progress], None] | None = None) -> Verification:
        """Compare the live read models and all closed periods with a new fold of the ledger."""
        return self._verifier.verify(progress)

    def verify_with_archive(
        self, destination: str | Path, progress: Callable[[int, int], None] | None = None
    ) -> ArchiveComparison:
        """Compare the live read models and all closed periods with what DuckDB computes from an archive.

        These are the totals of all customers by month, day and hour, under the rules in the archive, and the digests of
        closed periods: an account by SQL, without the code that projects. It doesn't read single usage records;
        `verify` does. `destination` is a folder or a URL. Raises InvalidArchive, ArchiveUnavailable, ArchiveMismatch,
        or LedgerCorrupted if events are missing in the archive; `archive.verify` verifies each byte of it.
        """
        archive = ArchiveReader.open(destination)
        return self._archive_comparer.compare(archive.location, archive.files, progress)

    # --- projection and storage -------------------------------------------------------------------

    def catch_up(self, progress: Callable[[Progress], None] | None = None) -> int:
        """Bring the read models up to date, as each query does, and return the ledger position they have reached.

        `progress` is called after each page. If the database user may not project, this waits for another process that
        does. Raises ProjectionStopped at an event that cannot be folded.
        """
        return self._fresh_read_models.catch_up(progress)

    def run_projection(self, stop: threading.Event | None = None, *, outbox: RelayedOutbox | None = None) -> None:
        """Keep the read models up to date until `stop` is set; forever if it is None.

        Queries bring them up to date themselves; with a projection running they have less to do, and database users
        who may only read depend on it. Any number of processes may run one: one at a time projects, and another takes
        over if that one ends. The rows of an `outbox` are relayed too. A lost connection is retried for a while. Raises
        LedgerUnavailable or ProjectionStopped.
        """
        self._projection_runner.run(stop or threading.Event(), outbox)

    def backup(
        self, file: str | Path, *, overwrite: bool = False, progress: Callable[[int, int], object] | None = None
    ) -> Backup:
        """Write a backup of a SQLite ledger, while others record: every event acknowledged before, checked, mode 0600.

        `progress` is called with the bytes copied and their number. Raises BackupNotSupported on PostgreSQL, which has
        `pg_dump`; InvalidParameter, also if the file exists without `overwrite`; LedgerUnavailable or LedgerCorrupted.
        """
        return self._ledger.ledger_recorder.backup(Path(file).absolute(), overwrite=overwrite, progress=progress)

    def copy(self, url: str | PostgresSettings, *, progress: Callable[[int, int], object] | None = None) -> LedgerCopy:
        """Copy the ledger to an empty one at `url`, of either store: the same positions, times, keys and entries.

        The copy is verified and appears as a whole: if the call fails or is killed, nothing is stored there. Let no
        program record here meanwhile, or it is counted as `later_events`. `progress` is called with the number of
        events done, each twice, and their number. Raises LedgerNotEmpty, InvalidLedgerUrl, NotALedger,
        LedgerUnavailable or LedgerCorrupted.
        """
        return copy_ledger(self._ledger.ledger_recorder, resolve_store(url), progress)

    def key_value_store(self) -> KeyValueStore:
        """Return the key-value store, which is created if it doesn't exist. Raises DatabasePermissionDenied."""
        return self._ledger.key_value_store()


def _warn_about_missing_triggers(ledger: Ledger) -> None:
    """Log a warning if somebody has removed what prevents changes of stored events."""
    if missing := ledger.ledger_recorder.missing_triggers():
        _log.warning(
            "The triggers %s, which protect stored events from changes, are missing or disabled. Whoever removed them "
            "may have changed events: compare the ledger with its checkpoints ('tallybook verify --checkpoints').",
            ", ".join(missing),
        )
