"""The program in the storage page computes the digests of any ledger, with Python's standard library alone."""

import ast
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tallybook.application import Metering

from tests.docs.documents import STORAGE, blocks

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
CUSTOMER = 'acme "é" \u2028 \\ \x7f\n😀'
PRINT = """
import sys
file, read_models, events, tables = sys.argv[1:]
print(json.dumps([
    checkpoint_of(file),
    closed_period_digest(json.loads(events)),
    {name: table_digest(read_models, 1, name, columns, keys) for name, (columns, keys) in json.loads(tables).items()},
]))
"""
TABLES = {
    "customers": (["customer", "name"], 1),
    "high_water_marks": (["position", "recorded_at"], 1),
    "meters": (["meter", "event_name", "rules", "history", "source"], 1),
}


@pytest.fixture(scope="module")
def program() -> str:
    """Return the program, which is the first Python block of the section."""
    program = next(block.text for block in blocks(STORAGE) if block.language == "python")
    imported = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imported}
    assert modules == {"base64", "contextlib", "hashlib", "json", "sqlite3"}
    return program


def test_the_program_of_the_page_computes_all_digests(program: str, tmp_path: Path) -> None:
    """Of a ledger whose texts need escapes, whose times have fractions, and whose number of events is no power of 2."""
    ledger = tmp_path / "usage.db"
    with Metering.open(f"sqlite:///{ledger}", clock=lambda: NOVEMBER + timedelta(days=1)) as metering:
        metering.meters.configure("tökens", customer_key="customer", value_key="tokens", formula="unique_count")
        receipts = metering.record_many(
            {
                "event_name": "tökens",
                "payload": {"customer": CUSTOMER, "tokens": f'{number}"é'},
                "timestamp": OCTOBER + timedelta(microseconds=500_000 * (5 - number % 5)),
            }
            for number in range(200)
        )
        closed = metering.periods.close("tökens", CUSTOMER, OCTOBER, NOVEMBER)
        explained = metering.explain("tökens", CUSTOMER, OCTOBER, NOVEMBER).events
        checkpoint = metering.checkpoints.create(tmp_path / "usage.checkpoints")
        tables = {table.table: table.digest for table in metering.verify().tables}
    assert receipts.accepted == closed.count == len(explained) == 200
    counted_events = [
        (
            event.occurred_at.isoformat().replace("+00:00", "Z"),
            event.position,
            json.dumps(event.unique_value, ensure_ascii=False),
        )
        for event in reversed(explained)
    ]
    arguments = (str(ledger), f"{ledger}.read-models", json.dumps(counted_events), json.dumps(TABLES))
    completed = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program + PRINT, *arguments],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    computed_checkpoint, period_digest, table_digests = json.loads(completed.stdout)
    assert (tmp_path / "usage.checkpoints").read_text().startswith(computed_checkpoint)
    assert computed_checkpoint == f"tallybook\n202\n{checkpoint.root}\n"
    assert period_digest == closed.digest
    assert table_digests == {name: tables[name] for name in TABLES}
