"""The package as programs import it: `tallybook`, `python -m tallybook`, and platforms without `fcntl`."""

import subprocess
import sys
from importlib.metadata import version

import pytest
import tallybook.application

import tallybook

NO_FCNTL = "import sys; sys.modules['fcntl'] = None\n"
RECORDS = """
from tallybook import Metering
with Metering.open("sqlite://") as metering:
    metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
    print(metering.record("tokens", {"customer": "acme", "tokens": 25}).outcome)
"""
IMPORTS_ALL = """
import importlib, pkgutil, tallybook.application, tallybook.domain, tallybook.projections
for package in (tallybook.domain, tallybook.projections, tallybook.application):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
print("imported")
"""


def run(*arguments: str) -> str:
    completed = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout.strip()


def test_the_package_exports_the_public_api() -> None:
    """All names of tallybook.application, and the version."""
    assert set(tallybook.__all__) == {*tallybook.application.__all__, "__version__"}  # pyright: ignore
    assert all(
        getattr(tallybook, name) is getattr(tallybook.application, name) for name in tallybook.application.__all__
    )
    assert tallybook.__version__ == version("tallybook")
    assert set(dir(tallybook)) >= {"Metering", "__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As in any module."""
    with pytest.raises(AttributeError):
        tallybook.NoSuchName  # noqa: B018  # pyright: ignore
    with pytest.raises(AttributeError):
        tallybook.__no_such_name__  # noqa: B018  # pyright: ignore


def test_importing_the_package_loads_nothing_else() -> None:
    """Names are loaded when they are used: worker processes and `--help` start quickly."""
    loaded = "import sys, tallybook; print([name for name in sys.modules if name.startswith('tallybook.')])"
    assert run("-c", loaded) == "[]"


def test_the_package_can_be_run() -> None:
    """`python -m tallybook` is the command line."""
    assert run("-m", "tallybook", "--version") == f"tallybook {version('tallybook')}"


def test_it_works_without_fcntl() -> None:
    """Windows has none: every module can be imported, and usage is recorded."""
    assert run("-c", NO_FCNTL + RECORDS) == "accepted"
    assert run("-c", NO_FCNTL + IMPORTS_ALL) == "imported"
