"""Ledgers on which something is begun, as many alike as there are ways to fail."""

import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

from ..simulate.stores import Place, in_postgres, sqlite_file
from .works import NOW, Work

Copies = Callable[[], AbstractContextManager[Place]]


@contextmanager
def sqlite_copies(work: Work) -> Generator[Copies]:
    """Copies of a ledger in a file, and of its read models."""
    with sqlite_file() as place:
        with place.open(lambda: NOW) as metering:
            work.begin(metering)
        original = Path(place.url.removeprefix("sqlite:///"))
        numbers = count(1)

        @contextmanager
        def copied() -> Generator[Place]:
            folder = original.parent / f"copy {next(numbers)}"
            folder.mkdir()
            for suffix in ("", ".views"):
                shutil.copyfile(f"{original}{suffix}", f"{folder / original.name}{suffix}")
            yield Place(f"sqlite:///{folder / original.name}")
            shutil.rmtree(folder)

        yield copied


@contextmanager
def postgres_schemas(work: Work) -> Generator[Copies]:
    """Schemas in each of which the same was begun."""

    @contextmanager
    def begun() -> Generator[Place]:
        with in_postgres() as place:
            with place.open(lambda: NOW) as metering:
                work.begin(metering)
            yield place

    yield begun


STORES: Mapping[str, Callable[[Work], AbstractContextManager[Copies]]] = {
    "sqlite": sqlite_copies,
    "postgres": postgres_schemas,
}
