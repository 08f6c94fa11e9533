"""Archive: an archive that was exported, without its ledger."""

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from ..domain.errors import InvalidArchive
from .archive.reader import ArchiveReader, no_progress, verify_archive
from .archive.results import ArchiveVerification, IcebergRegistration, UsageMaterialization
from .archive.sql.segments import DuckDBSegments
from .archive.sql.spark_segments import SparkSegments, SparkSession
from .queries.archive_totals import archive_totals
from .queries.archive_usage import UsageSegments
from .queries.dimension_query import Where
from .result_lists import TotalList


class Archive(ArchiveReader):
    """The archive at a destination: the path of a folder, a URL, or a store of the package obstore."""

    def verify(
        self,
        *,
        checkpoints: str | Path | None = None,
        key: str | Path | None = None,
        progress: Callable[[int, int], None] = no_progress,
    ) -> ArchiveVerification:
        """Verify each file, row and hash, and return all differences.

        With `checkpoints`, the path of a checkpoint file, the archived events must have the roots of the checkpoints;
        with `key`, a public key or its file, every checkpoint must be signed by it. `metering.archive.verify` compares
        the events with the ledger too. Raises InvalidCheckpointFile, InvalidSigningKey or ArchiveUnavailable.
        """
        return verify_archive(self, None, checkpoints, key, progress)

    def totals(
        self,
        event_name: str,
        start: datetime,
        end: datetime,
        *,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
    ) -> TotalList:
        """Return the total of each customer with counted usage in [start, end), as `Metering.totals` does.

        DuckDB computes them from the files, under the rules in the archive, as of its last event, and from the files of
        `materialize` if there are some. It reads folders, and
        object stores with its extension `httpfs`. Raises as `Metering.totals` does, and LedgerCorrupted if events are
        missing.
        """
        with closing(DuckDBSegments(self.files)) as segments:
            return archive_totals(
                segments, event_name, start, end, as_of=as_of, where=where, group_by=group_by,
                typed_totals=partial(UsageSegments(self).totals, segments),
            )  # fmt: skip

    def materialize(
        self, event_name: str, *, progress: Callable[[int, int], None] = no_progress
    ) -> UsageMaterialization:
        """Write the usage of a meter as numbers, to files that `totals` reads much faster. They can be deleted.

        There is a file for each segment of the archive that has none yet, and for each way in which revisions of the
        rules read events. `progress` is called with the number of files that exist, and the number that there will be.
        Raises MeterNotFound, InvalidParameter if the meter counts no numbers, ArchiveInUse or ArchiveUnavailable.
        """
        return UsageSegments(self).materialize(event_name, progress)

    def totals_on(
        self,
        spark_session: SparkSession,
        event_name: str,
        start: datetime,
        end: datetime,
        *,
        as_of: datetime | int | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
    ) -> TotalList:
        """Return what `totals` returns, computed by Spark, on a cluster that reads the files of the archive.

        `spark_session` is a SparkSession of pyspark. Its settings and views don't change. Raises as `totals` does, and
        InvalidParameter if Spark can't read the files.
        """
        segments = SparkSegments(spark_session, self.files)
        return archive_totals(segments, event_name, start, end, as_of=as_of, where=where, group_by=group_by)

    def register_iceberg(self, catalog: str, table: str = "tallybook.events") -> IcebergRegistration:
        """Make the archive an Iceberg table, or add the segments that are new to the table; no file is rewritten.

        `catalog` is the name of a catalog in the configuration of pyiceberg. `table` is its namespace and its name. All
        new segments are one snapshot, with the root of the archive as a property. Raises InvalidArchive if the catalog
        can't be used, or ArchiveMismatch if the table has files of another archive.
        """
        if find_spec("pyiceberg") is None:
            raise InvalidArchive(
                "An Iceberg table needs an extra: pip install 'tallybook[iceberg]'.", field="catalog", value=catalog
            )
        from .archive.iceberg import register_iceberg  # noqa: PLC0415 - an extra

        return register_iceberg(self, catalog, table)
