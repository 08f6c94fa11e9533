"""The read models of a SQLite ledger, in a separate file next to the ledger. Deleting the file loses no data."""

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ....projections.models import Generation, GenerationState, PinnedRules
from ....projections.ports import PageFold, ReadModelStore
from ...uuid7 import uuid7
from ..file_lock import GENERATION_LOCK_TIMEOUT_SECONDS, describe_owner, file_lock, lock_timeout_error
from ..private_files import permissions_like
from ..temp_directory import temp_directory
from .connection import Datastore
from .generations import READ_MODEL_SCHEMA, SQLiteGenerations, SQLiteTracking
from .statements import SQLiteReadModels


def open_read_model_datastore(database: str, permissions_of: str) -> Datastore:
    """Open a database of read models. A power failure may lose its last pages, which are then projected again.

    A new file gets the permissions of the file `permissions_of`, the ledger.
    """
    return Datastore(database, READ_MODEL_SCHEMA, synchronous="NORMAL", permissions_of=permissions_of)


class SQLiteReadModelStore:
    """The read models of one ledger, in generations, one of which is live and answers queries.

    The position of each generation is tracked in the same transaction as its rows. `current_rules` returns the rules
    of the meters whose rules have changed; the first generation is projected under them.
    """

    def __init__(self, datastore: Datastore, current_rules: Callable[[], PinnedRules]) -> None:
        self.datastore = datastore
        self.current_rules = current_rules
        self._tracking = SQLiteTracking(datastore)
        self._page_lock = threading.Lock()
        with datastore.transaction(commit=False):
            pass  # the first connection creates the tables if they do not exist

    # --- the live generation ----------------------------------------------------------------------

    @contextmanager
    def read_session(self) -> Generator[SQLiteReadModels]:
        """Read the rows of the live generation in one consistent state."""
        with self._read_transaction() as (generations, live_and_position):
            yield SQLiteReadModels(generations, *live_and_position)

    @contextmanager
    def write_session(self) -> Generator[SQLiteReadModels]:
        """Read and write the rows of the live generation exclusively. All changes are committed at the end."""
        pinned: PinnedRules | None = None
        while True:
            with self.transaction(commit=True) as generations:
                live_and_position = generations.live_and_position()
                if live_and_position is None and pinned is not None:
                    live_and_position = generations.create("live", pinned), 0
                if live_and_position is not None:
                    yield SQLiteReadModels(generations, *live_and_position)
                    return
            pinned = self.current_rules()  # read from the ledger, so not while others wait for this file

    def apply_next_page(self, fold: PageFold) -> int:
        """Write the next page that `fold` returns for the live generation, and return the new position."""
        return _apply_next_page(self, self._page_lock, fold)

    @contextmanager
    def session_after_next_page(self, fold: PageFold) -> Generator[SQLiteReadModels]:
        """Write the next page that `fold` returns, if there is one, and read the rows of the live generation after it.

        The page has few events, so it is folded while other writers wait: this saves a session.
        """
        with self.write_session() as writer:
            write = fold(writer)
            if write is not None:
                write(writer)
        with self.read_session() as reader:
            yield reader

    def generation_heads(self) -> list[tuple[int, str | None]]:
        """Return the position of each generation, and the fingerprint of the ledger's event at that position."""
        with self._read_transaction() as (generations, _):
            return generations.heads()

    def reset(self) -> None:
        """Drop all generations and create an empty live one."""
        pinned = self.current_rules()
        with self.transaction(commit=True) as generations:
            generations.replace_all(pinned)

    # --- all generations --------------------------------------------------------------------------

    def generations(self) -> list[Generation]:
        """Return all generations in the order of their creation."""
        with self._read_transaction() as (generations, _):
            return generations.all()

    def create(self, pinned: PinnedRules) -> Generation:
        """Create an empty generation in the state `building`."""
        with self.transaction(commit=True) as generations:
            number = generations.create("building", pinned)
        return Generation(number, GenerationState.BUILDING, pinned, {}, 0)

    def read_models(self, generation: int) -> ReadModelStore:
        """Return the read models of one generation. Their sessions raise GenerationNotFound once it is dropped."""
        return _GenerationReadModels(self, generation)

    def mark_ready(self, generation: int, revisions: Mapping[str, int]) -> None:
        """Mark a generation as completely built, at these revisions of the rules in force."""
        with self.transaction(commit=True) as generations:
            generations.mark_ready(generation, revisions)

    def make_live(self, generation: int, revisions: Mapping[str, int]) -> None:
        """Make a generation live and retire the live one, in one transaction.

        The retired generation is stored with these revisions of the rules in force.
        """
        with self.transaction(commit=True) as generations:
            generations.make_live(generation, revisions)

    def drop(self, generation: int, *, is_awaited: bool = True) -> None:  # noqa: ARG002 - readers don't hold it up
        """Drop a generation that is not live."""
        with self.transaction(commit=True) as generations:
            generations.drop(generation)

    @contextmanager
    def generation_lock(
        self, activity: str, *, timeout_seconds: float = GENERATION_LOCK_TIMEOUT_SECONDS
    ) -> Generator[None]:
        """Hold the lock to build, compare or promote generations. Raise RebuildInProgress, which names the owner.

        The call waits a little, because a query holds the lock for moments while it follows changed rules.
        """
        database = self.datastore.pool.db_name
        with file_lock(database, timeout_seconds=timeout_seconds, mode=permissions_like(database)) as is_locked:
            if not is_locked:
                with self.transaction(commit=False) as generations:
                    raise lock_timeout_error(generations.lock_owner())
            with self.transaction(commit=True) as generations:
                generations.set_lock_owner(describe_owner(activity))
            yield

    @contextmanager
    def temporary(self, pinned: PinnedRules) -> Generator["SQLiteReadModelStore"]:
        """Create empty read models that are deleted at the end, in the folder of these read models."""
        database = self.datastore.pool.db_name
        with ExitStack() as stack:
            if database.startswith("file:"):
                location = f"file:{uuid7()}?mode=memory&cache=shared"
            else:
                location = str(stack.enter_context(temp_directory(Path(database))) / "scratch.read-models")
            read_model_store = SQLiteReadModelStore(open_read_model_datastore(location, database), lambda: pinned)
            stack.callback(read_model_store.close)
            yield read_model_store

    def close(self) -> None:
        """Close the database."""
        self.datastore.close()

    # --- transactions -----------------------------------------------------------------------------

    @contextmanager
    def transaction(self, *, commit: bool) -> Generator[SQLiteGenerations]:
        """Start a transaction over the tables of all generations."""
        with self.datastore.transaction(commit=commit) as cursor:
            yield SQLiteGenerations(self._tracking, cursor)

    @contextmanager
    def _read_transaction(self) -> Generator[tuple[SQLiteGenerations, tuple[int, int]]]:
        """Start a read transaction, and pass the live generation and its position. It is created if there is none."""
        while True:
            with self.transaction(commit=False) as generations:
                live_and_position = generations.live_and_position()
                if live_and_position is not None:
                    yield generations, live_and_position
                    return
            with self.write_session():
                pass


