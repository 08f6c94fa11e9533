"""Files as finance people have them: imported rightly, or rejected with the option that helps and nothing recorded."""

import codecs
import gzip
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tallybook.application.interfaces.cli.app import app
from typer.testing import CliRunner

from ..cli.command_line import CommandLine

COLUMNS = ("--event-name", "calls", "--customer-column", "customer", "--value-column", "value")
BERLIN = ("--timezone", "Europe/Berlin")
GERMAN = (
    *("--event-name", "calls", "--customer-column", "Kunde", "--value-column", "Menge"), "--timestamp-column", "Datum",
)  # fmt: skip
FRENCH = (
    *("--event-name", "calls", "--customer-column", "Client"), *("--value-column", "Montant"),
    *("--timestamp-column", "Date"),
)  # fmt: skip


class Case(NamedTuple):
    """A file, its columns, the options without which it is rejected with `error`, and the rows that are recorded."""

    name: str
    content: bytes
    columns: tuple[str, ...]
    options: tuple[str, ...]
    error: str | None
    recorded: list[tuple[str, str, str]]
    rejected: int = 0


def xlsx(rows: list[list[object]], *more_sheets: str) -> bytes:
    """Return a spreadsheet with one sheet of rows, and others with a note."""
    openpyxl: Any = import_module("openpyxl")
    workbook = openpyxl.Workbook()
    for row in rows:
        workbook.active.append(row)
    for title in more_sheets:
        workbook.create_sheet(title).append(["a note"])
    content = io.BytesIO()
    workbook.save(content)
    return content.getvalue()


def parquet(columns: dict[str, list[object]]) -> bytes:
    """Return a Parquet file."""
    arrow: Any = import_module("pyarrow")
    writer: Any = import_module("pyarrow.parquet")
    content = io.BytesIO()
    writer.write_table(arrow.table(columns), content)
    return content.getvalue()


def table(at: str, value: str = "5", header: str = "customer,value,timestamp") -> bytes:
    """Return a CSV file with one row."""
    return f"{header}\nacme,{value},{at}\n".encode()


