"""An archive is registered as an Iceberg table, and engines read it through the catalog."""

from pathlib import Path
from typing import Any

import pyiceberg.catalog
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.utils.config import Config
from tallybook.application import Archive, ArchiveMismatch, InvalidArchive, archives

from ..cli.command_line import CommandLine
from .ledgers import export, record, stored_rows

CATALOG = "books"


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Configure a catalog in a SQLite file, as pyiceberg documents it, and return it."""
    monkeypatch.setenv("PYICEBERG_CATALOG__BOOKS__TYPE", "sql")
    monkeypatch.setenv("PYICEBERG_CATALOG__BOOKS__URI", f"sqlite:///{tmp_path / 'catalog.db'}")
    monkeypatch.setenv("PYICEBERG_CATALOG__BOOKS__WAREHOUSE", f"file://{tmp_path / 'warehouse'}")
    monkeypatch.setattr(pyiceberg.catalog, "_ENV_CONFIG", Config())  # it is read when pyiceberg is imported
    return load_catalog(CATALOG)


def table_rows(table: Any) -> list[tuple[object, ...]]:
    """Return the stored columns of all rows of a table, by position."""
    names = ("position", "stream", "version", "topic", "state")
    rows = table.scan(selected_fields=names).to_arrow().to_pylist()
    return sorted(tuple(row[name] for name in names) for row in rows)


def test_a_table_has_each_segment_once(url: str, catalog: Any, tmp_path: Path) -> None:
    """Each registration adds what is new, as one snapshot with the root of the archive; no file is copied."""
    folder = tmp_path / "archive"
    for first, last in ((1, 9), (10, 20)):
        record(url, first, last)
        exported = export(url, folder, 8)
        registered = Archive.open(folder).register_iceberg(CATALOG)
        assert (registered.segments, registered.root) == (exported.segments, exported.root)
        assert Archive.open(folder).register_iceberg(CATALOG).segments == 0
    table = catalog.load_table("tallybook.events")
    assert table_rows(table) == stored_rows(url)
    first_snapshot, last_snapshot = table.snapshots()
    assert last_snapshot.summary["tallybook.root"] == exported.root
    assert last_snapshot.summary["tallybook.last-position"] == "21"
    assert len(table.scan(snapshot_id=first_snapshot.snapshot_id).to_arrow()) == 10
    assert {Path(task.file.file_path).parent.name for task in table.scan().plan_files()} == {"events"}
    verification = Archive.open(folder).verify()
    assert (verification.differences, verification.warnings) == ((), ())


def test_another_archive_needs_another_table(url: str, catalog: Any, tmp_path: Path) -> None:
    """A table with the events of two ledgers would count both."""
    record(url, 1, 3)
    for name in ("one", "other"):
        export(url, tmp_path / name)
    Archive.open(tmp_path / "one").register_iceberg(CATALOG)
    with pytest.raises(ArchiveMismatch, match="register the archive as another table"):
        Archive.open(tmp_path / "other").register_iceberg(CATALOG)
    assert Archive.open(tmp_path / "other").register_iceberg(CATALOG, "tallybook.other").segments == 1
    assert len(table_rows(catalog.load_table("tallybook.other"))) == 4


def test_errors_name_the_catalog(url: str, catalog: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that isn't configured, a table without a namespace, and a missing extra."""
    record(url, 1, 1)
    export(url, tmp_path / "archive")
    archive = Archive.open(tmp_path / "archive")
    with pytest.raises(InvalidArchive, match=r"can't be registered as tallybook\.events in the catalog 'unknown'"):
        archive.register_iceberg("unknown")
    with pytest.raises(InvalidArchive, match=r"a table has the name of a namespace and its own, like tallybook"):
        archive.register_iceberg(CATALOG, "events")

    def find_nothing(_package: str) -> None:
        return None

    monkeypatch.setattr(archives, "find_spec", find_nothing)
    with pytest.raises(InvalidArchive, match=r"pip install 'tallybook\[iceberg\]'"):
        archive.register_iceberg(CATALOG)


@pytest.mark.usefixtures("catalog")
def test_the_command_registers_a_table(url: str, tmp_path: Path) -> None:
    """It says how many segments are new."""
    record(url, 1, 1)
    export(url, tmp_path / "archive")
    tallybook = CommandLine(tmp_path)
    command = ("archive", "register", str(tmp_path / "archive"), "--iceberg", CATALOG)
    expected = "registered: 1 segment in the table tallybook.events, which ends at position 2"
    assert tallybook.lines(*command) == [expected]
    assert tallybook.run_json(*command)["segments"] == 0
