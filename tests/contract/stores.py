"""The stores that the contract holds for, and the pieces that a test takes apart."""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from tallybook.application import AcceptancePolicy, Metering
from tallybook.application.ledger import Ledger
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
        with closing(self.ledger()) as ledger, closing(self.views(ledger.changed_rules)) as views:
            yield ledger, views

    def forget(self) -> None:
        """Let the read models begin anew."""
        with self.pieces() as (_, views):
            views.begin_anew()

    @contextmanager
    def metering(self) -> Generator[Metering]:
        """The application over the store, closed at the end."""
        with (
            self.pieces() as (ledger, views),
            Metering(ledger, views, ANY_TIME, lambda: NOW) as metering,
        ):
            yield metering
