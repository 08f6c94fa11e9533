"""Files that are read in a process of their own: a library that goes wild in it only rejects the file."""

import gzip
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import gettempdir

import pytest
from tallybook.application import Metering
from tallybook.application.python_process import MAX_PROCESSES_SETTING
from tallybook.application.usage_import.file_reader import FileReader
from tallybook.application.usage_import.files import MIN_LIMITED_BYTES, open_usage_file
from tallybook.application.usage_import.formats import (
    FileLimits,
    Row,
    RowBatch,
    invalid_row,
)
from tallybook.application.usage_import.importer import UsageImporter
from tallybook.application.usage_import.json_rows import DuplicateKey, NestedCell, UnusableCell
from tallybook.application.usage_import.reader_process import ReaderProcess
from tallybook.application.usage_import.row_mapper import RowFormat
from tallybook.application.usage_import.row_messages import (
    Columns,
    Failed,
    Rows,
    decode,
    encode,
    encode_batch,
    to_batch,
)
from tallybook.domain.errors import InvalidImportFile, InvalidParameter, UsageSourceUnavailable

from ..waiting import wait_until

LIMITS = FileLimits(max_rows=10, max_memory_bytes=200 << 20, min_cpu_seconds=1)
LIBRARIES = {
    "allocates": "blocks = [bytearray(1 << 20)]\n    while True: blocks.append(bytearray(1 << 20))",
    "loops": "while True: pass",
    "dies": "__import__('os').kill(__import__('os').getpid(), 11)",
    "exits": "__import__('os')._exit(7)",
    "killed": "__import__('os').kill(__import__('os').getpid(), 9)",
    "fails": "raise SystemError('broken')",
    "writes": """import os
    for file in range(3, 40):
        try: os.write(file, b"garbage")
        except OSError: pass
""",
}
MESSAGES = {
    "allocates": "it takes over 200 MB of memory to read. Save its sheet as CSV",
    "loops": "it takes over 1 seconds of processor time to read. Save its sheet as CSV",
    "dies": "the process that reads it has ended (SIGSEGV): the file is corrupted, or too large. Save its sheet as CSV",
    "exits": "the process that reads it has ended (exit status 7): the file is corrupted, or too large. Save its",
    "fails": "it is no spreadsheet in the format xlsx, or it is corrupted: broken",
    "writes": "the process that reads it sent an invalid message",
}


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process, and those that it starts, have a folder for temporary files where others store none."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def spreadsheet(tmp_path: Path) -> Path:
    path = tmp_path / "usage.xlsx"
    path.write_bytes(b"PK\x05\x06" + bytes(18))  # an empty archive
    return path


