"""Usage files: the formats, and the errors of invalid files."""

import os
from decimal import Decimal
from pathlib import Path

import pytest
from tallybook.application.usage_import.files import CHUNK_BYTES, open_usage_file
from tallybook.application.usage_import.formats import MAX_ROW_BYTES, FileFormat, FileOptions
from tallybook.application.usage_import.json_rows import MAX_ROW_CHARACTERS
from tallybook.domain.errors import InvalidImportFile, InvalidParameter


def read_rows(path: Path, content: str | bytes, file_format: FileFormat | None = None) -> list[tuple[int, object]]:
    """Return the line of each row, with its cells or its error message."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with open_usage_file(path, FileOptions(file_format)) as file:
        return [(row.line, row.error.message if row.error else dict(row.cells)) for row in file.rows()]


def file_error(path: Path, content: str | bytes) -> str:
    """Return the message that the whole file is rejected with."""
    with pytest.raises(InvalidImportFile) as exc_info:
        read_rows(path, content)
    assert exc_info.value.field == "file"
    assert str(path) in exc_info.value.message
    return exc_info.value.message.removeprefix(str(path)).strip(":, ")


def test_a_csv_is_read_by_its_header(tmp_path: Path) -> None:
    """Rows have the number of their first line, also after cells with line breaks and after blank lines."""
    content = 'a,b\n1,2\n"x\ny, ""z""",3\n\n4,5\n'
    assert read_rows(tmp_path / "f.csv", content) == [
        (2, {"a": "1", "b": "2"}),
        (3, {"a": 'x\ny, "z"', "b": "3"}),
        (6, {"a": "4", "b": "5"}),
    ]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_any_line_end_and_a_byte_order_mark_are_accepted(tmp_path: Path, line_end: str) -> None:
    """As spreadsheets write them; the last line may have no line end."""
    content = f"\ufeffa,b{line_end}1,é"
    assert read_rows(tmp_path / "f.csv", content) == [(2, {"a": "1", "b": "é"})]
    content = f'\ufeff{{"a": 1}}{line_end}{{"a": 2}}'
    assert read_rows(tmp_path / "f.jsonl", content) == [(1, {"a": Decimal(1)}), (2, {"a": Decimal(2)})]
    content = f'\ufeff[{{"a": 1}},{line_end}{{"a": 2}}]'
    assert read_rows(tmp_path / "f.json", content) == [(1, {"a": 1}), (2, {"a": 2})]


def test_only_the_row_of_another_width_is_rejected(tmp_path: Path) -> None:
    """The other rows are read."""
    assert read_rows(tmp_path / "f.csv", "a,b\n1\n1,2\n1,2,3\n") == [
        (2, "The row has 1 cells, the header has 2."),
        (3, {"a": "1", "b": "2"}),
        (4, "The row has 3 cells, the header has 2."),
    ]


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_objects_are_read_with_their_numbers_exact(tmp_path: Path, suffix: str) -> None:
    """A payload object is equivalent to columns named payload_KEY."""
    objects = [
        '{"event_name": "a", "payload": {"value": 0.10, "big": 12345678901234567890123, "b": true, "n": null}}',
        '{"event_name": "a", "payload_value": "1"}',
    ]
    content = "[" + ",\n".join(objects) + "]" if suffix == "json" else "\n\n".join(objects)
    (_, first), (_, second) = read_rows(tmp_path / f"f.{suffix}", content)
    payload = {"payload_value": Decimal("0.10"), "payload_big": 12345678901234567890123, "payload_b": True}
    assert first == {"event_name": "a", **payload, "payload_n": None}
    assert "Decimal('0.10')" in repr(first)
    assert second == {"event_name": "a", "payload_value": "1"}


def test_only_the_line_that_is_not_an_object_is_rejected(tmp_path: Path) -> None:
    """It is identified by its number in a JSON list, and by its line in JSONL."""
    assert [line for line, _ in read_rows(tmp_path / "f.json", '[1, "x", null, [], {"payload": 5}]')] == [1, 2, 3, 4, 5]
    lines = read_rows(
        tmp_path / "f.jsonl", '{"a": "1"}\n\n{"a": \nNaN\n{"a": NaN}\n' + "[" * 100_000 + '\n{"a": "2"}\n'
    )
    assert [line for line, _ in lines] == [1, 3, 4, 5, 6, 7]
    assert [cells for _, cells in lines if isinstance(cells, dict)] == [{"a": "1"}, {"a": "2"}]


