"""The constraints that CI installs to test the lowest versions of the dependencies."""

import importlib.util
import re
from importlib.metadata import requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("lowest_versions", ROOT / ".ci" / "lowest_versions.py")
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

PROJECT = """
[project]
name = "tallybook"
dependencies = {dependencies}
[project.optional-dependencies]
archive = []
arrow = []
checkpoints = []
cli = ["rich>=14"]
console = ["tallybook[server]"]
iceberg = ["tallybook[archive]"]
postgres = ["psycopg[binary,pool]>=3.2.10"]
server = ["tallybook[cli]", "uvicorn>=0.38,<0.55", "uvloop>=0.22.1; sys_platform != 'win32'"]
test = ["pytest>=8"]
"""


def test_each_dependency_is_constrained_to_its_lower_bound() -> None:
    """Those of the extras for production too; markers stay."""
    constraints = _module.lowest_versions(PROJECT.format(dependencies='["msgspec>=0.20"]'))
    assert constraints == [
        "msgspec==0.20", "rich==14", "psycopg==3.2.10", "uvicorn==0.38", "uvloop==0.22.1; sys_platform != 'win32'",
    ]  # fmt: skip


def test_a_dependency_without_a_lower_bound_is_an_error() -> None:
    """It could be of any age."""
    with pytest.raises(ValueError, match="'msgspec<1' has no lower bound"):
        _module.lowest_versions(PROJECT.format(dependencies='["msgspec<1"]'))


def test_all_dependencies_in_production_are_constrained() -> None:
    """Each that the installed package requires, except those of tests and documents."""
    constraints = _module.lowest_versions((ROOT / "pyproject.toml").read_text())
    names = {re.split(r"[=;]", constraint)[0] for constraint in constraints}
    assert {"msgspec", "psycopg", "psycopg-pool", "uvicorn", "cryptography"} <= names
    production = [requirement for requirement in requires("tallybook") or [] if "extra ==" not in requirement]
    assert {re.split(r"[<>=\[; ]", requirement)[0] for requirement in production} <= names
