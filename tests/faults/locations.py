"""Identical ledgers on each store: one for each failure."""

import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

from ..simulate.stores import LedgerLocation, postgres_location, sqlite_file_location
from .operations import NOW, Operation

LocationFactory = Callable[[], AbstractContextManager[LedgerLocation]]


@contextmanager
def sqlite_copies(operation: Operation) -> Generator[LocationFactory]:
    """Yield a function that copies a ledger file and its read models."""
    with sqlite_file_location() as location:
        with location.open(lambda: NOW) as metering:
            operation.set_up(metering)
        original = Path(location.url.removeprefix("sqlite:///"))
        numbers = count(1)

        @contextmanager
        def create_copy() -> Generator[LedgerLocation]:
            folder = original.parent / f"copy {next(numbers)}"
            folder.mkdir()
            for suffix in ("", ".read-models"):
                shutil.copyfile(f"{original}{suffix}", f"{folder / original.name}{suffix}")
            yield LedgerLocation(f"sqlite:///{folder / original.name}")
            shutil.rmtree(folder)

        yield create_copy


@contextmanager
def postgres_schemas(operation: Operation) -> Generator[LocationFactory]:
    """Yield a function that creates a schema with the same ledger."""

    @contextmanager
    def create_schema() -> Generator[LedgerLocation]:
        with postgres_location() as location:
            with location.open(lambda: NOW) as metering:
                operation.set_up(metering)
            yield location

    yield create_schema


STORES: Mapping[str, Callable[[Operation], AbstractContextManager[LocationFactory]]] = {
    "sqlite": sqlite_copies,
    "postgres": postgres_schemas,
}
