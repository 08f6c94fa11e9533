"""Metering: the public API of Tallybook, embedded in a program."""

import logging
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType

from ..domain.acceptance_policy import AcceptancePolicy
from ..domain.authorship import Author, acting_as
from ..domain.meter_event import Cancellation, Revocation
from ..domain.meter_event_input import MeterEventInput
from ..projections.projector import Progress
from .access_log import LoggedCustomers, log_queries
from .clock import utc_now
from .commands.copy_ledger import copy_ledger
from .commands.usage import AttachToReceipts
from .ledger.ledger import Ledger
from .metering_queries import MeteringQueries
from .read_models.projection_runner import RelayedOutbox
from .results import (
    Backup,
    LedgerCopy,
    Receipt,
    Receipts,
)
from .storage.key_value import KeyValueStore
from .storage.postgres.settings import PostgresSettings
from .storage.url import resolve_store
from .system_user import library
from .validation import optional_note, require_choice, require_text

_log = logging.getLogger("tallybook.ledger")


class Metering(MeteringQueries):
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
        access_log_customers: str | None = None,
    ) -> "Metering":
        """Open the ledger at `url`, or create one there.

        `sqlite:///usage.db` is a file, `sqlite:////var/lib/usage.db` a file by its absolute path, and `sqlite://` a
        ledger in memory. `postgresql://user@host/database` is a database in the form that libpq reads, with
        `?schema=name` for another schema than `tallybook`; PostgresSettings have options that a URL has not.
        `policy` limits what is accepted. `clock` returns the time as a datetime with a timezone.

        With `access_log_customers`, each query of one customer's data is logged as a line of JSON, with its author, on
        the logger `tallybook.access` at the level INFO: without the customer (`hidden`), with a SHA-256 of its name
        (`hashed`), or with the name (`named`).

        Raises InvalidLedgerUrl, NotALedger, UnsupportedSchemaVersion, LedgerUnavailable or InvalidParameter.
        """
        store = resolve_store(url)
        if access_log_customers is not None:
            access_log_customers = require_choice(access_log_customers, "access_log_customers", LoggedCustomers)
        with ExitStack() as stack:
            ledger = Ledger(store)
            stack.callback(ledger.close)
            _warn_about_missing_triggers(ledger)
            ledger.ledger_recorder.max_clock_delay, ledger.ledger_recorder.clock = policy.max_clock_delay, clock
            read_models = store.open_read_models(ledger.changed_rules)
            stack.callback(read_models.close)
            metering = cls(ledger, read_models, policy, clock)
            stack.pop_all()
        if access_log_customers is not None:
            log_queries(metering, access_log_customers)
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
        return self._cancellation_commands.cancel(event_name, identifier, reason, by)

    def revoke_cancel(self, event_name: str, identifier: str, *, reason: str, by: str | None = None) -> Revocation:
        """Revoke the cancellation of a meter event: it counts again, as if it had never been cancelled.

        It can be cancelled again. Revoking again returns the first revocation. Raises InvalidCancellation if no such
        event of the meter was cancelled, or if the cancel window (24 hours by default) has passed since it was.
        """
        return self._cancellation_commands.revoke(event_name, identifier, reason, by)

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
