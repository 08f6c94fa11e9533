"""Rows without identifiers: a file that is imported again adds what is new, and nothing else."""

import json
import random
import tracemalloc
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tallybook.application import Metering
from tallybook.application.usage_import.columns import ColumnMapping
from tallybook.application.usage_import.files import open_usage_file
from tallybook.application.usage_import.importer import ImportSummary, UsageImporter
from tallybook.application.usage_import.row_mapper import RowFormat
from tallybook.application.usage_import.row_names import DigestSet
from tallybook.application.usage_import.timestamps import TimestampReader
from tallybook.application.usage_import.values import NumberFormat

HEADER = "timestamp,event_name,payload_stripe_customer_id,payload_value,note"
ROW = "2026-01-01,tokens,acme,5,a"
IDENTIFIERS = [
    "row-2026-01-01-731892f7c40d93bd962118d92b6353-1",
    "row-2026-01-01-83313c114e272b5bdd0310f56e5ab2-1",
    "row-2026-01-01-a13f1819bb08bc2acbf76e573c7976-1",
    "row-2026-01-01-a13f1819bb08bc2acbf76e573c7976-2",
]
OTHER = "2026-01-01,tokens,acme,7,a"


@pytest.fixture
def ledger(metering: Metering) -> Metering:
    metering.meters.configure("tokens")
    return metering


def import_rows(
    ledger: Metering,
    folder: Path,
    rows: list[str],
    *,
    header: str = HEADER,
    source: str = "",
    customer: str | None = None,
) -> ImportSummary:
    path = folder / "usage.csv"
    path.write_text("\n".join([header, *rows]))
    with open_usage_file(path) as file:
        return UsageImporter(ledger, file, RowFormat(ColumnMapping(customer_name=customer)), source=source).run()


def added(ledger: Metering, folder: Path, rows: list[str], **options: Any) -> tuple[int, int]:
    summary = import_rows(ledger, folder, rows, **options)
    return summary.accepted, summary.duplicate


def test_identifiers_stay_in_later_releases(ledger: Metering, tmp_path: Path) -> None:
    """A changed digest would count every file twice that is imported again after an upgrade."""
    import_rows(ledger, tmp_path, [ROW, ROW])
    import_rows(ledger, tmp_path, [ROW], source="b", customer="beta")
    nested = {"timestamp": "2026-01-01", "event_name": "tokens", "payload_value": 5, "a": {"b": [1, None]}}
    (tmp_path / "usage.jsonl").write_text(json.dumps(nested))
    with open_usage_file(tmp_path / "usage.jsonl") as file:
        UsageImporter(ledger, file, RowFormat(ColumnMapping(customer_name="acme"))).run()
    assert sorted(event.identifier for event in ledger.events("tokens")) == IDENTIFIERS


def test_a_grown_or_reordered_file_adds_what_is_new(ledger: Metering, tmp_path: Path) -> None:
    """Equal rows are as many events; one more equal row adds one."""
    assert added(ledger, tmp_path, [ROW, ROW]) == (2, 0)
    assert added(ledger, tmp_path, [OTHER, ROW, ROW]) == (1, 2)
    assert added(ledger, tmp_path, [ROW, OTHER, ROW, ROW]) == (1, 3)
    assert added(ledger, tmp_path, [ROW]) == (0, 1)


def test_any_sequence_of_files_adds_the_rows_that_no_earlier_one_had(ledger: Metering, tmp_path: Path) -> None:
    """Compared with a count of each row: the ledger holds the most that any file had of it."""
    choice = random.Random(7)
    held = dict.fromkeys([ROW, OTHER, ROW.replace("acme", "beta")], 0)
    for _ in range(20):
        rows = [row for row in held for _ in range(choice.randrange(4))]
        choice.shuffle(rows)
        new = sum(max(0, rows.count(row) - count) for row, count in held.items())
        if rows:
            assert added(ledger, tmp_path, rows) == (new, len(rows) - new)
        held = {row: max(count, rows.count(row)) for row, count in held.items()}


