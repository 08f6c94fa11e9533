"""Fixtures: a ledger with a meter on each store, and a folder that is read as an object store."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tallybook.application import Metering

from .usage_objects import NOW, configure


@pytest.fixture
def metering(tmp_path: Path) -> Iterator[Metering]:
    """A SQLite ledger with a meter."""
    with Metering.open(f"sqlite:///{tmp_path / 'usage.db'}", clock=lambda: NOW) as opened:
        configure(opened)
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder of objects."""
    (tmp_path / "incoming").mkdir()
    return tmp_path / "incoming"
