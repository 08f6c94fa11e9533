"""`python -m tests.archive_sql --histories 300`: compare SQL on all engines with the ledger's results, with counts.

ClickHouse needs the package chdb; Spark needs the package pyspark and Java 17.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, Phase, given, seed, settings
from tallybook.application.archive.sql.dialects import DialectName

from ..postgres import database
from .comparison import compare, features
from .engines import DuckDBEngine, PostgresEngine, SqlEngine, SQLiteEngine
from .histories import HISTORIES, Query, Rules, Step, ledger_of
from .other_engines import ClickhouseEngine, SparkEngine
from .planted_faults import FAULTS, finds_fault

PROGRESS_INTERVAL = 25
"""The number of histories after which a line is printed."""


def main() -> int:
    """Compare the histories of the command line. Return 0 if all results are equal and all faults are found."""
    parser = argparse.ArgumentParser(prog="python -m tests.archive_sql", description=__doc__)
    parser.add_argument("--histories", type=int, default=300, help="the number of random histories")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the histories")
    engines = ["sqlite", "duckdb", "postgres"]
    parser.add_argument("--engines", nargs="+", choices=[engine.value for engine in DialectName], default=engines)
    options = parser.parse_args()
    started_at, counts = time.monotonic(), Counter[str]()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        opened = [_open(DialectName(name), folder, stack) for name in options.engines]

        @seed(options.seed)
        @settings(
            max_examples=options.histories,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        @given(history=HISTORIES)
        def compare_history(history: tuple[Rules, Sequence[Step], Sequence[Query]]) -> None:
            rules, steps, queries = history
            with ledger_of(rules, steps) as metering:
                counts.update(compare(metering, queries, opened))
                counts.update(features(metering))
            counts["histories"] += 1
            if counts["histories"] % PROGRESS_INTERVAL == 0:
                print(f"{counts['histories']} histories in {time.monotonic() - started_at:.0f} s", flush=True)

        compare_history()
        for engine in opened:
            missed = [fault for fault in FAULTS if not finds_fault(engine, fault)]
            if missed:
                print(f"faults that were not found on {engine.dialect}: {', '.join(missed)}")
                return 1
            counts[f"{engine.dialect} faults found"] = len(FAULTS)
    print(f"all equal in {time.monotonic() - started_at:.0f} s")
    for name, count in sorted(counts.items()):
        print(f"{name}: {count:,}")
    return 0


def _open(engine: DialectName, folder: Path, stack: ExitStack) -> SqlEngine:
    opened: SqlEngine
    match engine:
        case DialectName.SQLITE:
            opened = SQLiteEngine()
        case DialectName.DUCKDB:
            opened = DuckDBEngine()
        case DialectName.POSTGRES:
            opened = PostgresEngine(stack.enter_context(database()).url)
        case DialectName.CLICKHOUSE:
            opened = ClickhouseEngine(folder)
        case DialectName.SPARK:
            opened = SparkEngine(folder)
    return stack.enter_context(closing(opened))


if __name__ == "__main__":
    sys.exit(main())