def test_columns_that_are_not_recorded_distinguish_rows(ledger: Metering, tmp_path: Path) -> None:
    """Such as the id of a request. The order of the columns doesn't matter."""
    assert added(ledger, tmp_path, [ROW]) == (1, 0)
    assert added(ledger, tmp_path, [ROW.replace(",a", ",b")]) == (1, 0)
    columns = "note,payload_value,event_name,timestamp,payload_stripe_customer_id"
    assert added(ledger, tmp_path, ["a,5,tokens,2026-01-01,acme"], header=columns) == (0, 1)


def test_sources_and_fixed_customers_distinguish_files(ledger: Metering, tmp_path: Path) -> None:
    """Equal rows of another source are other usage; without a source they are duplicates, which the summary counts."""
    assert added(ledger, tmp_path, [ROW]) == (1, 0)
    assert added(ledger, tmp_path, [ROW], source="b") == (1, 0)
    assert added(ledger, tmp_path, [ROW], source="b") == (0, 1)
    assert added(ledger, tmp_path, [ROW], customer="beta") == (1, 0)
    assert import_rows(ledger, tmp_path, [ROW]).generated_duplicates == 1


def test_a_row_that_is_read_in_another_way_never_counts_twice(ledger: Metering, tmp_path: Path) -> None:
    """With another timezone, decimal mark or column, it is a conflict with the row that was recorded."""
    path = tmp_path / "usage.csv"
    path.write_text("timestamp;event_name;payload_stripe_customer_id;payload_value\n2026-01-01;tokens;acme;1.234\n")
    berlin = TimestampReader(timezone=ZoneInfo("Europe/Berlin"))
    ways = [
        RowFormat(numbers=NumberFormat(decimal=".")),
        RowFormat(numbers=NumberFormat(decimal=",", thousands=".")),
        RowFormat(numbers=NumberFormat(decimal="."), timestamps=berlin),
        RowFormat(ColumnMapping(payload={"payload_value": "size"}), NumberFormat(decimal=".")),
    ]
    outcomes: list[tuple[int, int]] = []
    for row_format in ways:
        with open_usage_file(path) as file:
            summary = UsageImporter(ledger, file, row_format).run()
            outcomes.append((summary.accepted, summary.conflict))
    assert outcomes == [(1, 0), (0, 1), (0, 1), (0, 1)]


def test_rows_that_were_cancelled_since_are_reported(ledger: Metering, tmp_path: Path) -> None:
    """After an undone import, the rows of the corrected file that are as before don't count; another source helps."""
    undone = import_rows(ledger, tmp_path, [ROW, OTHER])
    assert undone.run_id is not None
    ledger.imports.undo(undone.run_id, reason="wrong")
    corrected = import_rows(ledger, tmp_path, [ROW, OTHER.replace("7", "8")])
    assert (corrected.accepted, corrected.generated_duplicates, corrected.cancelled_duplicates) == (1, 1, 1)
    assert added(ledger, tmp_path, [ROW], source="corrected") == (1, 0)


def test_a_digest_is_found_only_where_it_was_added() -> None:
    """Not where the end of one and the start of another are the same bytes, of which there are many here."""
    digests, seen, generator = DigestSet(), set[bytes](), random.Random(1)
    for _ in range(5_000):
        digest = bytes(generator.choices((0, 1), k=15))
        assert digests.add(digest) == (digest not in seen)
        seen.add(digest)


def test_many_digests_take_little_memory() -> None:
    """A set of bytes takes 81 bytes for each."""
    generator = random.Random(1)
    stored = [b"\0" + generator.randbytes(14) for _ in range(10_000)]
    tracemalloc.start()
    try:
        digests = DigestSet()
        assert all(map(digests.add, stored))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / len(stored) < 25
