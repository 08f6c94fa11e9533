"""The segments of an archive in Apache Spark, in a session of the caller's."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from ....domain.errors import InvalidParameter
from .dialects import DialectName
from .segments import Segments, unreadable_files
from .statement import RELATION

_MAX_ITERATIONS = "spark.sql.analyzer.maxIterations"


class SparkSession(Protocol):
    """A session of pyspark, of which Tallybook needs this."""

    @property
    def newSession(self) -> Any:  # noqa: N802 - pyspark's name
        """Return another session in the same application."""


class SparkSegments(Segments):
    """The segments of an archive in Spark.

    It uses a new session of the same application, so that the settings and views of the caller's session don't change.
    """

    def __init__(self, session: SparkSession, files: Sequence[str]) -> None:
        """Open the files. Raises InvalidParameter or LedgerCorrupted if they aren't those of an archive."""
        super().__init__(DialectName.SPARK)
        new_session = getattr(session, "newSession", None)
        if not callable(new_session):
            raise InvalidParameter(
                "'spark_session' must be a SparkSession of pyspark with 'newSession', which Spark Connect hasn't.",
                field="spark_session",
                value=session,
            )
        errors: Any = import_module("pyspark.errors")  # who has a session has pyspark, which is no dependency
        self._session: Any = new_session()
        # The default is 100 steps of arithmetic.
        self._session.conf.set(_MAX_ITERATIONS, "1000")
        try:
            self._session.read.parquet(*map(_location, files)).createOrReplaceTempView(RELATION)
            self._require_all()
        except errors.PySparkException as error:
            raise unreadable_files(files, error) from error

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        return [tuple(row) for row in self._session.sql(statement.rstrip(";\n")).collect()]


def _location(file: str) -> str:
    """Return a URL. A path without a scheme would be one of the default file system of the cluster."""
    return file if "://" in file else f"file://{Path(file).resolve()}"
