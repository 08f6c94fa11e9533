"""The read models of a PostgreSQL ledger, in a separate schema. Dropping the schema loses no data."""

import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from eventsourcing.persistence import IntegrityError
from psycopg import Connection, Cursor
from psycopg.errors import LockNotAvailable

from ....domain.errors import DatabasePermissionDenied, LedgerUnavailable
from ....projections.models import Generation, GenerationState, PinnedRules
from ....projections.ports import PageFold, ReadModelStore
from ..file_lock import GENERATION_LOCK_TIMEOUT_SECONDS, describe_owner, lock_timeout_error
from ..ports import REBUILD_HINT, ReadModelsMissing
from .connection import COMMIT_ASYNCHRONOUSLY, PostgresDatastore, Prepare, TransactionMode
from .errors import ReadOnlyServer, TablesMissing, translate_errors
from .generations import PostgresGenerations, PostgresTracking, lock_writes_sql
from .live_sessions import LiveSessions
from .monitored_connection import MonitoredConnection
from .read_model_schema import READ_MODEL_SCHEMA
from .schema import advisory_lock_key
from .single_connection import SingleConnectionDatastore
from .statements import PostgresReadModels

Result = TypeVar("Result")
_MAX_ATTEMPTS = 10
_SHORT_LOCK_TIMEOUT_MS = 200


