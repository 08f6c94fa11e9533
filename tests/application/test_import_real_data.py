"""A real hour of requests to two services, imported and summed, compared with sums from another program.

The data is the Azure LLM inference trace 2023: see data/README.md.
"""

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from tallybook.application import AcceptancePolicy, Metering
from tallybook.application.usage_import.columns import ColumnMapping
from tallybook.application.usage_import.files import open_usage_file
from tallybook.application.usage_import.importer import ImportSummary, UsageImporter
from tallybook.application.usage_import.row_mapper import RowFormat
from tallybook.application.usage_import.timestamps import TimestampReader

IN_UTC = TimestampReader(timezone=ZoneInfo("UTC"))
DATA = Path(__file__).parent / "data"
YEAR = datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)
ROWS = {"code": 8_819, "conv": 19_366}
CONTEXT = {"code": "18059974", "conv": "22361870"}
GENERATED = {"code": "245896", "conv": "4088665"}
LAST_GENERATED = {"code": "173", "conv": "183"}


@pytest.fixture
def usage(tmp_path: Path) -> Iterator[Metering]:
    with Metering.open(f"sqlite:///{tmp_path / 'usage.db'}", policy=AcceptancePolicy(max_age=None)) as metering:
        metering.meters.configure("context", customer_key="service", value_key="tokens")
        metering.meters.configure("generated", customer_key="service", value_key="tokens")
        yield metering


def import_usage(metering: Metering, folder: Path, service: str, event_name: str, column: str) -> ImportSummary:
    columns = ColumnMapping(event_name=event_name, timestamp="TIMESTAMP", value=column, customer_name=service)
    file = folder / f"azure_llm_2023_{service}.csv"
    file.write_bytes(gzip.decompress((DATA / f"{file.name}.gz").read_bytes()))
    with open_usage_file(file) as usage_file:
        return UsageImporter(metering, usage_file, RowFormat(columns, timestamps=IN_UTC)).run()


def test_both_files_give_the_sums_counts_and_lasts_that_are_known(usage: Metering, tmp_path: Path) -> None:
    """And again: every row of both is a duplicate, and the totals stay."""
    for event_name, column in (("context", "ContextTokens"), ("generated", "GeneratedTokens")):
        accepted = [import_usage(usage, tmp_path, service, event_name, column).accepted for service in ROWS]
        assert accepted == list(ROWS.values())
    for event_name, column in (("context", "ContextTokens"), ("generated", "GeneratedTokens")):
        assert meter_totals(usage) == (ROWS, CONTEXT, GENERATED, LAST_GENERATED)
        assert sum(import_usage(usage, tmp_path, service, event_name, column).duplicate for service in ROWS) == 28_185
    assert meter_totals(usage) == (ROWS, CONTEXT, GENERATED, LAST_GENERATED)


def meter_totals(metering: Metering) -> tuple[dict[str | None, object], ...]:
    context, generated = metering.totals("context", *YEAR), metering.totals("generated", *YEAR)
    return (
        {total.customer: total.count for total in generated},
        {total.customer: str(total.sum) for total in context},
        {total.customer: str(total.sum) for total in generated},
        {total.customer: str(total.last) for total in generated},
    )
