"""Small hostile files: the row or the file is rejected, with little memory and in little time."""

import csv
import gzip
import io
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import Metering
from tallybook.application.usage_import.columns import ColumnMapping
from tallybook.application.usage_import.files import open_usage_file
from tallybook.application.usage_import.formats import FileOptions, Row
from tallybook.application.usage_import.importer import ImportSummary, RejectedRow, UsageImporter
from tallybook.application.usage_import.json_rows import CHUNK_CHARACTERS, MAX_ROW_CHARACTERS, json_rows
from tallybook.application.usage_import.row_mapper import RowFormat
from tallybook.domain.errors import InvalidImportFile, InvalidRequest

from ..sampling import sample

openpyxl: Any = import_module("openpyxl")
pa: Any = import_module("pyarrow")
parquet: Any = import_module("pyarrow.parquet")
MAX_SECONDS = 10
GIGABYTE = 1_000_000_000
HEADER = "identifier,timestamp,event_name,payload_stripe_customer_id,payload_value"
GOOD = '{"timestamp": "2026-01-01", "event_name": "tokens", "payload": {"stripe_customer_id": "a", "value": 1}}'


def json_row(timestamp: str = '"2026-01-01"', value: str = "1", more: str = '"z": 1') -> str:
    """Return a row in JSON from JSON texts."""
    payload = f'{{"stripe_customer_id": "a", "value": {value}}}'
    return f'{{"timestamp": {timestamp}, "event_name": "tokens", "payload": {payload}, {more}}}'


BAD_ROWS = {
    "long timestamp": json_row(timestamp="9" * 5_000),
    "long value": json_row(value="9" * 5_000),
    "very long value": json_row(value="9" * 1_000_000),
    "tiny value": json_row(value="1e-999999999999999999999"),
    "huge value": json_row(value="1e999999999999999999"),
    "huger value": json_row(value="-1e9999999999999999999"),
    "many zeros": json_row(value="1e90"),
    "long exponent": json_row(value="1e" + "9" * 100_000),
    "huge timestamp": json_row(timestamp="1e999999999"),
    "list as value": json_row(value="[1]"),
    "deep value": json_row(value="[" * 900 + "]" * 900),
    "deeper value": json_row(value='{"a":' * 100_000 + "1" + "}" * 100_000),
    "object as timestamp": json_row(timestamp='{"a": 1, "a": 2}'),
    "duplicate key": json_row(more='"event_name": "others"'),
    "escaped duplicate key": json_row(more='"event_\\u006eame": "others"'),
    "duplicate key in the payload": GOOD.replace('"value": 1', '"value": 1, "value": 2'),
    "value inside and outside of the payload": json_row(more='"payload_value": 2'),
    "lone surrogate as identifier": json_row(more='"identifier": "\\ud800"'),
    "lone surrogate in a key": GOOD.replace('"value": 1', '"value": 1, "\\udfff": "\\ud800"'),
    "lone surrogate as meter": GOOD.replace('"tokens"', '"\\ud83d"'),
    "zero byte as identifier": json_row(more='"identifier": "\\u0000"'),
    "number as identifier": json_row(more='"identifier": 1e-99999999999999999999'),
    "long identifier": json_row(more='"identifier": "' + "x" * 100_000 + '"'),
    "many keys": GOOD.replace('"value": 1', ", ".join(f'"k{number}": "1"' for number in range(60_000))),
    "boolean timestamp": json_row(timestamp="true"),
}
GOOD_ROWS = {
    "odd values in other columns": json_row(more='"a": 1e-999999999999999999999, "b": [[]], "c": {"d": 1, "d": 2}'),
    "long text in another column": json_row(more='"a": "' + "x" * 2_000_000 + '"'),
    "a number with an exponent": json_row(value="1.5e1"),
    "number as timestamp": json_row(timestamp="1767225600.0"),
}


@pytest.fixture
def tokens_ledger(metering: Metering) -> Metering:
    metering.meters.configure("tokens")
    return metering


def import_text(
    metering: Metering,
    path: Path,
    content: str | bytes,
    on_rejected: Callable[[RejectedRow, Row], None] | None = None,
    columns: ColumnMapping | None = None,
) -> ImportSummary:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with open_usage_file(path) as file:
        return UsageImporter(metering, file, RowFormat(columns or ColumnMapping())).run(on_rejected=on_rejected)


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@pytest.mark.parametrize("name", BAD_ROWS)
def test_only_the_hostile_row_is_rejected(tokens_ledger: Metering, tmp_path: Path, suffix: str, name: str) -> None:
    """In both formats for the same reason, with a short message. Only what nests too deeply ends a JSON list."""
    rows = [GOOD, BAD_ROWS[name], GOOD]
    content = f"[{', '.join(rows)}]" if suffix == "json" else "\n".join(rows)
    messages: list[str] = []
    if (name, suffix) == ("deeper value", "json"):
        with pytest.raises(InvalidImportFile, match="nested too deeply"):
            import_text(tokens_ledger, tmp_path / "usage.json", content)
        return
    started = time.monotonic()
    summary = import_text(
        tokens_ledger,
        tmp_path / f"usage.{suffix}",
        content,
        lambda rejected, _row: messages.append(rejected.error.message),
    )
    assert time.monotonic() - started < MAX_SECONDS
    assert (summary.accepted, summary.rejected) == (2, 1)
    assert len(messages[0]) < 500


