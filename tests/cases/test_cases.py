"""The peers' cases: figures that other metering systems assert, answered through the public face."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from .case_types import check
from .vendor_cases import load_cases

SKIPPED: dict[str, list[str]] = tomllib.loads(Path(__file__).with_name("skipped.toml").read_text())
CASES: dict[str, dict[str, Any]] = load_cases()
NOT_RUN = [name for names in SKIPPED.values() for name in names]
RUN = [name for name in CASES if name not in NOT_RUN]


@pytest.mark.parametrize("in_one_batch", [False, True], ids=["one-by-one", "in-one-batch"])
@pytest.mark.parametrize("name", RUN)
def test_vendor_case(name: str, in_one_batch: bool) -> None:
    """The ledger answers the figures, outcomes, events and periods that the case expects."""
    check(CASES[name], in_one_batch=in_one_batch)


def test_each_case_is_run_or_listed_with_a_reason() -> None:
    """The list names cases of the file only, each once, and all that are left are run."""
    assert len(NOT_RUN) == len(set(NOT_RUN))
    assert set(NOT_RUN) <= set(CASES)
    assert len(RUN) + len(NOT_RUN) == len(CASES) == 153


@pytest.mark.parametrize("name", NOT_RUN)
def test_no_case_is_listed_that_would_pass(name: str) -> None:
    """What is listed asks for something that this ledger doesn't do, or answers otherwise by a decision."""
    with pytest.raises((ValidationError, AssertionError)):
        check(CASES[name], in_one_batch=False)


def test_what_every_engine_agrees_on_is_run() -> None:
    """Only a case that follows a rule of one product may be listed."""
    dialects = {CASES[name]["dialect"] for name in NOT_RUN}
    assert not dialects & {"common", "open_question", "rounding_option"}
