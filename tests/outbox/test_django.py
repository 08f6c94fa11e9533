"""The Django application: its migration, commands and admin, on both stores."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ..postgres import Database

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture
def sqlite_urls(tmp_path: Path) -> tuple[str, str]:
    """Return the URLs of the database of a project and of its ledger."""
    return f"sqlite:///{tmp_path / 'shop.db'}", f"sqlite:///{tmp_path / 'usage.db'}"


@pytest.fixture
def postgres_urls(postgres: Database) -> Iterator[tuple[str, str]]:
    """Return the URL of a new database of a project, which has the ledger too."""
    with closing(postgres.connect()) as connection:
        connection.execute("CREATE DATABASE django_project")
        yield urlsplit(postgres.url)._replace(path="/django_project").geturl(), ""
        connection.execute("DROP DATABASE django_project WITH (FORCE)")


@pytest.mark.parametrize("urls", ["sqlite_urls", "postgres_urls"])
def test_a_project_records_in_its_transactions(urls: str, request: pytest.FixtureRequest) -> None:
    """A rolled back block leaves no row. Models and migrations agree, and the admin changes nothing."""
    completed = subprocess.run(
        [sys.executable, "-m", "tests.outbox.django_project", *request.getfixturevalue(urls)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    results = dict(map(json.loads, completed.stdout.splitlines()))
    assert results == {
        "changes": "No changes detected",
        "rows": [["committed", "waiting"], ["early", "waiting"]],
        "admin": [False, False, False],
        "relay": "relayed: 1 recorded, 0 duplicates, 1 rejected\n"
        "error: The ledger rejected rows, which stay in the outbox with their errors.",
        "rejected": [["early", "rejected", "no_meter"]],
        "events": ["committed"],
        "verify": "verified: the read models and all closed periods equal the ledger",
        "close": "closed: 2026-01",
        "invalid": "error: January in UTC is not a month: time data 'January' does not match format '%Y-%m'.",
    }
