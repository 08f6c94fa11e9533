"""Who may import whom: the contracts of `.importlinter`, and that each of them can fail."""

import shutil
from pathlib import Path

import pytest

from .tree import ROOMS, ROOT, run

LINT = (
    "-c",
    "from importlinter.cli import lint_imports_command as lint; lint()",
    "--config",
    str(ROOT / ".importlinter"),
    "--no-cache",
    "--no-logo",
)


def test_the_rooms_keep_their_contracts() -> None:
    """Domain imports nothing of ours, projections import domain, application both; only the last does I/O."""
    status, said = run(*LINT)
    assert status == 0, said
    assert " 0 broken." in said, said


def copied(folder: Path) -> Path:
    """A copy of the package that can be spoilt."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / "tallybook" / room, ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "tallybook"


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("domain/meter.py", "from ..projections.fold import fold", "tallybook.domain is not allowed to import"),
        ("domain/rules.py", "from ..application import Metering", "tallybook.domain is not allowed to import"),
        ("projections/fold.py", "from ..application import Metering", "tallybook.projections is not allowed to import"),
        ("domain/report.py", "import uuid", "tallybook.domain is not allowed to import uuid"),
        ("domain/meter.py", "import sqlite3", "tallybook.domain is not allowed to import sqlite3"),
        ("projections/tally.py", "import sqlite3", "tallybook.projections is not allowed to import sqlite3"),
        ("application/reading.py", "from .cli import main", "tallybook.application.reading is not allowed to import"),
    ],
)
def test_a_forbidden_import_breaks_a_contract(file: str, line: str, broken: str, tmp_path: Path) -> None:
    """With one forbidden import added to a copy, the same check fails and names it; without it, the copy passes."""
    spoilt = copied(tmp_path) / file
    environment = {"PYTHONPATH": str(tmp_path)}
    assert run(*LINT, folder=tmp_path, environment=environment)[0] == 0
    spoilt.write_text(f"{spoilt.read_text()}\n{line}  # noqa\n")
    status, said = run(*LINT, folder=tmp_path, environment=environment)
    assert status == 1, said
    assert broken in said, said
