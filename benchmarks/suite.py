"""The suite: which benchmarks there are, and what is run. A benchmark is a function, and its name in a list here."""

import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .bench import Bench
from .embedded.asking import months
from .embedded.auditing import audit
from .embedded.explaining import explain
from .embedded.growing import growth
from .embedded.importing import import_csv
from .embedded.memory import memory
from .embedded.rebuilding import rebuild
from .embedded.recording import batches, record
from .embedded.writing_at_once import writers
from .engines.engine import Engine
from .engines.postgresql import postgresql
from .engines.sqlite import SQLite
from .measure import Measured
from .server import serving

Benchmark = Callable[[Bench], Iterator[Measured]]
Began = Callable[[str, int], None]
"""Told an engine with its version, and the number of events."""

ONCE: Mapping[str, Benchmark] = {"record": record, "batches": batches, "writers": writers}
"""Those that begin with an empty ledger, and cost the same per event however many there are."""
EACH_SIZE: Mapping[str, Benchmark] = {
    "memory": memory,
    "rebuild": rebuild,
    "audit": audit,
    "months": months,
    "explain": explain,
    "import": import_csv,
    "growth": growth,
}
"""In the order that they are run in: the last one lets the ledger grow."""
SERVER = "server"
NAMES = (*ONCE, *EACH_SIZE, SERVER)
SHORT_NAMES = tuple(name for name in NAMES if name not in ("batches", "writers", "audit", "import", SERVER))
"""Those of the short form: all that have a mark are among them."""
STORES = ("sqlite", "postgresql")


@dataclass(frozen=True)
class Plan:
    """What is to be run."""

    stores: Sequence[str]
    sizes: Sequence[int]
    names: Sequence[str]
    turns: int
    served_seconds: float
    marked_only: bool = False
    postgresql: str | None = None

    def run(self, folder: Path, began: Began) -> Iterator[Measured]:
        """Run the benchmarks, and give each figure when it is there. Tells what it begins with. Raises WrongAnswer."""
        for store in self.stores:
            with _opened(store, folder, self.postgresql) as engine:
                yield from self._on(engine, folder, began)
        if SERVER in self.names:
            began("Server", 0)
            for one in serving.measure(f"sqlite:///{folder / 'served.db'}", self.served_seconds):
                yield replace(one, benchmark=SERVER, store="sqlite")

    def _on(self, engine: Engine, folder: Path, began: Began) -> Iterator[Measured]:
        for number, events in enumerate(sorted(self.sizes)):
            began(engine.version(), events)
            wanted = {**(ONCE if number == 0 else {}), **EACH_SIZE}
            bench = Bench(engine, folder, events, self.turns, marked_only=self.marked_only)
            for name, benchmark in wanted.items():
                if name in self.names:
                    for one in benchmark(bench):
                        yield replace(one, benchmark=name, store=engine.name, events=events)
            bench.clear()


@contextmanager
def _opened(store: str, folder: Path, url: str | None) -> Generator[Engine]:
    if store == "sqlite":
        yield SQLite(folder)
    else:
        with postgresql(url) as engine:
            yield engine


@contextmanager
def working_folder(beneath: Path | None) -> Generator[Path]:
    """A folder for all that is written, removed afterwards; also a database server's."""
    if beneath is not None:
        beneath.mkdir(parents=True, exist_ok=True)
        tempfile.tempdir = str(beneath)
    with tempfile.TemporaryDirectory(prefix="tallybook-benchmarks-") as folder:
        yield Path(folder)