class PostgresReadModelStore:
    """The read models of one ledger, in generations, one of which is live and answers queries.

    The position of each generation is tracked in the same transaction as its rows. `current_rules` returns the rules
    of the meters whose rules have changed; the first generation is projected under them.
    """

    def __init__(self, datastore: PostgresDatastore, current_rules: Callable[[], PinnedRules]) -> None:
        self.datastore = datastore
        self.current_rules = current_rules
        self._tracking = PostgresTracking(datastore)
        self._live_sessions = LiveSessions(datastore, self._tracking)
        self._thread_lock = threading.Lock()
        self._select_version_and_live = datastore.format_sql(
            "SELECT version, (SELECT generation FROM {schema}.generations WHERE state = 'live')"
            " FROM {schema}.read_models"
        )

    # --- the live generation ----------------------------------------------------------------------

    @contextmanager
    def read_session(self) -> Generator[PostgresReadModels]:
        """Read the rows of the live generation in one consistent state."""
        with self.session_for("read", None) as reader:
            yield reader

    @contextmanager
    def write_session(self) -> Generator[PostgresReadModels]:
        """Read and write the rows of the live generation exclusively. All changes are committed at the end."""
        with self.session_for("write", None) as writer:
            yield writer

    def apply_next_page(self, fold: PageFold, generation: int | None = None) -> int:
        """Write the next page that `fold` returns for a generation, or the live one, and return the new position.

        The generation stays locked while the page is folded. If the connection is lost, the page is folded again.
        """

        def apply_page() -> int:
            with self.session_for("write", generation) as writer:
                write = fold(writer)
                if write is not None:
                    writer.start_pipeline()
                    write(writer)
                return writer.position()

        return self.datastore.retry_transient(apply_page)

    @contextmanager
    def session_after_next_page(self, fold: PageFold) -> Generator[PostgresReadModels]:
        """Apply the next page as `apply_next_page` does, and read the rows of the live generation after it.

        The transaction that writes the page becomes the one that reads, in the round trip of its COMMIT.
        """
        with ExitStack() as stack:
            reader: PostgresReadModels | None = None
            with suppress(TablesMissing):  # which another session creates
                reader = self.datastore.retry_transient(partial(self._apply_and_read, fold, stack))
            yield stack.enter_context(self.read_session()) if reader is None else reader

    def _apply_and_read(self, fold: PageFold, stack: ExitStack) -> PostgresReadModels | None:
        """Write the next page and return a reader until `stack` ends; None if a session has to be opened for it."""
        with ExitStack() as session:
            writer = session.enter_context(self.session_for("write", None))
            write = fold(writer)
            if write is None:
                return None
            writer.start_pipeline()
            write(writer)
            reader = self._live_sessions.read_after(writer)
            if reader is not None:
                stack.push(session.pop_all())
            return reader

    def generation_heads(self) -> list[tuple[int, str | None]]:
        """Return the position of each generation, and the fingerprint of the ledger's event at that position.

        Return nothing if the role may record but not read the read models.
        """
        try:
            with self._transaction("read") as generations:
                return generations.heads()
        except DatabasePermissionDenied:
            return []

    def reset(self) -> None:
        """Drop all generations and create an empty live one."""
        pinned = self.current_rules()

        def replace_all(generations: PostgresGenerations) -> None:
            generations.lock_creation()
            generations.replace_all(pinned)

        self._change(replace_all)

    # --- all generations --------------------------------------------------------------------------

    def generations(self) -> list[Generation]:
        """Return all generations in the order of their creation."""
        with self.read_session():
            pass  # creates the live generation if there is none
        with self._transaction("read") as generations:
            return generations.all()

    def create(self, pinned: PinnedRules) -> Generation:
        """Create an empty generation in the state `building`."""
        number = self._change(lambda generations: generations.create("building", pinned))
        return Generation(number, GenerationState.BUILDING, pinned, {}, 0)

    def read_models(self, generation: int) -> ReadModelStore:
        """Return the read models of one generation. Their sessions raise GenerationNotFound once it is dropped."""
        return _GenerationReadModels(self, generation)

    def mark_ready(self, generation: int, revisions: Mapping[str, int]) -> None:
        """Mark a generation as completely built, at these revisions of the rules in force."""
        self._change(lambda generations: generations.mark_ready(generation, revisions))

    def make_live(self, generation: int, revisions: Mapping[str, int]) -> None:
        """Make a generation live and retire the live one, in one transaction.

        The retired generation is stored with these revisions of the rules in force.
        """
        self._change(lambda generations: generations.make_live(generation, revisions))

    def drop(self, generation: int, *, is_awaited: bool = True) -> None:
        """Drop a generation that is not live. If it is not awaited, its tables are locked for a moment only."""

        def drop(generations: PostgresGenerations) -> None:
            if not is_awaited:
                generations.connection.execute(f"SET LOCAL lock_timeout = {_SHORT_LOCK_TIMEOUT_MS}".encode())
            generations.drop(generation)

        self._change(drop)

    @contextmanager
    def generation_lock(
        self, activity: str, *, timeout_seconds: float = GENERATION_LOCK_TIMEOUT_SECONDS
    ) -> Generator[None]:
        """Hold the lock to build, compare or promote generations. Raise RebuildInProgress, which names the owner.

        The call waits a little, because a query holds the lock for moments while it follows changed rules. The server
        releases the lock when the owner's connection ends. Only one thread of this process waits for it at a time,
        because each waiting thread needs a connection.
        """
        deadline = time.monotonic() + timeout_seconds
        if not self._thread_lock.acquire(timeout=timeout_seconds):
            raise lock_timeout_error(self._lock_owner())
        with ExitStack() as stack:
            stack.callback(self._thread_lock.release)
            connection = stack.enter_context(self.datastore.dedicated_connection())
            with translate_errors(self.datastore.location):
                connection.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0")
                remaining_seconds = deadline - time.monotonic()
                is_locked = _try_advisory_lock(
                    connection, advisory_lock_key(self.datastore.lock_namespace, "generations"), remaining_seconds
                )
            if not is_locked:
                raise lock_timeout_error(self._lock_owner())
            self._change(lambda generations: generations.set_lock_owner(describe_owner(activity)))
            yield

    def _lock_owner(self) -> str | None:
        with self._transaction("read") as generations:
            return generations.lock_owner()

    @contextmanager
    def temporary(self, pinned: PinnedRules) -> Generator["PostgresReadModelStore"]:
        """Create empty read models in temporary tables, which are dropped at the end."""
        datastore = SingleConnectionDatastore(self.datastore.settings, self.datastore.monitor)
        read_model_store = PostgresReadModelStore(datastore, lambda: pinned)
        try:
            READ_MODEL_SCHEMA.create(datastore)
            yield read_model_store
        finally:
            read_model_store.close()

    def close(self) -> None:
        """Close all connections."""
        self.datastore.close()

    # --- transactions -----------------------------------------------------------------------------

    @contextmanager
    def session_for(self, mode: TransactionMode, generation: int | None) -> Generator[PostgresReadModels]:
        """Read, or read and write, the rows of a generation; None means the live one, created if there is none."""
        for _ in range(_MAX_ATTEMPTS):
            if generation is None:
                with self._translated(), self._live_sessions.open(mode) as live:
                    if live is not None:
                        yield live
                        return
            with self._prepared_transaction(mode, partial(_read_models_of, mode, generation)) as read_models:
                if read_models is not None:
                    if generation is None:
                        self._live_sessions.expect(read_models.generation)
                    yield read_models
                    return
            with _translate_permission_error():
                self._create_live()
        raise LedgerUnavailable(
            f"Another process dropped the read models {_MAX_ATTEMPTS} times while they were opened. {REBUILD_HINT}"
        )

    def _change(self, change: Callable[[PostgresGenerations], Result]) -> Result:
        """Change the tables of all generations in one transaction. Wait for a server that accepts changes."""

        def apply() -> Result:
            with self._transaction("write") as generations:
                return change(generations)

        return self.datastore.retry_transient(apply, ReadOnlyServer)

    @contextmanager
    def _transaction(self, mode: TransactionMode) -> Generator[PostgresGenerations]:
        """Start a transaction over the tables of all generations."""
        with self._prepared_transaction(mode, lambda generations, _: generations) as generations:
            yield generations

    @contextmanager
    def _prepared_transaction(
        self, mode: TransactionMode, prepare: Callable[[PostgresGenerations, int | None], Result]
    ) -> Generator[Result]:
        """Start a transaction and yield the result of `prepare`, which receives the live generation.

        The tables are created if they do not exist.
        """

        def check_and_prepare(connection: MonitoredConnection, _: Cursor[Any]) -> Result:
            row = connection.execute(self._select_version_and_live).fetchone()
            if row is None or row[0] != READ_MODEL_SCHEMA.version:
                raise TablesMissing(f"The read models have another schema version. {REBUILD_HINT}")
            if mode == "write":  # fails before a page is folded that this role could not write
                connection.execute(lock_writes_sql(self.datastore))
            return prepare(PostgresGenerations(self.datastore, self._tracking, connection), row[1])

        with ExitStack() as stack:
            result = self._enter_transaction(stack, mode, check_and_prepare)
            with self._translated():
                yield result

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            with translate_errors(self.datastore.location):
                yield
        except IntegrityError as error:
            raise LedgerUnavailable(f"The read models are corrupted: {error}. {REBUILD_HINT}") from error

    def _enter_transaction(self, stack: ExitStack, mode: TransactionMode, prepare: Prepare[Result]) -> Result:
        attempts = 0
        while True:
            try:
                return stack.enter_context(self.datastore.prepared_transaction(mode, prepare))
            except TablesMissing:
                attempts += 1
                if attempts > _MAX_ATTEMPTS:
                    raise
                with _translate_permission_error():
                    READ_MODEL_SCHEMA.ensure(self.datastore)

    def _create_live(self) -> None:
        pinned = self.current_rules()
        # The errors mean that another process created the generation first, or dropped all tables again.
        with suppress(IntegrityError, TablesMissing), self.datastore.transaction_for("write") as connection:
            generations = PostgresGenerations(self.datastore, self._tracking, connection)
            generations.lock_creation()
            if generations.live() is None:
                generations.create("live", pinned)