def test_the_format_may_be_specified(tmp_path: Path) -> None:
    """It overrides the suffix."""
    assert read_rows(tmp_path / "export.txt", "a\n1\n", FileFormat.CSV) == [(2, {"a": "1"})]
    assert read_rows(tmp_path / "f.json", '{"a": "1"}', FileFormat.JSONL) == [(1, {"a": "1"})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.csv", "", "it is empty."),
        ("f.csv", b"\x1f\x8b\x08\x00", "it can't be decompressed: "),
        ("f.csv", b"a,b\n1,\xff\n", "line 2: it is not text in UTF-8."),
        ("f.csv", b"a,b\n1,\xc3", "line 2: it is not text in UTF-8."),
        ("f.csv", b"a,b\n\n1,\x00\n", "line 3: it is not text: it contains a zero byte."),
        ("f.csv", 'a,b\n1,2\n3,"4\n5,6\n', "line 3: it is not CSV: unexpected end of data."),
        ("f.csv", 'a,b\n1,"2" x\n', "line 2: it is not CSV: "),
        ("f.csv", "a,b,a\n", "line 1: it has more than one column 'a'."),
        ("f.csv", "sep=ab\na,b\n", "line 1: its first line names the delimiter 'ab', which must be one character."),
        ("f.csv", 'sep="\na,b\n', "line 1: its first line names the delimiter '\"', which must be one character."),
        ("f.jsonl", '[{"a": 1}]', "line 1: it contains a list, not an object on each line (JSON, perhaps)."),
        ("f.json", "", "line 1: it is not a list of objects."),
        ("f.json", '{"a": 1}', "line 1: it is not a list of objects (JSONL, perhaps)."),
        ("f.json", '[{"a": 1}, {"a": 2', "it is not JSON after object 1 of the list: "),
        ("f.json", '[{"a": 1}]]', "it is not JSON after object 1 of the list: "),
        ("f.json", '[{"a": NaN}]', "it is not JSON after object 0 of the list: "),
        (
            "f.txt",
            "a,b\n",
            "its suffix is not that of a known format; give one of csv, tsv, json, jsonl, xlsx, parquet as 'format'.",
        ),
    ],
)
def test_a_malformed_file_is_rejected_as_a_whole(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    """Before any row is read; the message names the line if it is known."""
    assert file_error(tmp_path / name, content).startswith(message)


def test_an_overlong_row_is_rejected(tmp_path: Path) -> None:
    """A line of over 32 MiB is not read into memory, nor is an object of over 8 MiB in JSON."""
    long_line = "a\n" + "x" * (MAX_ROW_BYTES + CHUNK_BYTES)
    assert "a line of over 33,554,432 bytes" in file_error(tmp_path / "f.csv", long_line)
    long_text = "x" * 2 * MAX_ROW_CHARACTERS
    assert "it is longer than 8,388,608 characters" in file_error(tmp_path / "f.json", f'[{{"a": "{long_text}"}}]')
    lines = read_rows(tmp_path / "f.jsonl", f'{{"a": "{long_text[5_000_000:]}"}}\n{{"a": "1"}}')
    assert lines == [(1, "The line can't be read: it is longer than 8,388,608 characters."), (2, {"a": "1"})]


def test_a_missing_path_or_a_folder_is_rejected(tmp_path: Path) -> None:
    """A folder or a pipe can't be read twice."""
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "nothing.csv", tmp_path, tmp_path / "pipe.csv"):
        with pytest.raises(InvalidImportFile), open_usage_file(path):
            pass


def test_a_file_that_changes_while_it_is_read_is_rejected(tmp_path: Path) -> None:
    """The generated identifiers depend on the whole content of the file."""
    path = tmp_path / "f.csv"
    path.write_text("a\n" + "1\n" * 10)
    with open_usage_file(path) as file:
        rows = file.rows()
        next(rows)
        with path.open("a") as growing:
            growing.write("2\n")
        with pytest.raises(InvalidImportFile, match="changed while it was imported"):
            list(rows)


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    """It is the same for a copy under another name, and differs if a byte differs."""
    digests: set[bytes] = set()
    for name, content in (("a.csv", "a\n1\n"), ("b.csv", "a\n1\n"), ("c.csv", "a\n1"), ("d.csv", "a\r\n1\n")):
        (tmp_path / name).write_text(content, newline="")
        with open_usage_file(tmp_path / name) as file:
            digests.add(file.digest)
    assert len(digests) == 3


@pytest.mark.parametrize("name", ["a\0b.csv", "\ud800.csv", "x" * 300 + ".csv"])
def test_a_path_that_no_file_can_have_is_reported(tmp_path: Path, name: str) -> None:
    """With the path, like a missing file."""
    with pytest.raises(InvalidImportFile) as exc_info, open_usage_file(tmp_path / name):
        pass
    assert (exc_info.value.field, exc_info.value.value) == ("file", str(tmp_path / name))


@pytest.mark.usefixtures("without_processes")
@pytest.mark.parametrize("name", ["f.xlsx", "f.parquet"])
def test_a_format_whose_library_is_missing_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The other formats need none."""

    def fail(library: str) -> None:
        raise ImportError(f"No module named '{library}'")

    monkeypatch.setattr("tallybook.application.usage_import.table_rows.import_module", fail)
    with pytest.raises(InvalidParameter, match=r"pip install 'tallybook\[files\]'"):
        read_rows(tmp_path / name, b"")
    assert read_rows(tmp_path / "f.csv", "a\n1\n") == [(2, {"a": "1"})]