NOON = "2026-03-01T12:00:00Z"
CLOUD_EVENT = {
    "specversion": "1.0", "type": "calls", "source": "/gateway", "id": "e-1", "time": NOON, "subject": "acme",
    "data": {"value": 5, "usage": {"tokens": 7}},
}  # fmt: skip
CASES = [
    Case("german spreadsheet.csv",
         "Datum;Kunde;Menge\r\n01.03.2026;Müller;1.234,50\r\n;;\r\nSumme;;1.234,50\r\n".encode("cp1252"), GERMAN,
         ("--date-format", "DD.MM.YYYY", "--decimal", ",", "--thousands", "."), "--date-format DD.MM.YYYY",
         [("Müller", "1234.50", "2026-03-01T00:00:00Z")], rejected=1),
    Case("german times.csv", b"Datum;Kunde;Menge\r\n13.03.2026 14:30;Koch;7\r\n", GERMAN,
         ("--date-format", "DD.MM.YYYY HH:mm", *BERLIN), "--date-format 'DD.MM.YYYY HH:mm'",
         [("Koch", "7", "2026-03-13T13:30:00Z")]),
    Case("german thousands.csv", b"Datum;Kunde;Menge\n2026-03-01;Koch;1.234\n2026-03-02;Koch;2.000\n", GERMAN,
         ("--decimal", ",", "--thousands", "."), "thousands",
         [("Koch", "1234", "2026-03-01T00:00:00Z"), ("Koch", "2000", "2026-03-02T00:00:00Z")]),
    Case("french.csv", "Date;Client;Montant\n03/04/2026;Société;1 234,5\n".encode("utf-8-sig"), FRENCH,
         ("--date-format", "DD/MM/YYYY", "--decimal", ",", "--thousands", " "),
         "--date-format DD/MM/YYYY or --date-format MM/DD/YYYY", [("Société", "1234.5", "2026-04-03T00:00:00Z")]),
    Case("french in another encoding.csv", "Date;Client;Montant\n2026-03-01;Crème;5\n".encode("cp1252"), FRENCH,
         ("--encoding", "windows-1252"), "--encoding windows-1252", [("Crème", "5", "2026-03-01T00:00:00Z")]),
    Case("us spreadsheet.csv", b'timestamp,customer,value\n3/4/2026 1:30 PM,acme,"1,234.50"\n', COLUMNS,
         ("--date-format", "MM/DD/YYYY hh:mm A", "--thousands", ",", "--timezone", "America/New_York"),
         "--date-format 'MM/DD/YYYY hh:mm A'", [("acme", "1234.50", "2026-03-04T18:30:00Z")]),
    Case("sap.txt", b"Datum|Kunde|Menge\n20260301|4711|12,500-\n20260302|4711|3,000\n", (*GERMAN, "--format", "csv"),
         ("--timestamp-format", "compact-date", "--decimal", ","), "--timestamp-format compact-date",
         [("4711", "-12.500", "2026-03-01T00:00:00Z"), ("4711", "3.000", "2026-03-02T00:00:00Z")]),
    Case("bank.csv", b'Konto: 1\nStand: heute\n\nDatum;Kunde;Menge\n2026-03-01;acme;(12,50)\n', GERMAN,
         ("--header-row", "4", "--decimal", ","), "--header-row 4", [("acme", "-12.50", "2026-03-01T00:00:00Z")]),
    Case("excel separator.csv", b"sep=;\r\ncustomer;value;timestamp\r\nacme;5;2026-03-01\r\n", COLUMNS, (), None,
         [("acme", "5", "2026-03-01T00:00:00Z")]),
    Case("swiss.csv", b"customer;value;timestamp\nacme;1'234.50;2026-03-01\n", COLUMNS, ("--thousands", "'"),
         "--decimal '.' and --thousands", [("acme", "1234.50", "2026-03-01T00:00:00Z")]),
    Case("local times.csv", table("2026-03-01 12:00:00"), COLUMNS, BERLIN, "--timezone Europe/Berlin",
         [("acme", "5", "2026-03-01T11:00:00Z")]),
    Case("milliseconds.csv", table("1772366400500"), COLUMNS, ("--timestamp-format", "unix-milliseconds"),
         "--timestamp-format unix-milliseconds", [("acme", "5", "2026-03-01T12:00:00.500000Z")]),
    Case("microseconds.csv", table("1772366400500000"), COLUMNS, ("--timestamp-format", "unix-microseconds"),
         "--timestamp-format unix-microseconds", [("acme", "5", "2026-03-01T12:00:00.500000Z")]),
    Case("seconds.csv", table("1772366400"), COLUMNS, (), None, [("acme", "5", NOON)]),
    Case("serial days.csv", table("46082"), COLUMNS, ("--timestamp-format", "spreadsheet-days"),
         "--timestamp-format spreadsheet-days", [("acme", "5", "2026-03-01T00:00:00Z")]),
    Case("unclear delimiter.csv", b"customer,value;timestamp\nacme,5;2026-03-01\n",
         ("--event-name", "calls", "--customer", "acme", "--value-column", "customer,value"), ("--delimiter", ";"),
         "--delimiter", [], rejected=1),
    Case("compressed.csv.gz", gzip.compress(table(NOON)), COLUMNS, (), None, [("acme", "5", NOON)]),
    Case("tabs.tsv", table(NOON).replace(b",", b"\t"), COLUMNS, (), None, [("acme", "5", NOON)]),
    Case("utf-16.csv", codecs.BOM_UTF16_LE + table(NOON).decode().encode("utf-16-le"), COLUMNS, (), None,
         [("acme", "5", NOON)]),
    Case("utf-16 without mark.csv", table(NOON).decode().encode("utf-16-le"), COLUMNS, ("--encoding", "utf-16-le"),
         "--encoding utf-16-le", [("acme", "5", NOON)]),
    Case("dates.xlsx", xlsx([["customer", "value", "timestamp"], ["acme", 0.1 + 0.2, datetime(2026, 3, 1)], [],
                             ["Total", 0.3]]), COLUMNS, (), None,
         [("acme", "0.3", "2026-03-01T00:00:00Z")], rejected=1),
    Case("times.xlsx", xlsx([["Report"], ["customer", "value", "timestamp"], ["acme", 5, datetime(2026, 3, 1, 12)]]),
         COLUMNS, ("--header-row", "2", *BERLIN), "--header-row 2", [("acme", "5", "2026-03-01T11:00:00Z")]),
    Case("sheets.xlsx", xlsx([["customer", "value", "timestamp"], ["acme", 5, NOON]], "Notes"), COLUMNS,
         ("--sheet", "Sheet"), "--sheet Sheet", [("acme", "5", NOON)]),
    Case("numbers.xlsx", xlsx([["customer", "value", "timestamp"], ["acme", 5, 46082]]), COLUMNS,
         ("--timestamp-format", "spreadsheet-days"), "--timestamp-format spreadsheet-days",
         [("acme", "5", "2026-03-01T00:00:00Z")]),
    Case("warehouse.parquet", parquet({"customer": ["acme"], "value": [Decimal("5.50")],
                                       "timestamp": [datetime(2026, 3, 1, 12, tzinfo=UTC)]}),
         COLUMNS, (), None, [("acme", "5.50", NOON)]),
    Case("local.parquet", parquet({"customer": ["acme"], "value": [0.1], "timestamp": [datetime(2026, 3, 1, 12)]}),
         COLUMNS, BERLIN, "--timezone Europe/Berlin", [("acme", "0.1", "2026-03-01T11:00:00Z")]),
    Case("cloud events.jsonl", json.dumps(CLOUD_EVENT).encode(), ("--customer-column", "subject"), (), None,
         [("acme", "5", NOON)]),
    Case("cloud events with subjects.jsonl", json.dumps(CLOUD_EVENT).encode(), (), (), None, [("acme", "5", NOON)]),
    Case("nested.jsonl.gz", gzip.compress(json.dumps({"at": NOON, "a": {"id": "acme"}, "b": {"c": 5}}).encode()),
         ("--event-name", "calls", "--timestamp-column", "at", "--customer-column", "a.id", "--value-column", "b.c"),
         (), None, [("acme", "5", NOON)]),
]  # fmt: skip


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    line = CommandLine(tmp_path)
    line.run("meter", "configure", "calls", "--customer-key", "customer", "--value-key", "value")
    return line