class TemporaryReadModelStore(SQLiteReadModelStore):
    """The read models of a read-only copy, in a temporary folder that is deleted when they are closed."""

    def __init__(self, current_rules: Callable[[], PinnedRules]) -> None:
        self._folder = TemporaryDirectory(prefix="tallybook-read-only-")
        database = str(Path(self._folder.name) / "read-models")
        super().__init__(open_read_model_datastore(database, permissions_of=database), current_rules)

    def close(self) -> None:
        """Close the database and delete it."""
        super().close()
        self._folder.cleanup()


class _GenerationReadModels:
    """The read models of one generation."""

    def __init__(self, read_model_store: SQLiteReadModelStore, generation: int) -> None:
        self._read_model_store = read_model_store
        self._generation = generation
        self.read_session = partial(self._session, commit=False)
        self.write_session = partial(self._session, commit=True)
        self._page_lock = threading.Lock()

    def apply_next_page(self, fold: PageFold) -> int:
        """Write the next page that `fold` returns for the generation, and return the new position."""
        return _apply_next_page(self, self._page_lock, fold)

    @contextmanager
    def _session(self, *, commit: bool) -> Generator[SQLiteReadModels]:
        with self._read_model_store.transaction(commit=commit) as generations:
            generations.require(self._generation)
            yield SQLiteReadModels(generations, self._generation)


def _apply_next_page(read_models: ReadModelStore, page_lock: threading.Lock, fold: PageFold) -> int:
    """Fold a page in a read session, and write its rows unless another process has written the page first.

    Other writers wait only while the rows are written.
    """
    with page_lock:  # otherwise each thread would fold the same page
        with read_models.read_session() as reader:
            before = reader.generation, reader.position()
            write = fold(reader)
        with read_models.write_session() as writer:
            if write is not None and (writer.generation, writer.position()) == before:
                write(writer)
            return writer.position()