@pytest.mark.parametrize("name", GOOD_ROWS)
def test_only_cells_that_are_needed_matter(tokens_ledger: Metering, tmp_path: Path, name: str) -> None:
    """What another column contains is not a reason to reject a row."""
    summary = import_text(tokens_ledger, tmp_path / "usage.json", f"[{GOOD},{GOOD_ROWS[name]}]")
    assert (summary.accepted, summary.rejected) == (2, 0)


@pytest.mark.usefixtures("without_processes")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"\x1f\x8b\x08\x00" + b"\xff" * 1_000, "can't be decompressed"),
        ("a.csv", b"PK\x03\x04" + b"\xff" * 1_000, "no spreadsheet in the format xlsx"),
        ("a.parquet", b"PAR1" + b"\xff" * 1_000, "no Parquet file"),
        ("a.csv", HEADER.encode("utf-16-le"), "zero byte"),
        ("a.csv", "a,b\n1,\xe8\n".encode("latin-1"), "name its encoding"),
        ("a.csv", ",".join(f"c{number}" for number in range(60_000)), "there is no column 'timestamp'"),
        ("a.csv", ",".join(["c"] * 60_000), "more than one column 'c'"),
        ("a.csv", HEADER + '\n"' + "x\n" * 1_000_000, "not CSV"),
        ("a.json", "[" * 1_000_000, "nested too deeply"),
        ("a.json", '[{"a":' * 200_000, "nested too deeply"),
        ("a.json", "[" + "1" * 1_000_000, "it ends here"),
        ("a.json", "[" + GOOD + " " * 1_000_000, "it ends here"),
        ("a.json", "[" + GOOD + ",", "not JSON after object 1"),
        ("a.json", "[" + GOOD + " " + GOOD + "]", "expected ',' or ']', not '{'"),
        ("a.json", "[1.5.5]", "expected ',' or ']', not '.'"),
        ("a.json", " " * 1_000_000, "not a list of objects"),
        ("a.json", '[{"a": "\\ud83', "not JSON after object 0"),
    ],
)
def test_a_file_that_cant_be_divided_into_rows_is_rejected(
    tokens_ledger: Metering, tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    """In little time, with a short message that says what to do."""
    started = time.monotonic()
    with pytest.raises(InvalidImportFile) as exc_info:
        import_text(tokens_ledger, tmp_path / name, content)
    assert time.monotonic() - started < MAX_SECONDS
    assert message in exc_info.value.message
    assert len(exc_info.value.message) < 1_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (FileOptions(header_row=10**9), "no line 1000000000"),
        *((FileOptions(encoding=name), "is unknown") for name in ("hex", "idna", "rot13", "undefined", "\0")),
    ],
)
def test_options_that_fit_no_file(tmp_path: Path, options: FileOptions, message: str) -> None:
    """A line far after the end is not looked for, and encodings that are not of text are unknown."""
    (tmp_path / "usage.csv").write_text(HEADER)
    started = time.process_time()
    with pytest.raises(InvalidRequest, match=message), open_usage_file(tmp_path / "usage.csv", options):
        pass
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ('{"a" 1}', "Expecting ':' delimiter"),
        ('{"a": 1 "b": 2}', "Expecting ',' delimiter"),
        ("{'a': 1}", "Expecting property name"),
        ('{"a": tru}', "Expecting value"),
        ('{"a": NaN}', "NaN is not a number in JSON"),
        ("1.x", "expected ',' or ']', not '.'"),
        ('{"a": "%s"}' % ("x" * (MAX_ROW_CHARACTERS + CHUNK_CHARACTERS)), "longer than 8,388,608 characters"),
    ],
    ids=["colon", "comma", "quotes", "keyword", "constant", "number", "long"],
)
def test_the_fault_of_a_row_of_a_large_file_is_named(tmp_path: Path, first: str, message: str) -> None:
    """Invalid JSON is not called too long, although much follows."""
    path = tmp_path / "usage.json"
    path.write_text(f"[{first}{f',{GOOD}' * 100_000}]")
    with open_usage_file(path) as file, pytest.raises(InvalidImportFile) as exc_info:
        sum(1 for _ in file.rows())
    assert message in exc_info.value.message


@pytest.mark.parametrize("space", ["", " ", "\t", "\n", "\r\n"])
def test_a_list_of_numbers_is_read_in_proportion_to_its_length(tmp_path: Path, space: str) -> None:
    """Whatever space is after them: a copy of the rest for each number would take ten times as long."""
    path = tmp_path / "usage.json"
    path.write_text(f"[{f'1{space},' * 300_000}1]", newline="")
    started = time.monotonic()
    with path.open("rb") as file:
        assert sum(1 for _ in json_rows(file)) == 300_001
    assert time.monotonic() - started < MAX_SECONDS