def _read_models_of(
    mode: TransactionMode, generation: int | None, generations: PostgresGenerations, live: int | None
) -> PostgresReadModels | None:
    """Return the read models of a generation, or of the live one if None. Return None if there is no live one."""
    while True:
        target = live if generation is None else generation
        if target is None:
            return None
        if mode == "write":
            generations.execute(COMMIT_ASYNCHRONOUSLY)
            generations.lock_projection(target)
            live = generations.live()
        if generation is not None:
            generations.require(target)
        elif live != target:  # another generation was promoted while this transaction waited for the lock
            continue
        generations.lock_tables(target)
        return PostgresReadModels(generations, target)


class _GenerationReadModels:
    """The read models of one generation."""

    def __init__(self, read_model_store: PostgresReadModelStore, generation: int) -> None:
        self.read_session = partial(read_model_store.session_for, "read", generation)
        self.write_session = partial(read_model_store.session_for, "write", generation)
        self.apply_next_page = partial(read_model_store.apply_next_page, generation=generation)


@contextmanager
def _translate_permission_error() -> Generator[None]:
    try:
        yield
    except DatabasePermissionDenied as error:
        raise ReadModelsMissing(error.message) from error


def _try_advisory_lock(connection: Connection[Any], lock_key: int, timeout_seconds: float) -> bool:
    """Take an advisory lock until the transaction ends. Return whether it was free in time."""
    connection.execute(f"SET LOCAL lock_timeout = {max(round(timeout_seconds * 1000), 1)}".encode())
    try:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock_key,))
    except LockNotAvailable:
        return False
    return True
