"""DuckDB on the segments of an archive: Parquet files with the stored events of a ledger."""

from collections.abc import Sequence
from typing import Any

from ....domain.errors import InvalidParameter, LedgerCorrupted
from ....domain.meter import Meter
from ....domain.rules import Rules
from ....domain.schedule import ALWAYS
from ....domain.timestamps import to_microseconds
from ....projections.models import ProjectedMeter, RulesRevision
from ....projections.stored_events import METER_TOPICS, ConfiguredData, RulesChangedData, decode_rows
from .dialects import DialectName, dialect_of
from .statement import RELATION

_DIALECT = dialect_of(DialectName.DUCKDB)


class Segments:
    """The segments of an archive, from the first event on, in DuckDB. Close it after use."""

    def __init__(self, files: Sequence[str]) -> None:
        """Open the files. Raises InvalidParameter or LedgerCorrupted if they aren't those of an archive."""
        duckdb = _import_duckdb()
        self._connection = duckdb.connect()
        paths = ", ".join(_DIALECT.literal(file) for file in files)
        view = f"CREATE TEMP VIEW {RELATION} AS SELECT * FROM read_parquet([{paths}])"
        try:
            self._connection.execute(view)
            ((count, first, self.head),) = self.run(
                f"SELECT COUNT(*), COALESCE(MIN(position), 1), COALESCE(MAX(position), 0) FROM {RELATION}"
            )
        except duckdb.Error as error:
            raise InvalidParameter(
                f"The files can't be read as segments of an archive: {error}", field="files", value=list(files)
            ) from error
        if first != 1 or count != self.head:
            raise LedgerCorrupted(
                f"The archive has {count} events at the positions from {first} to {self.head}: some are missing, or "
                "are there twice."
            )

    def close(self) -> None:
        """Close DuckDB."""
        self._connection.close()

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        return self._connection.execute(statement).fetchall()

    def position_at(self, moment: int) -> int:
        """Return the position before the first event that was recorded after a time, in microseconds."""
        ((position,),) = self.run(f"SELECT MIN(position) FROM {RELATION} WHERE epoch_us(recorded_at) > {moment}")
        return self.head if position is None else position - 1

    def meter(self, event_name: str) -> ProjectedMeter | None:
        """Return a meter with all revisions of its rules; None if it isn't configured."""
        topics = ", ".join(f"'{topic}'" for topic in sorted(METER_TOPICS))
        rows = self.run(
            f"SELECT position, topic, state FROM {RELATION} WHERE topic IN ({topics})"
            f" AND stream = {_DIALECT.literal(Meter.stream_id(event_name))} ORDER BY position"
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


def _import_duckdb():  # pyright infers the type of the module
    try:
        import duckdb  # noqa: PLC0415 - an extra
    except ImportError:
        raise InvalidParameter(
            "Totals of an archive need an extra: pip install 'tallybook[archive]'.", field="files"
        ) from None
    return duckdb
