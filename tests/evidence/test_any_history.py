"""In any history, the program counts the totals of a pack as the ledger does."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from tallybook.application import CustomerWithoutUsage, Metering

from ..properties import histories, period_histories
from ..properties.period_histories import NAMES, TIME_RANGE, open_reference
from ..sampling import examples


def check_packs(metering: Metering, program: Any, folder: Path, customers: tuple[str, ...]) -> None:
    """Write a pack of each customer, and check it."""
    checkpoints = folder / "usage.checkpoints"
    checkpoints.unlink(missing_ok=True)
    metering.checkpoints.create(checkpoints)
    for customer in customers:
        try:
            metering.evidence.write(folder / "pack.zip", customer, *TIME_RANGE, checkpoints=checkpoints, overwrite=True)
        except CustomerWithoutUsage:
            continue
        result = "\n".join(program.check(program.Pack(folder / "pack.zip"), "", checkpoints.read_text()))
        assert "follow from the events" in result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for packs."""
    return tmp_path_factory.mktemp("packs")


@settings(max_examples=examples(25))
@given(period_histories.RULES, period_histories.histories(max_size=20))
def test_packs_of_closed_periods_hold(
    folder: Path, program: Any, rules: period_histories.Rules, history: list[period_histories.Step]
) -> None:
    """With changed rules, windows, cancellations, reopened periods and adjustments."""
    with open_reference(rules) as reference:
        period_histories.run_steps(reference, history)
        check_packs(reference.metering, program, folder, NAMES)


@settings(max_examples=examples(25))
@given(histories.steps())
def test_packs_of_any_meters_hold(folder: Path, program: Any, history: list[histories.Step]) -> None:
    """With several meters of any formula, numbers of any length, and revoked cancellations."""
    with histories.open_ledger(histories.meters_of(history)) as (metering, clock):
        histories.run_steps(metering, clock, history)
        check_packs(metering, program, folder, histories.CUSTOMERS)
