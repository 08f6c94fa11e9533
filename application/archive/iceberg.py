"""Registers an archive as an Iceberg table: the files stay where they are, and the table's metadata names them.

The table's location is the archive itself, because some engines only read files inside of it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyiceberg.exceptions
from pyiceberg.catalog import load_catalog

from ...domain.errors import ArchiveMismatch, InvalidArchive
from .columns import SCHEMA
from .results import IcebergRegistration

if TYPE_CHECKING:
    from .reader import ArchiveReader

ROOT_PROPERTY = "tallybook.root"
LAST_POSITION_PROPERTY = "tallybook.last-position"
_ERRORS = (
    ValueError,
    OSError,
    *(
        error
        for error in vars(pyiceberg.exceptions).values()
        if isinstance(error, type) and issubclass(error, Exception)
    ),
)
"""What pyiceberg may raise; its errors have no common class."""


def register_iceberg(archive: "ArchiveReader", catalog: str, table_name: str) -> IcebergRegistration:
    """Add all segments that a table does not name yet to it, as one snapshot. Create the table if it does not exist."""
    segments = archive.segments
    location = _absolute(archive.location)
    try:
        table = _open_table(catalog, table_name, location)
        registered = {task.file.file_path for task in table.scan().plan_files()}
        files = [f"{location}/{segment.file}" for segment in segments]
        if not registered <= set(files) or table.location() != location:
            raise ArchiveMismatch(
                f"The table {table_name} at {table.location()} has other files than the archive {location}: register "
                "the archive as another table.",
                field="table",
                value=table_name,
            )
        missing = [file for file in files if file not in registered]
        if missing:
            properties = {LAST_POSITION_PROPERTY: str(segments[-1].last), ROOT_PROPERTY: segments[-1].root}
            table.add_files(missing, snapshot_properties=properties)
    except _ERRORS as error:
        raise InvalidArchive(
            f"The archive {location} can't be registered as {table_name} in the catalog {catalog!r}: {error}",
            field="catalog",
            value=catalog,
        ) from error
    return IcebergRegistration(table_name, location, len(missing), segments[-1].last, segments[-1].root)


def _open_table(catalog_name: str, table_name: str, location: str) -> Any:
    catalog: Any = load_catalog(catalog_name)
    namespace, _, _ = table_name.rpartition(".")
    if not namespace:
        raise ValueError("a table has the name of a namespace and its own, like tallybook.events")
    catalog.create_namespace_if_not_exists(namespace)
    return catalog.create_table_if_not_exists(table_name, schema=SCHEMA, location=location)


def _absolute(location: str) -> str:
    """Return the URL of an archive, also of a folder."""
    return location if "://" in location else f"file://{Path(location).resolve()}"
