"""The file of rejected rows: it is mended, and imported as the first file was."""

import json
import stat
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from ..cli.command_line import CommandLine

COLUMNS = ("--event-name", "calls", "--customer-column", "customer", "--value-column", "value", "--backfill")
DAY = "2026-03-01"


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    line = CommandLine(tmp_path)
    line.run("meter", "configure", "calls", "--customer-key", "customer", "--value-key", "value")
    return line


def values(tallybook: CommandLine) -> list[str]:
    events = tallybook.run_json("events", "calls", "--from", "2026-01-01", "--to", "2027-01-01")
    return sorted(event["payload"]["value"] for event in events)


def csv_file(*rows: tuple[str, str, str]) -> bytes:
    return "\r\n".join([";".join(row) for row in [("customer", "value", "timestamp"), *rows]]).encode("cp1252")


def jsonl_file(*rows: tuple[str, str, str]) -> bytes:
    return "\n".join(json.dumps({"customer": c, "value": v, "timestamp": t}) for c, v, t in rows).encode()


def json_file(*rows: tuple[str, str, str]) -> bytes:
    return json.dumps([{"customer": c, "value": v, "timestamp": t} for c, v, t in rows]).encode()


@pytest.mark.parametrize(("suffix", "write"), [("csv", csv_file), ("jsonl", jsonl_file), ("json", json_file)])
def test_mended_rows_are_added_and_nothing_else(tallybook: CommandLine, suffix: str, write: Any) -> None:
    """In the format and encoding of the file, with its columns. What is not mended is rejected again."""
    rows = [("Müller", "1", DAY), ("=Müller", "x", DAY), ("'acme", "3", "noon"), ("Müller", "y", DAY)]
    path, errors = tallybook.write(f"usage.{suffix}", write(*rows)), tallybook.folder / f"errors.{suffix}"
    tallybook.run("import", path, *COLUMNS, "--errors", errors, status=1)
    assert stat.S_IMODE(errors.stat().st_mode) == 0o600
    content = errors.read_bytes()
    assert content.count(b"rejected, ") == 3
    if suffix == "csv":
        mended = content.replace(b"noon", DAY.encode()).replace(b";x;", b";2;")
    else:
        mended = content.replace(b'"noon"', f'"{DAY}"'.encode()).replace(b'"x"', b'"2"')
    errors.write_bytes(mended)
    again = tallybook.folder / f"again.{suffix}"
    summary = tallybook.run_json("import", errors, *COLUMNS, "--errors", again, status=1)
    assert (summary["accepted"], summary["duplicate"], summary["rejected"]) == (2, 0, 1)
    assert values(tallybook) == ["1", "2", "3"]
    events = tallybook.run_json("events", "calls", "--from", "2026-01-01", "--to", "2027-01-01")
    assert {event["payload"]["customer"] for event in events} == {"Müller", "=Müller", "'acme"}
    assert again.read_bytes().count(b"rejected_line") == 1
    assert tallybook.run_json("import", errors, *COLUMNS, status=1)["duplicate"] == 2


def test_a_spreadsheet_keeps_the_types_of_its_cells(tallybook: CommandLine) -> None:
    """A number stays a number, and text that looks like a formula is text."""
    openpyxl: Any = import_module("openpyxl")
    workbook = openpyxl.Workbook()
    for row in (["customer", "value", "timestamp"], ["acme", 5, DAY], ["acme", 7, "noon"], ["'=1+1", 9, None]):
        workbook.active.append(row)
    path, errors = tallybook.folder / "usage.xlsx", tallybook.folder / "errors.xlsx"
    workbook.save(path)
    tallybook.run("import", path, *COLUMNS, "--errors", errors, status=1)
    mended = openpyxl.load_workbook(errors)
    sheet = mended.active
    assert [cell.value for cell in sheet[1]] == ["rejected_line", "rejected_reason", "customer", "value", "timestamp"]
    assert [[cell.value for cell in row[2:]] for row in sheet.iter_rows(min_row=2)] == [
        ["acme", 7, "noon"], ["'=1+1", 9, None],
    ]  # fmt: skip
    sheet["E2"] = DAY
    mended.save(errors)
    summary = tallybook.run_json("import", errors, *COLUMNS, status=1)
    assert (summary["accepted"], summary["rejected"]) == (1, 1)
    assert values(tallybook) == ["5", "7"]


def test_a_row_with_too_many_cells_is_written_whole(tallybook: CommandLine) -> None:
    """So that the surplus cell can be removed."""
    path = tallybook.write("usage.csv", f"customer,value,timestamp\nacme,1,000,{DAY}\n")
    errors = tallybook.folder / "errors.csv"
    tallybook.run("import", path, *COLUMNS, "--errors", errors, status=1)
    assert errors.read_text().splitlines()[1].endswith(f",acme,1,000,{DAY}")
    again = tallybook.folder / "again.csv"
    tallybook.run("import", errors, *COLUMNS, "--errors", again, status=1)
    assert again.read_text().splitlines()[0] == errors.read_text().splitlines()[0]
    assert again.read_text().splitlines()[1].endswith(f'has 5.",acme,1,000,{DAY}')


def test_a_line_that_is_no_object_is_written_as_text(tallybook: CommandLine) -> None:
    """Under `rejected_text`."""
    path, errors = tallybook.write("usage.jsonl", '{"customer": \n'), tallybook.folder / "errors.jsonl"
    tallybook.run("import", path, *COLUMNS, "--errors", errors, status=1)
    assert json.loads(errors.read_text())["rejected_text"] == '{"customer": '
