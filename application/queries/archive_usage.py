"""The usage segments of an archive: they are made on demand, and totals use those that there are."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from ...domain.errors import InvalidArchive, InvalidParameter
from ...domain.formulas import ValueType
from ...domain.rules import Rules
from ...projections.models import AsOf
from ..archive.destinations import ConcurrentExport
from ..archive.manifest import ArchiveSegment
from ..archive.reader import ArchiveReader
from ..archive.results import UsageMaterialization
from ..archive.sql.counted_events import usage_statement
from ..archive.sql.segments import DuckDBSegments
from ..archive.sql.statement import UsageSelection
from ..archive.sql.typed_totals import TotalsByCustomer, totals_by_customer, typed_totals_statement
from ..archive.usage_segments import FOLDER, usage_folder, usage_key, usage_segment_name
from ..validation import require_event_name
from .archive_totals import require_meter

_SOURCE = "usage_source"


class UsageSegments:
    """The usage segments of an archive."""

    def __init__(self, archive: ArchiveReader) -> None:
        self._archive = archive
        self._destination = archive.destination

    def materialize(self, event_name: str, progress: Callable[[int, int], None]) -> UsageMaterialization:
        """Make the missing usage segments of all revisions of a meter's rules that count numbers.

        `progress` is called with the number of segments that exist, and the number that there will be. Raises
        MeterNotFound, InvalidParameter if the meter counts texts only, ArchiveInUse or ArchiveUnavailable.
        """
        event_name, segments = require_event_name(event_name), self._archive.segments
        files = [self._destination.url(segment.file) for segment in segments]
        added = added_bytes = 0
        with self._destination.exclusive(), closing(DuckDBSegments(files)) as engine:
            meter = require_meter(engine, event_name, AsOf(engine.head))
            readings = {
                usage_key(meter.recorded_name, revision.rules): revision.rules
                for revision in meter.history
                if revision.rules.formula.rule.value_type is not ValueType.TEXT
            }
            if not readings:
                raise InvalidParameter(
                    f"{event_name!r} counts different texts: its usage has no numbers.",
                    field="event_name",
                    value=event_name,
                )
            for number, (key, rules) in enumerate(readings.items()):
                existing = set(self._destination.file_names(usage_folder(key)))
                for index, segment in enumerate(segments, 1):
                    name = usage_segment_name(key, segment)
                    if name not in existing:
                        added_bytes += self._add(engine, name, segment, meter.recorded_name, rules)
                        added += 1
                    progress(number * len(segments) + index, len(readings) * len(segments))
        return UsageMaterialization(
            self._archive.location, event_name, added, added_bytes, len(readings) * len(segments), segments[-1].last
        )

    def _add(self, engine: DuckDBSegments, name: str, segment: ArchiveSegment, recorded_name: str, rules: Rules) -> int:
        """Add the usage segment of a segment. Returns its size in bytes."""
        engine.add_view(_SOURCE, [engine.query_of([self._destination.url(segment.file)])])
        with TemporaryDirectory() as folder:
            path = Path(folder) / "usage.parquet"
            statement = usage_statement(recorded_name, rules, engine.dialect, _SOURCE)
            engine.run(f"COPY ({statement}) TO {engine.dialect.literal(str(path))} (FORMAT parquet, COMPRESSION zstd)")

            def write(file: BinaryIO) -> None:
                with path.open("rb") as source:
                    shutil.copyfileobj(source, file)

            with suppress(ConcurrentExport):  # another process has added the same file
                self._destination.add_segment(name, write)
            return path.stat().st_size

    def totals(
        self, engine: DuckDBSegments, selection: UsageSelection, group_by: Sequence[str]
    ) -> TotalsByCustomer | None:
        """Return totals from the usage segments, and from the events of segments that have none.

        Returns None if there are no usage segments of a part of the selection, or a value is longer than they can have.
        Raises InvalidArchive if a usage segment can't be read.
        """
        try:
            return self._totals(engine, selection, group_by)
        except engine.error_class as error:
            raise self._unreadable(error) from error

    def _totals(
        self, engine: DuckDBSegments, selection: UsageSelection, group_by: Sequence[str]
    ) -> TotalsByCustomer | None:
        segments = [segment for segment in self._archive.segments if segment.first <= selection.position]
        relations: list[str] = []
        for number, part in enumerate(selection.parts, 1):
            key = usage_key(selection.recorded_name, part.effective.rules)
            existing = set(self._destination.file_names(usage_folder(key)))
            names = {segment.file: usage_segment_name(key, segment) for segment in segments}
            files = [self._destination.url(name) for name in names.values() if name in existing]
            others = [self._destination.url(file) for file, name in names.items() if name not in existing]
            if not files:
                return None
            queries = [engine.query_of(files)]
            if others:
                source = engine.add_view(f"{_SOURCE}_{number}", [engine.query_of(others)])
                statement = usage_statement(selection.recorded_name, part.effective.rules, engine.dialect, source)
                queries.append(f"SELECT * FROM ({statement})")
            relations.append(engine.add_view(f"usage_{number}", queries))
        typed = replace(selection, usage=tuple(relations))
        return totals_by_customer(engine.run(typed_totals_statement(typed, group_by, engine.dialect)))

    def _unreadable(self, error: Exception) -> InvalidArchive:
        return InvalidArchive(
            f"The usage segments of {self._archive.location} can't be read; delete its folder '{FOLDER}': {error}",
            field="destination",
            value=self._archive.location,
        )