def install_library(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes that this one starts import a library for spreadsheets that does this."""
    (folder / "library").mkdir()
    (folder / "library" / "openpyxl.py").write_text(f"def load_workbook(*_, **__):\n    {LIBRARIES[name]}\n")
    monkeypatch.setattr(sys, "path", [str(folder / "library"), *sys.path])


def peak_megabytes() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1000 for line in status if line.startswith("VmHWM"))


def children() -> set[str]:
    """Return the child processes of this one, also those that have ended and nobody has waited for."""
    tasks = Path("/proc/self/task").iterdir()
    return {child for task in tasks for child in (task / "children").read_text().split()}


@contextmanager
def nothing_remains() -> Generator[None]:
    """Check that this process stays small, and that no process and no temporary file is left."""
    before, files, peak = children(), set(Path(gettempdir()).iterdir()), peak_megabytes()
    yield
    assert children() <= before
    assert set(Path(gettempdir()).iterdir()) <= files
    assert peak_megabytes() < peak + 50


@pytest.mark.parametrize("name", MESSAGES)
def test_a_library_that_fails_or_exceeds_a_limit_rejects_the_file(
    spreadsheet: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to do."""
    install_library(spreadsheet.parent, name, monkeypatch)
    with (
        nothing_remains(),
        pytest.raises(InvalidImportFile) as raised,
        open_usage_file(spreadsheet, limits=LIMITS),
    ):
        pass
    assert (raised.value.code, raised.value.field) == ("invalid_import_file", "file")
    assert raised.value.message.startswith(f"{spreadsheet}: {MESSAGES[name]}")


def test_a_process_that_others_kill_says_nothing_about_the_file(
    spreadsheet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system kills the largest process if it has no more memory. The file is read again."""
    install_library(spreadsheet.parent, "killed", monkeypatch)
    message = r"ended from outside \(SIGKILL\)\. Try it again"
    with nothing_remains(), pytest.raises(UsageSourceUnavailable, match=message), open_usage_file(spreadsheet):
        pass


def test_reading_can_be_cancelled_at_any_moment(spreadsheet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while a library loops. The process is killed."""
    install_library(spreadsheet.parent, "loops", monkeypatch)
    calls: list[int] = []

    def cancel(_read: int, _size: int) -> None:
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt

    with nothing_remains(), pytest.raises(KeyboardInterrupt), open_usage_file(spreadsheet, advance=cancel):
        pass


def test_the_process_ends_with_its_parent(spreadsheet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while a library loops, and although the parent was killed."""
    install_library(spreadsheet.parent, "loops", monkeypatch)
    program = f"""
import sys
sys.path.insert(0, {str(spreadsheet.parent / "library")!r})
from pathlib import Path
from tallybook.application.usage_import.files import open_usage_file
print("started", flush=True)
with open_usage_file(Path({str(spreadsheet)!r})):
    pass
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        tasks = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        wait_until(lambda: tasks.read_text().split())
        reader = Path("/proc", tasks.read_text().split()[0])
        wait_until(lambda: "reader_main" in (reader / "cmdline").read_text())
        parent.kill()
    wait_until(lambda: not reader.exists())


def test_rows_are_read_as_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as necessary: again after a reading that was not completed, and after the header was looked for."""
    path = tmp_path / "usage.csv.gz"
    content = ("a,b\n" + "1,é\n" * 5_000 + "1\n" + f"2,{'x' * 50}\n" * 20_000).encode()
    assert len(content) > MIN_LIMITED_BYTES
    path.write_bytes(gzip.compress(content, 1))
    limits = FileLimits(max_rows=30_000)
    with nothing_remains(), open_usage_file(path, limits=limits) as file:
        assert isinstance(file.reader, ReaderProcess)
        progress: list[tuple[int, int]] = []
        rows = [vars_of(row) for row in file.rows(lambda read, size: progress.append((read, size)))]
        first = file.rows()
        assert vars_of(next(first)) == rows[0]
        assert [vars_of(row) for row in file.rows()] == rows
        assert file.find_header_line(["a", "b"]) == 1
        dialect, columns = file.dialect, file.columns
    assert progress[-1] == (path.stat().st_size,) * 2
    monkeypatch.setenv(MAX_PROCESSES_SETTING, "1")
    with open_usage_file(path, limits=limits) as file:
        assert not isinstance(file.reader, ReaderProcess)
        assert (file.dialect, file.columns) == (dialect, columns)
        assert [vars_of(row) for row in file.rows()] == rows


def test_an_import_is_the_same_as_in_this_process(
    tmp_path: Path, metering: Metering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows have the same identifiers and outcomes. They are checked in the other process, which has no meters."""
    for event_name in ("tokens", "calls"):
        metering.meters.configure(event_name, customer_key="customer", value_key="value")
    path = tmp_path / "usage.jsonl"
    at = f"{metering.clock():%Y-%m-%dT%H:%M:%SZ}"
    rows = [
        f'{{"event_name": "{event_name}", "timestamp": "{at}", "payload": {payload}, "more": {{"a": [1.50]}}}}'
        for event_name, payload in (
            ("tokens", '{"customer": "acme", "value": 5}'),
            ("calls", '{"customer": "acme", "value": 0.10}'),
            ("unknown", '{"customer": "acme", "value": 5}'),
            ("calls", '{"customer": {"a": 1}, "value": 5}'),
        )
    ]
    padding = f'{{"padding": "{"x" * 1_000}"}}\n' * (MIN_LIMITED_BYTES // 1_000)
    path.write_text("\n".join(rows) + "\n" + padding)
    outcomes: list[tuple[int, int, int]] = []
    for expected in (ReaderProcess, FileReader):
        with nothing_remains(), open_usage_file(path, limits=FileLimits(max_rows=2_000)) as file:
            assert isinstance(file.reader, expected)
            summary = UsageImporter(metering, file, RowFormat()).run()
            outcomes.append((summary.accepted, summary.duplicate, summary.rejected))
        monkeypatch.setenv(MAX_PROCESSES_SETTING, "1")
    rejected = 2 + padding.count("\n")
    assert outcomes == [(2, 0, rejected), (0, 2, rejected)]


def test_an_unclear_cell_is_found_by_the_process(tmp_path: Path, metering: Metering) -> None:
    """Nothing is recorded, and the error is the same."""
    metering.meters.configure("tokens", customer_key="customer", value_key="value")
    path = tmp_path / "usage.csv"
    usual = "tokens,2026-03-01T10:00:00Z,acme,5\n" * (MIN_LIMITED_BYTES // 35 + 1)
    path.write_text(f'event_name,timestamp,payload_customer,payload_value\n{usual}tokens,03.04.2026,acme,"1,5"\n')
    with open_usage_file(path, limits=FileLimits(max_rows=100_000)) as file:
        assert isinstance(file.reader, ReaderProcess)
        with pytest.raises(InvalidImportFile, match=r"line 29962: 'timestamp' must be .* Name what its comma is"):
            UsageImporter(metering, file, RowFormat()).check()


def vars_of(row: Row) -> tuple[object, ...]:
    """Return the fields of a row; two errors are equal if their messages are."""
    cells = {name: cell.values if isinstance(cell, NestedCell) else cell for name, cell in row.cells.items()}
    error = None if row.error is None else (row.error.message, row.error.field)
    return row.line, cells, error, row.raw


NESTED = {"a": {"b": [Decimal("0.10"), None, {"c": "\ud800"}], "\udfff": True}, "d": DuplicateKey("e"), "f": 1.5}
TYPES: Mapping[str, object] = {
    "text": "é",
    "surrogate": "\ud800",
    "none": None,
    "boolean": True,
    "integer": -5,
    "large": 10**5_000,
    "decimal": Decimal("1E-30"),
    "datetime": datetime(2026, 3, 1, 12, tzinfo=UTC),
    "local": datetime(2026, 3, 1, 12),
    "date": date(2026, 3, 1),
    "unusable": UnusableCell("a list"),
    "nested": NestedCell({**NESTED, "time": time(12, 30), "duration": timedelta(1, 2, 3), "bytes": b"\xff"}),
}


@pytest.mark.parametrize("name", TYPES)
def test_a_cell_of_any_type_arrives_as_it_is(name: str) -> None:
    """In a column of its own, and in a row that has other columns than the others."""
    cells = {name: TYPES[name]}
    batches = {
        Columns: [Row(2, cells, 8), Row(3, cells, 8)],
        Rows: [Row(2, cells, 8), Row(3, {"\ud800": 1}, 8), invalid_row(4, 3, "problem", "row", "\ud800")],
    }
    for kind, rows in batches.items():
        message = decode(encode_batch(RowBatch(rows)))
        assert isinstance(message, Columns | Rows)
        assert isinstance(message, kind)
        assert list(map(vars_of, to_batch(message).rows)) == list(map(vars_of, rows))


@pytest.mark.parametrize("error", [InvalidImportFile("a", field="file", value="b"), InvalidParameter("a", field="c")])
def test_an_error_arrives_as_it_is(error: InvalidImportFile | InvalidParameter) -> None:
    """With its code, message, field and value."""
    message = decode(encode(Failed.of(error)))
    assert isinstance(message, Failed)
    assert type(message.error()) is type(error)
    assert (message.error().as_dict(), message.error().value) == (error.as_dict(), error.value)


@pytest.mark.usefixtures("without_processes")
def test_files_of_others_that_need_a_process_are_rejected_without_one(spreadsheet: Path) -> None:
    """Those of the user of the command are read in this process."""
    with (
        pytest.raises(InvalidImportFile, match="is read in a process of its own"),
        open_usage_file(spreadsheet, limits=LIMITS),
    ):
        pass
    with pytest.raises(InvalidImportFile, match="no spreadsheet"), open_usage_file(spreadsheet):
        pass


def test_a_process_that_cant_be_started_is_a_reason_to_try_again(
    spreadsheet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file isn't rejected."""
    monkeypatch.setattr("sys.executable", str(spreadsheet.parent / "python"))
    with pytest.raises(UsageSourceUnavailable, match="can't be read at the moment"), open_usage_file(spreadsheet):
        pass
