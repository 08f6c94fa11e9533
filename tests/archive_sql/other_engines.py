"""ClickHouse and Spark, which are too large for every run of the tests. They read the segments as Parquet files.

They need the packages chdb and pyspark, and Spark needs Java 17.
"""

import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tallybook.application.archive.sql.dialects import DialectName
from tallybook.application.archive.sql.views import relation_view
from tallybook.application.storage.ports import PositionedEventRow

from .engines import DuckDBEngine, Row


class ClickhouseEngine:
    """ClickHouse in this process."""

    dialect = DialectName.CLICKHOUSE

    def __init__(self, folder: Path) -> None:
        session: Any = importlib.import_module("chdb.session")
        self._session = session.Session(str(folder / "clickhouse"))
        self._file = folder / "clickhouse.parquet"

    def load(self, events: Sequence[PositionedEventRow]) -> None:
        write_segment(self._file, events)
        self._session.query(relation_view(self.dialect, str(self._file)))

    def run(self, statement: str) -> list[Row]:
        text = self._session.query(statement.rstrip(";\n"), "JSONCompactEachRow").bytes().decode()
        return [tuple(json.loads(line)) for line in text.split("\n") if line]

    def close(self) -> None:
        self._session.close()


_SPARK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Java compiles the code of a statement, which runs once and on a few rows, as quickly as it can."""


class SparkEngine:
    """Spark with two executors, each a process of its own."""

    dialect = DialectName.SPARK

    def __init__(self, folder: Path, master: str = "local-cluster[2,1,1024]") -> None:
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        sql: Any = importlib.import_module("pyspark.sql")
        builder = sql.SparkSession.builder.master(master).appName("tallybook")
        for name, value in {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.driver.extraJavaOptions": _SPARK_JAVA,
            "spark.executor.extraJavaOptions": _SPARK_JAVA,
            "spark.locality.wait": "0",
            "spark.sql.adaptive.enabled": "false",
            "spark.sql.analyzer.maxIterations": "1000",
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.session.timeZone": "Asia/Kathmandu",
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
        }.items():
            builder = builder.config(name, value)
        self.session = builder.getOrCreate()
        self.session.sparkContext.setLogLevel("OFF")
        self._folder, self._number = folder, 0

    def load(self, events: Sequence[PositionedEventRow]) -> None:
        self._number += 1  # Spark caches the listing of a path
        file = self._folder / f"spark-{self._number}.parquet"
        write_segment(file, events)
        self.session.sql(relation_view(self.dialect, str(file)).rstrip(";\n"))

    def run(self, statement: str) -> list[Row]:
        return [tuple(row) for row in self.session.sql(statement.rstrip(";\n")).collect()]

    def close(self) -> None:
        self.session.stop()


def write_segment(file: Path, events: Sequence[PositionedEventRow]) -> None:
    """Write stored events to a Parquet file with the columns of a segment of an archive."""
    engine = DuckDBEngine()
    engine.load(events)
    engine.run(f"COPY ledger_events TO '{file}' (FORMAT parquet)")
    engine.close()
