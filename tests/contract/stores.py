"""The stores that the contract holds for, and the pieces that a test takes apart."""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from tallybook.application import AcceptancePolicy, Metering
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.storage.ports import GenerationStore
from tallybook.application.storage.ports import Store as Place
from tallybook.domain import Rules

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ANY_TIME = AcceptancePolicy(max_age=None)


@dataclass(frozen=True)
class Store:
    """Where one ledger and its read models are kept, to be opened as often as a test likes."""

    location: Place

    def ledger(self) -> Ledger:
        """The ledger, opened once more."""
        return Ledger(self.location)

    def read_models(self, current_rules: Callable[[], Mapping[str, Rules]] = dict) -> GenerationStore:
        """The read models, opened once more."""
        return self.location.open_read_models(current_rules)

    @contextmanager
    def components(self) -> Generator[tuple[Ledger, GenerationStore]]:
        """The ledger and its read models, closed at the end."""
        with (
            closing(self.ledger()) as ledger,
            closing(self.read_models(ledger.meters_with_changed_rules)) as read_models,
        ):
            yield ledger, read_models

    def reset_read_models(self) -> None:
        """Let the read models begin anew."""
        with self.components() as (_, read_models):
            read_models.reset()

    @contextmanager
    def metering(self) -> Generator[Metering]:
        """The application over the store, closed at the end."""
        with (
            self.components() as (ledger, read_models),
            Metering(ledger, read_models, ANY_TIME, lambda: NOW) as metering,
        ):
            yield metering