def recorded(tallybook: CommandLine) -> list[tuple[str, str, str]]:
    events = tallybook.run_json("events", "calls", "--from", "1900-01-01", "--to", "2100-01-01")
    return [(event["payload"]["customer"], event["payload"]["value"], event["occurred_at"]) for event in events]


@pytest.mark.usefixtures("without_processes")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_real_file_is_imported_rightly_or_rejected_with_the_option_that_helps(
    tallybook: CommandLine, case: Case
) -> None:
    """Without its options nothing is recorded, and the error names one of them."""
    path = tallybook.write(case.name, case.content)
    command = ("import", path, "--backfill", *case.columns)
    status = 1 if case.rejected else 0
    if case.error is not None:
        assert case.error in tallybook.run(*command, status=1).stderr
    preview = tallybook.run_json(*command, *case.options, "--dry-run", status=status)["summary"]
    assert recorded(tallybook) == []
    assert [row["timestamp"] for row in preview["first_rows"]] == [at for _, _, at in case.recorded]
    assert [len(preview["first_rejected"]), preview["rejected"]] == [case.rejected] * 2
    for outcome in ("accepted", "duplicate"):
        summary = tallybook.run_json(*command, *case.options, status=status)
        assert (summary[outcome], summary["rejected"]) == (len(case.recorded), case.rejected)
    assert recorded(tallybook) == case.recorded


def test_all_unclear_parts_are_named_at_once(tallybook: CommandLine) -> None:
    """The date and the number."""
    path = tallybook.write("usage.csv", "customer;value;timestamp\nacme;1,5;01.03.2026\n")
    error = tallybook.run("import", path, *COLUMNS, status=1).stderr
    assert "--date-format DD.MM.YYYY" in error
    assert "--decimal ','" in error


def test_one_unclear_row_at_the_end_prevents_the_import(tallybook: CommandLine) -> None:
    """Its marks may mean that all rows before it were read wrongly."""
    rows = "".join(f"acme,{number},{NOON}\n" for number in range(20))
    path = tallybook.write("usage.csv", f'customer,value,timestamp\n{rows}acme,"1,5",{NOON}\n')
    assert "line 22" in tallybook.run("import", path, *COLUMNS, "--backfill", status=1).stderr
    assert recorded(tallybook) == []


@pytest.mark.parametrize(
    ("local", "problem"), [("2026-10-25 02:30", "occurs twice"), ("2026-03-29 02:30", "was skipped")]
)
def test_a_local_time_that_occurs_twice_or_never_is_rejected(tallybook: CommandLine, local: str, problem: str) -> None:
    """When the clock is changed; the other rows are recorded."""
    path = tallybook.write("usage.csv", f"customer,value,timestamp\nacme,1,{local}\nacme,2,2026-03-01 12:00\n")
    summary = tallybook.run_json("import", path, *COLUMNS, "--backfill", *BERLIN, status=1)
    assert problem in summary["first_rejected"][0]["error"]["message"]
    assert recorded(tallybook) == [("acme", "2", "2026-03-01T11:00:00Z")]


@pytest.mark.parametrize("arguments", [
    ("--decimal", ";"), ("--thousands", "."), ("--encoding", "nothing"), ("--delimiter", "::"), ("--header-row", "0"),
    ("--sheet", "a"), ("--date-format", "DD.MM"), ("--timezone", "Nowhere"),
    ("--date-format", "DD.MM.YYYY", "--timestamp-format", "unix-seconds"),
])  # fmt: skip
def test_an_impossible_option_is_rejected(tallybook: CommandLine, arguments: tuple[str, ...]) -> None:
    """With its name."""
    path = tallybook.write("usage.csv", table(NOON))
    _, field = tallybook.run_error("import", path, *COLUMNS, *arguments)
    assert field == arguments[0].removeprefix("--").replace("-", "_")


def test_standard_input_is_read(tallybook: CommandLine) -> None:
    """Its format is found from its contents."""
    arguments = ["import", "-", *COLUMNS, "--backfill", "--json"]
    for content, accepted in ((gzip.compress(table(NOON)), 1), (json.dumps([CLOUD_EVENT]).encode(), 0)):
        result = CliRunner().invoke(app, arguments, env=tallybook.environment, input=content)
        summary = json.loads(result.stdout)
        assert (summary["rows"], summary["accepted"], summary["file"]) == (1, accepted, "-")
