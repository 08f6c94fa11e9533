"""A real hour of requests to two services, imported and summed; its truth was summed elsewhere.

The data lies beside the project and is not part of it: the Azure LLM inference trace 2023.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tallybook.application import AcceptancePolicy, Metering
from tallybook.application.importing import ImportSummary, UsageImport
from tallybook.application.usage_columns import Columns
from tallybook.application.usage_files import open_usage_file

DATA = Path(__file__).parents[2].parent / "shared" / "data"
YEAR = datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)
ROWS = {"code": 8_819, "conv": 19_366}
CONTEXT = {"code": "18059974", "conv": "22361870"}
GENERATED = {"code": "245896", "conv": "4088665"}
LAST_GENERATED = {"code": "173", "conv": "183"}

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the real data is not beside the project")


@pytest.fixture
def usage(tmp_path: Path) -> Iterator[Metering]:
    with Metering.open(f"sqlite:///{tmp_path / 'usage.db'}", policy=AcceptancePolicy(max_age=None)) as metering:
        metering.configure_meter("context", customer_key="service", value_key="tokens")
        metering.configure_meter("generated", customer_key="service", value_key="tokens")
        yield metering


def imported(metering: Metering, service: str, event_name: str, column: str) -> ImportSummary:
    columns = Columns(event_name=event_name, timestamp="TIMESTAMP", value=column, customer_name=service)
    with open_usage_file(DATA / f"azure_llm_2023_{service}.csv") as file:
        return UsageImport(metering, file, columns).run()


def test_both_files_give_the_sums_counts_and_lasts_that_are_known(usage: Metering) -> None:
    """And again: every row of both is a duplicate, and the totals stay."""
    for event_name, column in (("context", "ContextTokens"), ("generated", "GeneratedTokens")):
        accepted = [imported(usage, service, event_name, column).accepted for service in ROWS]
        assert accepted == list(ROWS.values())
    for event_name, column in (("context", "ContextTokens"), ("generated", "GeneratedTokens")):
        assert figures(usage) == (ROWS, CONTEXT, GENERATED, LAST_GENERATED)
        assert sum(imported(usage, service, event_name, column).duplicate for service in ROWS) == 28_185
    assert figures(usage) == (ROWS, CONTEXT, GENERATED, LAST_GENERATED)


def figures(metering: Metering) -> tuple[dict[str | None, object], ...]:
    context, generated = metering.totals("context", *YEAR), metering.totals("generated", *YEAR)
    return (
        {total.customer: total.count for total in generated},
        {total.customer: str(total.sum) for total in context},
        {total.customer: str(total.sum) for total in generated},
        {total.customer: str(total.last) for total in generated},
    )
