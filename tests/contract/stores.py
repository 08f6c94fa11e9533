"""The stores that the contract holds for, and the pieces that a test takes apart."""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tallybook.application import AcceptancePolicy, Metering
from tallybook.application.ledger import Ledger
from tallybook.application.ledger_url import locate
from tallybook.application.stores.sqlite import Datastore
from tallybook.application.stores.sqlite_store import SQLiteStore
from tallybook.application.stores.store import GenerationViews
from tallybook.application.stores.store import Store as Place
from tallybook.domain import Rules

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ANY_TIME = AcceptancePolicy(max_age=None)


@dataclass(frozen=True)
class Store:
    """Where one ledger and its read models are kept, to be opened as often as a test likes."""

    place: Place

    def ledger(self) -> Ledger:
        """The ledger, opened once more."""
        return Ledger(self.place)

    def views(self, current_rules: Callable[[], Mapping[str, Rules]] = dict) -> GenerationViews:
        """The read models, opened once more."""
        return self.place.views(current_rules)

    @contextmanager
    def pieces(self) -> Generator[tuple[Ledger, GenerationViews]]:
        """The ledger and its read models, closed at the end."""
        ledger = self.ledger()
        try:
            views = self.views(ledger.changed_rules)
            try:
                yield ledger, views
            finally:
                views.close()
        finally:
            ledger.close()

    def forget(self) -> None:
        """Let the read models begin anew."""
        with self.pieces() as (_, views):
            views.begin_anew()

    @contextmanager
    def metering(self) -> Generator[Metering]:
        """The application over the store, closed at the end."""
        ledger = self.ledger()
        with Metering(ledger, self.views(ledger.changed_rules), ANY_TIME, lambda: NOW) as metering:
            yield metering


@dataclass(frozen=True)
class SQLiteFile(Store):
    """A ledger in a file."""

    place: SQLiteStore

    @contextmanager
    def datastores(self) -> Generator[tuple[Datastore, Datastore]]:
        """The databases of the ledger and of its read models as the store opens them, closed at the end."""
        with closing(self.place.recorder()) as recorder, closing(self.place.views(dict)) as views:
            assert isinstance(recorder.datastore, Datastore)
            assert isinstance(views.datastore, Datastore)
            yield recorder.datastore, views.datastore


def sqlite_file(folder: Path) -> SQLiteFile:
    """A ledger in a file of its own."""
    file = str(folder / "usage.db")
    return SQLiteFile(SQLiteStore(file, f"{file}.views"))


def sqlite_memory(_: Path) -> Store:
    """A ledger in memory, there for as long as it is open."""
    return Store(locate("sqlite://"))


STORES: Mapping[str, Callable[[Path], Store]] = {"sqlite file": sqlite_file, "sqlite memory": sqlite_memory}
"""Another store joins the contract with one line here."""
KEPT_STORES = ("sqlite file",)
"""Those that outlive the program."""
