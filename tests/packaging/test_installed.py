"""Installed from the wheel, beside a project that has a `domain` and an `application` of its own."""

import sys
from pathlib import Path

import pytest

from .conftest import run

RECORDS_AND_TOTALS = """
from datetime import UTC, datetime, timedelta
from tallybook.application import Metering

with Metering.open("sqlite:///usage.db") as metering:
    metering.configure_meter("tokens", customer_key="customer", value_key="tokens")
    metering.record("tokens", {"customer": "acme", "tokens": "25"}, identifier="req-1")
    metering.record("tokens", {"customer": "acme", "tokens": "17"}, identifier="req-2")
    now = datetime.now(UTC)
    print(metering.total("tokens", "acme", now - timedelta(hours=1), now + timedelta(hours=1)).value)
"""
BOTH = """
import application.billing, domain
import tallybook.application, tallybook.domain
assert domain.__file__.startswith({backend!r}), domain.__file__
assert tallybook.domain.__file__.startswith({environment!r}), tallybook.domain.__file__
assert tallybook.application.__file__.startswith({environment!r}), tallybook.application.__file__
print(domain.WHOSE, application.billing.invoice())
"""


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    """A billing backend with top-level packages of the same names."""
    files = {
        "domain/__init__.py": "WHOSE = 'the backend'\n",
        "application/__init__.py": "",
        "application/billing.py": "from domain import WHOSE\n\n\ndef invoice():\n    return 'invoice of ' + WHOSE\n",
    }
    for name, source in files.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)
    return tmp_path


def sources(folder: Path) -> dict[str, str]:
    """The sources of a project."""
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*.py")}


def test_both_projects_are_imported_and_neither_is_touched(python: Path, backend: Path) -> None:
    """`domain` is the backend's, `tallybook.domain` is ours, from the wheel; in one process."""
    before = sources(backend)
    program = BOTH.format(backend=str(backend), environment=str(python.parents[1]))
    assert run(python, "-c", program, folder=backend) == "the backend invoice of the backend\n"
    assert sources(backend) == before


def test_the_installed_package_records_and_totals(python: Path, backend: Path) -> None:
    """Ten lines of embedding, in the backend's folder."""
    assert run(python, "-c", RECORDS_AND_TOTALS, folder=backend) == "42\n"


def test_the_installed_command_starts(python: Path, backend: Path) -> None:
    """The console script is there and runs from anywhere."""
    run(python.with_name("tallybook"), "--help", folder=backend)


def test_the_environment_is_a_fresh_one(python: Path, backend: Path) -> None:
    """What is tested is the wheel: the tree itself can't be imported from there."""
    program = "import sys, tallybook; print(list(tallybook.__path__), sys.prefix)"
    said = run(python, "-c", program, folder=backend)
    assert said.count(str(python.parents[1])) == 2
    assert sys.prefix not in said
