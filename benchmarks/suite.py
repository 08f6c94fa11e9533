"""Lists the benchmarks and runs them. A benchmark is a function, registered here under its name."""

import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .bench import Bench
from .embedded.archive import archive
from .embedded.concurrent_writers import writers
from .embedded.csv_import import import_csv
from .embedded.dimensions import dimensions
from .embedded.explanations import explain
from .embedded.formulas import formulas
from .embedded.grouped_totals import groups
from .embedded.ledger_growth import growth
from .embedded.memory import memory
from .embedded.queries import months
from .embedded.quota import quota
from .embedded.rebuild import rebuild
from .embedded.record import batches, record
from .embedded.verification import audit
from .engines.engine import Engine
from .engines.postgresql import open_postgresql
from .engines.sqlite import SQLite
from .measure import Measurement
from .server import server_benchmark

Benchmark = Callable[[Bench], Iterator[Measurement]]
OnStart = Callable[[str, int], None]
"""Called with the name and version of an engine and the number of events, before their benchmarks run."""

ONCE: Mapping[str, Benchmark] = {
    "record": record,
    "batches": batches,
    "writers": writers,
    "dimensions": dimensions,
    "quota": quota,
}
"""Benchmarks that start with an empty ledger. Their cost per event does not depend on the number of events."""
EACH_SIZE: Mapping[str, Benchmark] = {
    "memory": memory,
    "rebuild": rebuild,
    "audit": audit,
    "archive": archive,
    "months": months,
    "formulas": formulas,
    "groups": groups,
    "explain": explain,
    "import": import_csv,
    "growth": growth,
}
"""Benchmarks that run for each size, in this order. The last one appends to the ledger."""
SERVER = "server"
NAMES = (*ONCE, *EACH_SIZE, SERVER)
SHORT_NAMES = tuple(name for name in NAMES if name not in ("batches", "writers", "audit", "import", SERVER))
"""The benchmarks of the short form. They include all measurements with a target."""
STORES = ("sqlite", "postgresql")


@dataclass(frozen=True)
class Plan:
    """The benchmarks to run, and their sizes and stores."""

    stores: Sequence[str]
    sizes: Sequence[int]
    names: Sequence[str]
    turns: int
    server_seconds: float
    with_target_only: bool = False
    postgresql: str | None = None

    def run(self, folder: Path, on_start: OnStart) -> Iterator[Measurement]:
        """Run the benchmarks and yield each measurement. Raises WrongResult if Tallybook and an engine disagree."""
        for store in self.stores:
            with _open_engine(store, folder, self.postgresql) as engine:
                yield from self._run_on(engine, folder, on_start)
        if SERVER in self.names:
            on_start("Server", 0)
            for measurement in server_benchmark.measure(f"sqlite:///{folder / 'served.db'}", self.server_seconds):
                yield replace(measurement, benchmark=SERVER, store="sqlite")

    def _run_on(self, engine: Engine, folder: Path, on_start: OnStart) -> Iterator[Measurement]:
        for number, events in enumerate(sorted(self.sizes)):
            on_start(engine.version(), events)
            selected = {**(ONCE if number == 0 else {}), **EACH_SIZE}
            bench = Bench(engine, folder, events, self.turns, with_target_only=self.with_target_only)
            for name, benchmark in selected.items():
                if name in self.names:
                    for measurement in benchmark(bench):
                        yield replace(measurement, benchmark=name, store=engine.name, events=events)
            bench.clear()


@contextmanager
def _open_engine(store: str, folder: Path, url: str | None) -> Generator[Engine]:
    if store == "sqlite":
        yield SQLite(folder)
    else:
        with open_postgresql(url) as engine:
            yield engine


@contextmanager
def working_folder(parent: Path | None) -> Generator[Path]:
    """Create a folder for all files, also those of a database server, and remove it on exit."""
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
        tempfile.tempdir = str(parent)
    with tempfile.TemporaryDirectory(prefix="tallybook-benchmarks-") as folder:
        yield Path(folder)
