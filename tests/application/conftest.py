"""Fixtures of the tests of the application."""

import pytest
from tallybook.application.python_process import MAX_PROCESSES_SETTING


@pytest.fixture
def without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read files in this process, which is faster for the many small ones of a table."""
    monkeypatch.setenv(MAX_PROCESSES_SETTING, "1")
