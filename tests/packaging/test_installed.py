"""The installed wheel works in a project that has `domain` and `application` packages of its own."""

from pathlib import Path

import pytest

from .conftest import ROOT, run

RECORD_AND_TOTAL = """
from datetime import UTC, datetime, timedelta
from tallybook import Metering

with Metering.open("sqlite:///usage.db") as metering:
    metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
    metering.record("tokens", {"customer": "acme", "tokens": "25"}, identifier="req-1")
    metering.record("tokens", {"customer": "acme", "tokens": "17"}, identifier="req-2")
    now = datetime.now(UTC)
    print(metering.total("tokens", "acme", now - timedelta(hours=1), now + timedelta(hours=1)).value)
"""
IMPORT_BOTH = """
import application.billing, domain
import tallybook.application, tallybook.domain
assert domain.__file__.startswith({backend!r}), domain.__file__
assert tallybook.domain.__file__.startswith({environment!r}), tallybook.domain.__file__
assert tallybook.application.__file__.startswith({environment!r}), tallybook.application.__file__
print(domain.OWNER, application.billing.invoice())
"""


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    """Create a billing backend whose top-level packages have the same names as the folders of this repository."""
    files = {
        "domain/__init__.py": "OWNER = 'the backend'\n",
        "application/__init__.py": "",
        "application/billing.py": "from domain import OWNER\n\n\ndef invoice():\n    return 'invoice of ' + OWNER\n",
    }
    for name, source in files.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)
    return tmp_path


def source_files(folder: Path) -> dict[str, str]:
    """Return the content of each Python file in a folder, by its relative path."""
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*.py")}


def test_both_projects_import_without_conflict(python: Path, backend: Path) -> None:
    """In one process, `domain` is the backend's package and `tallybook.domain` is the wheel's. No file is changed."""
    before = source_files(backend)
    program = IMPORT_BOTH.format(backend=str(backend), environment=str(python.parents[1]))
    assert run(python, "-c", program, folder=backend) == "the backend invoice of the backend\n"
    assert source_files(backend) == before


def test_the_installed_package_records_and_totals(python: Path, backend: Path) -> None:
    """Ten lines of embedding work in the backend's folder."""
    assert run(python, "-c", RECORD_AND_TOTAL, folder=backend) == "42\n"


def test_the_installed_command_starts(python: Path, backend: Path) -> None:
    """The console script and `python -m tallybook` run from any folder."""
    run(python.with_name("tallybook"), "--help", folder=backend)
    run(python, "-m", "tallybook", "--help", folder=backend)


def test_the_wheel_is_imported_and_not_the_source_tree(python: Path, backend: Path) -> None:
    """The package and the interpreter's prefix lie in the new environment. The source tree is not on the path."""
    program = "import sys, tallybook; print([*tallybook.__path__], sys.prefix, *sys.path, sep='\\n')"
    package, prefix, *search_path = run(python, "-c", program, folder=backend).splitlines()
    assert package.startswith(f"['{python.parents[1]}")
    assert prefix == str(python.parents[1])
    assert str(ROOT) not in search_path
