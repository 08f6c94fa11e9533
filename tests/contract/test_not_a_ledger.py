"""Files and URLs that are not a ledger are rejected with a specific error, and the files are not changed."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tallybook.application import Metering
from tallybook.domain.errors import (
    InvalidLedgerUrl,
    LedgerUnavailable,
    NotALedger,
    TallybookError,
    UnsupportedSchemaVersion,
)


def create_newer_ledger(file: Path) -> None:
    """Create a ledger of a newer schema version."""
    Metering.open(f"sqlite:///{file}").close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 1000")


def create_ledger_with_newer_read_models(file: Path) -> None:
    """Create a ledger whose read models have a newer schema version."""
    Metering.open(f"sqlite:///{file}").close()
    with closing(sqlite3.connect(f"{file}.read-models")) as connection:
        connection.execute("PRAGMA user_version = 1000")


def create_foreign_database(file: Path) -> None:
    """Create a SQLite database of another application."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE invoices (id INTEGER PRIMARY KEY)")


def create_database_with_other_application_id(file: Path) -> None:
    """Create a SQLite database with another application id."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA application_id = 42")
        connection.execute("CREATE TABLE invoices (id INTEGER PRIMARY KEY)")


def create_read_models_file(file: Path) -> None:
    """Create a file of read models with another name."""
    other = file.with_name("other.db")
    Metering.open(f"sqlite:///{other}").close()
    Path(f"{other}.read-models").rename(file)


def create_text_file(file: Path) -> None:
    """Create a text file that is longer than a database page."""
    file.write_text("identifier,timestamp,event_name\n" * 1_000)


def create_short_text_file(file: Path) -> None:
    """Create a text file that is shorter than the header of a database."""
    file.write_text("hello\n")


def create_ledger_with_malformed_schema(file: Path) -> None:
    """Create a ledger, and replace a byte of its schema by one that is no UTF-8."""
    Metering.open(f"sqlite:///{file}").close()
    file.write_bytes(file.read_bytes().replace(b"CREATE TABLE", b"CREATE T\xf6BLE"))


REJECTED_FILES: list[tuple[Callable[[Path], None], type[TallybookError], str]] = [
    (create_newer_ledger, UnsupportedSchemaVersion, "unsupported_schema_version"),
    (create_ledger_with_newer_read_models, UnsupportedSchemaVersion, "unsupported_schema_version"),
    (create_foreign_database, NotALedger, "not_a_ledger"),
    (create_database_with_other_application_id, NotALedger, "not_a_ledger"),
    (create_read_models_file, NotALedger, "not_a_ledger"),
    (create_text_file, NotALedger, "not_a_ledger"),
    (create_short_text_file, NotALedger, "not_a_ledger"),
    (create_ledger_with_malformed_schema, LedgerUnavailable, "ledger_unavailable"),
]


@pytest.mark.parametrize(("create", "error_class", "code"), REJECTED_FILES)
def test_a_file_that_is_not_a_ledger_is_rejected(
    create: Callable[[Path], None], error_class: type[TallybookError], code: str, tmp_path: Path
) -> None:
    """Opening raises an error that names the file."""
    file = tmp_path / "usage.db"
    create(file)
    with pytest.raises(TallybookError, match=r"usage\.db") as exc_info:
        Metering.open(f"sqlite:///{file}")
    assert (type(exc_info.value), exc_info.value.code, exc_info.value.field) == (error_class, code, "url")


@pytest.mark.parametrize("create", [made for made, _, _ in REJECTED_FILES])
def test_a_rejected_file_is_not_changed(create: Callable[[Path], None], tmp_path: Path) -> None:
    """A file of another application stays byte for byte the same."""
    file = tmp_path / "usage.db"
    create(file)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TallybookError):
        Metering.open(f"sqlite:///{file}")
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("create", [made for made, _, _ in REJECTED_FILES])
def test_a_rejected_file_is_closed(create: Callable[[Path], None], tmp_path: Path) -> None:
    """All connections are closed after the error, and no write-ahead log remains next to the file."""
    file = tmp_path / "usage.db"
    create(file)
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(TallybookError) as exc_info:
        Metering.open(f"sqlite:///{file}")
    leftovers = {path.name for path in tmp_path.iterdir()} - before
    assert leftovers == set(), f"left by {exc_info.value!r}"


def test_an_empty_file_becomes_a_ledger(tmp_path: Path) -> None:
    """An empty file, such as mkstemp creates, is opened as a new ledger."""
    file = tmp_path / "usage.db"
    file.touch()
    with Metering.open(f"sqlite:///{file}") as metering:
        metering.meters.configure("tokens")
    with Metering.open(f"sqlite:///{file}") as metering:
        assert [meter.event_name for meter in metering.meters.list()] == ["tokens"]


def test_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    """A missing file is created, a missing folder is not."""
    with pytest.raises(LedgerUnavailable, match="folder must exist") as exc_info:
        Metering.open(f"sqlite:///{tmp_path / 'missing' / 'usage.db'}")
    assert exc_info.value.code == "ledger_unavailable"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_before_two_dots_is_an_invalid_url(tmp_path: Path) -> None:
    """SQLite would create a file in the folder above, which is not the one that the path names."""
    with pytest.raises(InvalidLedgerUrl, match="does not exist"):
        Metering.open(f"sqlite:///{tmp_path}/missing/../usage.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("character", ["\t", "\n", "\r"])
def test_a_line_break_in_a_url_is_rejected_unless_it_is_escaped(tmp_path: Path, character: str) -> None:
    """A parser of URLs removes it, so that the ledger would be another file."""
    with pytest.raises(InvalidLedgerUrl, match="line break or a tab"):
        Metering.open(f"sqlite:///{tmp_path}/us{character}age.db")
    assert list(tmp_path.iterdir()) == []
    Metering.open(f"sqlite:///{tmp_path}/us%{ord(character):02X}age.db").close()
    assert (tmp_path / f"us{character}age.db").exists()


def test_a_folder_is_an_invalid_url(tmp_path: Path) -> None:
    """The path must name a file."""
    with pytest.raises(InvalidLedgerUrl, match="is a folder") as exc_info:
        Metering.open(f"sqlite:///{tmp_path}")
    assert exc_info.value.code == "invalid_ledger_url"


@pytest.mark.parametrize("length", [230, 240, 255, 256, 5_000])
def test_a_name_that_is_too_long_for_the_files_next_to_the_ledger_is_rejected(tmp_path: Path, length: int) -> None:
    """Most file systems take 255 bytes. No file is created."""
    with pytest.raises(InvalidLedgerUrl, match="is too long"):
        Metering.open(f"sqlite:///{tmp_path}/{'x' * length}")
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_with_a_long_name_can_be_verified(tmp_path: Path) -> None:
    """Verifying creates a temporary directory with the longest of all names."""
    with Metering.open(f"sqlite:///{tmp_path}/{'x' * 220}") as metering:
        metering.meters.configure("tokens")
        assert metering.verify().is_equal


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", ""),
        ("usage.db", "usage.db"),
        ("/var/lib/usage.db", "/var/lib/usage.db"),
        ("mysql://localhost/usage", "mysql://localhost/usage"),
        ("file:usage.db", "file:usage.db"),
        ("sqlite://host/usage.db", "sqlite://host/usage.db"),
        ("sqlite:///usage.db?mode=ro", "sqlite:///usage.db…"),  # a parameter may be a password
        ("sqlite:///usage.db#main", "sqlite:///usage.db…"),
        ("sqlite://[::1", "sqlite://[…"),
        ("sqlite:///usage%00.db", "sqlite:///usage%00.db"),
        ("sqlite:///usage\ud800.db", "sqlite:///usage\ud800.db"),
    ],
)
def test_an_unknown_or_malformed_url_is_rejected(
    url: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error shows the URL without what may be a part of a password, and no file is created."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidLedgerUrl) as exc_info:
        Metering.open(url)
    assert (exc_info.value.code, exc_info.value.field, exc_info.value.value) == ("invalid_ledger_url", "url", shown)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    """A path that resembles a SQLite option is the path of a durable file."""
    folder = tmp_path / "mode=memory :memory:"
    folder.mkdir()
    with Metering.open(f"sqlite:///{folder / 'usage.db'}") as metering:
        metering.meters.configure("tokens")
        assert (folder / "usage.db-wal").exists()


def test_a_rejected_url_does_not_affect_the_next_url(tmp_path: Path) -> None:
    """After the error, the same process can open a valid ledger immediately."""
    file = tmp_path / "usage.db"
    create_text_file(file)
    with pytest.raises(NotALedger):
        Metering.open(f"sqlite:///{file}")
    file.unlink()
    with Metering.open(f"sqlite:///{file}") as metering:
        assert metering.meters.list() == []
