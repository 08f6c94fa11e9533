"""Importing: every row is recorded once, however often and under whatever name the file comes."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tallybook.application import Metering
from tallybook.application.importing import BATCH_ROWS, ImportSummary, Refusal, UsageImport
from tallybook.application.usage_columns import Columns
from tallybook.application.usage_files import open_usage_file
from tallybook.domain.errors import InvalidImportFile, NoMeter

HEADER = "timestamp,event_name,payload_stripe_customer_id,payload_value"
ROW = "2026-01-01,tokens,acme,5"


@pytest.fixture
def tokens(metering: Metering) -> Metering:
    metering.configure_meter("tokens")
    metering.configure_meter("others")
    return metering


def imported(
    metering: Metering, path: Path, content: str | None = None, columns: Columns | None = None
) -> ImportSummary:
    if content is not None:
        path.write_text(content)
    with open_usage_file(path) as file:
        return UsageImport(metering, file, columns or Columns()).run()


def figures(summary: ImportSummary) -> tuple[int, int, int, int]:
    return summary.accepted, summary.duplicate, summary.conflict, summary.rejected


def events(metering: Metering, event_name: str = "tokens") -> list[str]:
    return [event.identifier for event in metering.events(event_name, limit=10_000)]


def test_a_file_is_recorded_once_under_any_name(tokens: Metering, tmp_path: Path) -> None:
    """Equal rows are uses of their own; the same bytes again are duplicates, a renamed copy's too."""
    content = "\n".join([HEADER, ROW, ROW, ROW])
    assert figures(imported(tokens, tmp_path / "a.csv", content)) == (3, 0, 0, 0)
    assert figures(imported(tokens, tmp_path / "a.csv")) == (0, 3, 0, 0)
    assert figures(imported(tokens, tmp_path / "copy.csv", content)) == (0, 3, 0, 0)
    assert len(events(tokens)) == 3


def test_two_files_never_meet(tokens: Metering, tmp_path: Path) -> None:
    """The same rows in a file that differs by one byte are other uses."""
    assert figures(imported(tokens, tmp_path / "a.csv", f"{HEADER}\n{ROW}")) == (1, 0, 0, 0)
    assert figures(imported(tokens, tmp_path / "b.csv", f"{HEADER}\n{ROW}\n")) == (1, 0, 0, 0)


def test_one_file_goes_into_several_meters(tokens: Metering, tmp_path: Path) -> None:
    """Its rows have other identifiers there."""
    for event_name in ("tokens", "others"):
        columns = Columns(event_name=event_name)
        assert figures(imported(tokens, tmp_path / "a.csv", f"{HEADER}\n{ROW}", columns)) == (1, 0, 0, 0)
    assert events(tokens) != events(tokens, "others")


def test_given_identifiers_are_kept_and_the_others_follow_the_rows(tokens: Metering, tmp_path: Path) -> None:
    """The text order of generated identifiers is that of the rows."""
    rows = [f"{identifier},{ROW}" for identifier in ("", "mine", "", *[""] * 20)]
    summary = imported(tokens, tmp_path / "a.csv", "\n".join([f"identifier,{HEADER}", *rows]))
    assert (summary.accepted, summary.generated) == (23, 22)
    identifiers = events(tokens)
    assert identifiers[1] == "mine"
    generated = [one for one in identifiers if one != "mine"]
    assert generated == sorted(generated)
    assert [one[-9:] for one in generated[:3]] == ["000000001", "000000003", "000000004"]
    assert len({one[:24] for one in generated}) == 1


def test_a_bad_row_is_refused_and_the_others_are_recorded(tokens: Metering, tmp_path: Path) -> None:
    """Each with its line, its outcome and its code, in the order of the file."""
    rows = [
        "a,2026-01-01,tokens,acme,5",
        "b,noon,tokens,acme,5",
        "c,2026-01-01,nothing,acme,5",
        'd,2026-01-01,tokens,acme,"1,000"',
        "e,2026-01-01,tokens",
        "f,2025-01-01,tokens,acme,5",
        "g,2026-01-01,tokens,,5",
        "a,2026-01-01,tokens,acme,6",
        "h,2026-01-01,,acme,6",
        "a,2026-01-01,tokens,acme,5",
        f"{'x' * 101},2026-01-01,tokens,acme,5",
    ]
    path = tmp_path / "a.csv"
    path.write_text("\n".join([f"identifier,{HEADER}", *rows]))
    refusals: list[Refusal] = []
    with open_usage_file(path) as file:
        usage = UsageImport(tokens, file, Columns(), first_refusals=2)
        summary = usage.run(on_refusal=refusals.append)
    assert figures(summary) == (1, 1, 1, 8)
    assert [(one.line, (one.identifier or "")[:1], one.outcome, one.error.code) for one in refusals] == [
        (3, "b", "rejected", "invalid_timestamp"),
        (4, "c", "rejected", "no_meter"),
        (5, "d", "rejected", "payload_invalid_value"),
        (6, "", "rejected", "invalid_import_file"),
        (7, "f", "rejected", "timestamp_too_far_in_past"),
        (8, "g", "rejected", "payload_no_customer_defined"),
        (9, "a", "conflict", "duplicate_meter_event"),
        (10, "h", "rejected", "no_meter"),
        (12, "x", "rejected", "invalid_identifier"),
    ]
    assert summary.refusals == refusals[:2]


