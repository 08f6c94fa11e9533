"""The segments of an archive, Parquet files with the stored events of a ledger, in DuckDB or another engine."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from ....domain.errors import InvalidParameter, LedgerCorrupted
from ....domain.meter import Meter
from ....domain.rules import Rules
from ....domain.rules_schedule import ALWAYS
from ....domain.timestamps import to_microseconds
from ....projections.models import ProjectedMeter, RulesRevision
from ....projections.stored_events import METER_TOPICS, ConfiguredData, RulesChangedData, decode_rows
from .dialects import Dialect, DialectName, dialect_of
from .statement import RELATION


class Segments(ABC):
    """The segments of an archive, from the first event on, in an engine that runs statements on them."""

    head: int
    """The last position."""

    def __init__(self, name: DialectName) -> None:
        self.dialect: Dialect = dialect_of(name)

    @abstractmethod
    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""

    def _require_all(self) -> None:
        """Set the last position. Raises LedgerCorrupted unless there is one event at each position."""
        ((count, first, self.head),) = self.run(
            f"SELECT COUNT(*), COALESCE(MIN(position), 1), COALESCE(MAX(position), 0) FROM {RELATION}"
        )
        if first != 1 or count != self.head:
            raise LedgerCorrupted(
                f"The archive has {count} events at the positions from {first} to {self.head}: some are missing, or "
                "are there twice."
            )

    def position_at(self, moment: int) -> int:
        """Return the position before the first event that was recorded after a time, in microseconds."""
        recorded_at = self.dialect.microseconds.format("recorded_at")
        ((position,),) = self.run(f"SELECT MIN(position) FROM {RELATION} WHERE {recorded_at} > {moment}")
        return self.head if position is None else position - 1

    def meter(self, event_name: str) -> ProjectedMeter | None:
        """Return a meter with all revisions of its rules; None if it isn't configured."""
        topics = ", ".join(f"'{topic}'" for topic in sorted(METER_TOPICS))
        rows = self.run(
            f"SELECT position, topic, state FROM {RELATION} WHERE topic IN ({topics})"
            f" AND stream = {self.dialect.literal(Meter.stream_id(event_name))} ORDER BY position"
        )
        source: str | None = None
        history: list[RulesRevision] = []
        for position, event in decode_rows((position, topic, bytes(state)) for position, topic, state in rows):
            assert isinstance(event, ConfiguredData | RulesChangedData)
            rules = Rules.model_validate_json(bytes(event.rules))
            revision, start = 1, ALWAYS
            if isinstance(event, ConfiguredData):
                source = event.source
            else:
                revision = event.revision
                start = ALWAYS if event.effective_from is None else to_microseconds(event.effective_from)
            history.append(RulesRevision(revision, rules, position, to_microseconds(event.recorded_at), start))
        return ProjectedMeter(event_name, (), tuple(history), source) if history else None

    def meter_names(self) -> list[str]:
        """Return the event names of all meters."""
        rows = self.run(f"SELECT stream FROM {RELATION} WHERE topic = '{Meter.Configured.__name__}'")
        return [stream.removeprefix(Meter.stream_id("")) for (stream,) in rows]


class DuckDBSegments(Segments):
    """The segments of an archive in DuckDB. Close it after use."""

    def __init__(self, files: Sequence[str]) -> None:
        """Open the files. Raises InvalidParameter or LedgerCorrupted if they aren't those of an archive."""
        super().__init__(DialectName.DUCKDB)
        duckdb = _import_duckdb()
        self.error_class: type[Exception] = duckdb.Error
        self._connection = duckdb.connect()
        try:
            self.add_view(RELATION, [self.query_of(files)])
            self._require_all()
        except duckdb.Error as error:
            raise unreadable_files(files, error) from error

    def close(self) -> None:
        """Close DuckDB."""
        self._connection.close()

    def query_of(self, files: Sequence[str]) -> str:
        """Return the query of the rows of some files."""
        return f"SELECT * FROM read_parquet([{', '.join(self.dialect.literal(file) for file in files)}])"

    def add_view(self, name: str, queries: Sequence[str]) -> str:
        """Create or replace a view of the rows of some queries, which have the same columns. Return its name."""
        self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {' UNION ALL '.join(queries)}")
        return name

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        return self._connection.execute(statement).fetchall()


def unreadable_files(files: Sequence[str], error: Exception) -> InvalidParameter:
    """Return the error of files that an engine can't read."""
    message = f"The files can't be read as segments of an archive: {error}"
    return InvalidParameter(message, field="files", value=list(files))


def _import_duckdb():  # pyright infers the type of the module
    try:
        import duckdb  # noqa: PLC0415 - an extra
    except ImportError:
        raise InvalidParameter(
            "Totals of an archive need an extra: pip install 'tallybook[archive]'.", field="files"
        ) from None
    return duckdb
