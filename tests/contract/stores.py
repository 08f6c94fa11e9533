"""The stores that the contract applies to, and access to their components."""

from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from tallybook.application import AcceptancePolicy, Metering
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.storage.ports import GenerationStore
from tallybook.application.storage.ports import Store as StoreLocation
from tallybook.projections.models import PinnedRules

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ANY_TIME = AcceptancePolicy(max_age=None, max_customer_combinations=None)


@dataclass(frozen=True)
class Store:
    """The location of one ledger and its read models. A test can open it any number of times."""

    location: StoreLocation

    def ledger(self) -> Ledger:
        """Open the ledger."""
        return Ledger(self.location)

    def read_models(self, current_rules: Callable[[], PinnedRules] = dict) -> GenerationStore:
        """Open the read models."""
        return self.location.open_read_models(current_rules)

    @contextmanager
    def components(self) -> Generator[tuple[Ledger, GenerationStore]]:
        """Open the ledger and its read models, and close them at the end."""
        with (
            closing(self.ledger()) as ledger,
            closing(self.read_models(ledger.changed_rules)) as read_models,
        ):
            yield ledger, read_models

    def reset_read_models(self) -> None:
        """Reset the read models."""
        with self.components() as (_, read_models):
            read_models.reset()

    @contextmanager
    def metering(self) -> Generator[Metering]:
        """Open the application on the store, and close it at the end."""
        with (
            self.components() as (ledger, read_models),
            Metering(ledger, read_models, ANY_TIME, lambda: NOW) as metering,
        ):
            yield metering