def test_what_was_refused_can_be_accepted_later(tokens: Metering, tmp_path: Path) -> None:
    """The rows that are there already are duplicates then."""
    content = f"{HEADER}\n{ROW}\n2026-01-01,later,acme,5\n"
    assert figures(imported(tokens, tmp_path / "a.csv", content)) == (1, 0, 0, 1)
    tokens.configure_meter("later")
    assert figures(imported(tokens, tmp_path / "a.csv")) == (1, 1, 0, 0)


def test_rows_are_counted_over_many_batches(tokens: Metering, tmp_path: Path) -> None:
    """Lines and numbers go on from batch to batch, and progress is told in bytes."""
    count = 2 * BATCH_ROWS + 1
    path = tmp_path / "a.csv"
    path.write_text("\n".join([HEADER, *[ROW] * count, "noon,tokens,acme,5"]))
    told: list[tuple[int, int]] = []

    def tell(read: int, size: int) -> None:
        told.append((read, size))

    with open_usage_file(path) as file:
        summary = UsageImport(tokens, file, Columns()).run(advance=tell)
    assert figures(summary) == (count, 0, 0, 1)
    assert [one.line for one in summary.refusals] == [count + 2]
    assert events(tokens)[-1].endswith(f"-{count:09d}")
    assert told[-1] == (path.stat().st_size,) * 2


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_interrupted_and_started_again_it_ends_the_same(tokens: Metering, tmp_path: Path, batches: int) -> None:
    """What was recorded before is found to be there, and the rest follows."""
    path = tmp_path / "a.csv"
    path.write_text("\n".join([HEADER, *[ROW] * 2_500]))

    def stop(_read: int, _size: int) -> None:
        if len(events(tokens)) == batches * BATCH_ROWS:
            raise KeyboardInterrupt

    with open_usage_file(path) as file:
        usage = UsageImport(tokens, file, Columns())
        with pytest.raises(KeyboardInterrupt):
            usage.run(advance=stop)
    assert usage.summary.accepted == batches * BATCH_ROWS
    assert figures(imported(tokens, path)) == (2_500 - batches * BATCH_ROWS, batches * BATCH_ROWS, 0, 0)
    assert len(events(tokens)) == 2_500


def test_a_missing_column_refuses_the_file_with_nothing_recorded(tokens: Metering, tmp_path: Path) -> None:
    """The refusal names the column and those that there are."""
    with pytest.raises(
        InvalidImportFile, match="there is no column 'when'; there are timestamp, event_name"
    ) as refused:
        imported(tokens, tmp_path / "a.csv", f"{HEADER}\n{ROW}", Columns(timestamp="when"))
    assert refused.value.field == "when"
    assert events(tokens) == []


def test_a_meter_of_all_rows_must_be_there(tokens: Metering, tmp_path: Path) -> None:
    """It is refused once, not row by row."""
    with pytest.raises(NoMeter):
        imported(tokens, tmp_path / "a.csv", f"{HEADER}\n{ROW}", Columns(event_name="nothing"))


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
def test_all_formats_give_the_same_totals(tokens: Metering, tmp_path: Path, suffix: str) -> None:
    """Numbers of JSON are exact: three times 0.1 is 0.3."""
    one = '{"timestamp": 1767225600, "event_name": "tokens", "payload": {"stripe_customer_id": "acme", "value": 0.1}}'
    contents = {
        "csv": "\n".join([HEADER, *["1767225600,tokens,acme,0.1"] * 3]),
        "json": f"[{one}, {one}, {one}]",
        "jsonl": f"{one}\n{one}\n{one}\n",
    }
    assert figures(imported(tokens, tmp_path / f"a.{suffix}", contents[suffix])) == (3, 0, 0, 0)
    (total,) = tokens.totals("tokens", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    assert str(total.value) == "0.3"
