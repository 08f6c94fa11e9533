"""Large CSV files are checked in this process while another one reads their rows ahead."""

import errno
import gzip
import io
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import Metering
from tallybook.application.usage_import import files
from tallybook.application.usage_import.files import UsageFile, open_usage_file
from tallybook.application.usage_import.importer import UsageImporter
from tallybook.application.usage_import.read_ahead import ReadAheadReader
from tallybook.application.usage_import.row_mapper import RowFormat
from tallybook.domain.errors import InvalidImportFile, UsageSourceUnavailable

from .test_import_reader_process import children, nothing_remains

ROWS = 30_000
HEADER = "event_name,identifier,timestamp,payload_customer,payload_value\n"


@pytest.fixture
def usage_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is larger than the pipe and the buffers of both processes."""
    monkeypatch.setattr(files, "MIN_TEXT_BYTES", 1)
    path = tmp_path / "usage.csv"
    rows = "".join(f"tokens,id-{number},2026-03-01T10:00:00Z,acme,{number}\n" for number in range(ROWS))
    path.write_text(HEADER + rows)
    return path


def identifiers(file: UsageFile) -> list[object]:
    return [row.cells["identifier"] for row in file.rows()]


ALL = [f"id-{number}" for number in range(ROWS)]


def test_both_processes_read_the_file_at_the_same_time(usage_file: Path, metering: Metering) -> None:
    """Each from a position of its own, as often as necessary."""
    metering.meters.configure("tokens", customer_key="customer", value_key="value")
    with nothing_remains(), open_usage_file(usage_file) as file:
        assert isinstance(file.reader, ReadAheadReader)
        first = file.rows()
        assert [next(first).line, next(first).line] == [2, 3]
        UsageImporter(metering, file, RowFormat()).check()
        assert [row.cells["identifier"] for row in first] == ALL[2:]
        assert identifiers(file) == ALL
        assert identifiers(file) == ALL
        assert (file.dialect.delimiter, file.columns) == (",", HEADER.rstrip().split(","))
        assert file.find_header_line(["identifier"]) == 1


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_recorded_if_the_process_is_ended_before_the_check(
    usage_file: Path, metering: Metering, end: signal.Signals
) -> None:
    metering.meters.configure("tokens", customer_key="customer", value_key="value")
    before = children()
    with nothing_remains(), open_usage_file(usage_file) as file:
        (process,) = children() - before
        os.kill(int(process), end)
        with pytest.raises(UsageSourceUnavailable, match="ended from outside"):
            UsageImporter(metering, file, RowFormat()).run()
        assert identifiers(file) == ALL  # by another process
    assert metering.events("tokens") == []


def test_an_unclear_cell_at_the_end_is_found_before_anything_is_recorded(usage_file: Path, metering: Metering) -> None:
    metering.meters.configure("tokens", customer_key="customer", value_key="value")
    with usage_file.open("a") as text:
        text.write('tokens,last,03.04.2026,acme,"1,5"\n')
    message = rf"line {ROWS + 2}: 'timestamp' must be .* Name what its comma is"
    with (
        nothing_remains(),
        open_usage_file(usage_file) as file,
        pytest.raises(InvalidImportFile, match=message),
    ):
        UsageImporter(metering, file, RowFormat()).run()
    assert metering.events("tokens") == []


def test_a_file_without_its_end_is_rejected(usage_file: Path, metering: Metering) -> None:
    """Also if the process that reads ahead has sent rows."""
    metering.meters.configure("tokens", customer_key="customer", value_key="value")
    with usage_file.open("a") as text:
        text.write('tokens,"last')
    with nothing_remains(), open_usage_file(usage_file) as file:
        importer = UsageImporter(metering, file, RowFormat())
        with pytest.raises(InvalidImportFile, match=rf"line {ROWS + 2}: it is not CSV: unexpected end of data"):
            importer.run()
    assert metering.events("tokens") == []


def test_a_compressed_file_that_is_cut_off_during_the_check_was_changed(usage_file: Path, metering: Metering) -> None:
    metering.meters.configure("tokens", customer_key="customer", value_key="value")
    compressed = usage_file.with_suffix(".csv.gz")
    compressed.write_bytes(gzip.compress(usage_file.read_bytes()))
    with nothing_remains(), open_usage_file(compressed) as file:
        os.truncate(compressed, 20_000)
        with pytest.raises(InvalidImportFile, match="it was changed while it was imported"):
            UsageImporter(metering, file, RowFormat()).run()
    assert metering.events("tokens") == []


class FailingFile(io.FileIO):
    """A file on a disk that may fail."""

    fails = False

    def readinto(self, buffer: Any, /) -> int | None:
        if self.fails:
            raise OSError(errno.EIO, "Input/output error")
        return super().readinto(buffer)


def test_a_disk_that_fails_during_the_check_is_named(usage_file: Path, metering: Metering) -> None:
    metering.meters.configure("tokens", customer_key="customer", value_key="value")
    disk = FailingFile(usage_file)
    with nothing_remains(), open_usage_file(usage_file, contents=io.BufferedReader(disk)) as file:
        disk.fails = True
        with pytest.raises(InvalidImportFile, match=r"usage.csv: it can't be read: \[Errno 5\] Input/output error"):
            UsageImporter(metering, file, RowFormat()).run()
    assert metering.events("tokens") == []