@pytest.mark.parametrize("value", ["-12.5e+10", "false", "null", r'"a\ud83d\ude00\n"', r'{"k\u00e9": [-1.5E-3, true]}'])
def test_the_buffer_may_end_at_any_character_of_a_value(value: str) -> None:
    """An incomplete value is not an error."""
    for length in range(1, len(value) + 2):
        padding = " " * (CHUNK_CHARACTERS - 1 - length)
        rows = list(json_rows(io.BytesIO(f"[{padding}{value},{GOOD}]".encode())))
        assert len(rows) == 2
        assert rows[1].error is None


def test_any_value_may_end_where_the_buffer_ends(tmp_path: Path) -> None:
    """A JSON list is read in chunks; a number that a chunk divides is one number."""
    values = ("12.5e1", "true", '"a"', GOOD)
    for spaces in range(CHUNK_CHARACTERS - len(GOOD) - 2, CHUNK_CHARACTERS + 2):
        for value in values if spaces > CHUNK_CHARACTERS - 20 else (GOOD,):
            path = tmp_path / "usage.json"
            path.write_text("[" + " " * spaces + value + "]")
            with open_usage_file(path) as file:
                assert [row.error is None for row in file.rows()] == [value == GOOD]


def test_a_cell_of_any_length_is_read_and_the_limit_of_the_program_stays(
    tokens_ledger: Metering, tmp_path: Path
) -> None:
    """The limit of Python's CSV parser is global. It is lifted only while files are open, also on several threads."""
    content = f"{HEADER},prompt\na,2026-01-01,tokens,acme,5,{'z' * 3_000_000}\nb,2026-01-01,tokens,acme,6,hello\n"
    before = csv.field_size_limit(1_000)
    try:
        summaries: list[ImportSummary] = []

        def import_file(number: int) -> None:
            summaries.append(import_text(tokens_ledger, tmp_path / f"{number}.csv", content))

        threads = [threading.Thread(target=import_file, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(summary.accepted + summary.duplicate for summary in summaries) == [2] * 4
        assert csv.field_size_limit() == 1_000
    finally:
        csv.field_size_limit(before)


def test_a_limit_that_the_program_sets_meanwhile_stays(tokens_ledger: Metering, tmp_path: Path) -> None:
    """The import doesn't restore the limit from before."""
    path = tmp_path / "a.csv"
    path.write_text(f"{HEADER}\n")
    before = csv.field_size_limit()
    try:
        with open_usage_file(path):
            csv.field_size_limit(2_000)
        assert csv.field_size_limit() == 2_000
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
def test_progress_is_reported_while_no_rows_come(tmp_path: Path, suffix: str) -> None:
    """So that an import of a small compressed file with many blank lines can be stopped."""
    path = tmp_path / f"blank.{suffix}.gz"
    header = f"{HEADER}\n" if suffix == "csv" else ""
    path.write_bytes(gzip.compress(header.encode() + b"\n" * 2_500_000))
    reads: list[int] = []
    with open_usage_file(path, FileOptions()) as file, suppress(InvalidImportFile):
        assert not list(file.rows(lambda read, _: reads.append(read)))
    assert len(reads) >= 3


def test_a_parquet_file_with_a_cell_of_any_length_is_rejected(tmp_path: Path) -> None:
    """Although the library can read it."""
    path = tmp_path / "wide.parquet"
    parquet.write_table(pa.table({"identifier": ["x" * 40_000_000]}), path)
    with (
        pytest.raises(InvalidImportFile, match="a row of over 33,554,432 bytes"),
        open_usage_file(path, FileOptions()) as file,
    ):
        assert not list(file.rows())


@pytest.mark.slow
def test_the_command_needs_less_than_a_gigabyte(tmp_path: Path) -> None:
    """For files of up to ten megabytes. The exit status is 1, and there is no traceback."""
    program = Path(sys.executable).with_name("tallybook")
    ledger = ("--ledger", f"sqlite:///{tmp_path}/usage.db")
    subprocess.run([program, "meter", "configure", "tokens", *ledger], check=True, capture_output=True)
    wide = ",".join(f"payload_{number}" for number in range(60_000))
    files = {
        "nested.jsonl": f'{{"a": [{"{}," * 3_000_000}1]}}\n',
        "numbers.json": f'[{{"a": [{",".join(map(str, range(1_400_000)))}]}}]',
        "wide.csv": f"timestamp,event_name,{wide}\n" + ("x,tokens" + ",1" * 60_000 + "\n") * 80,
        "rows.jsonl": "[]\n" * 100_000,
    }
    for name, content in sample(sorted(files.items()), 2):
        (tmp_path / name).write_text(content)
        started = time.monotonic()
        result = subprocess.run(
            [program, "import", tmp_path / name, *ledger],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (GIGABYTE, GIGABYTE)),
        )
        assert (result.returncode, "Traceback" in result.stderr) == (1, False), (name, result.stderr[-500:])
        assert time.monotonic() - started < 2 * MAX_SECONDS
