"""Import rules: the contracts of `.importlinter`, and that each of them can fail."""

import shutil
from pathlib import Path

import pytest

from .tree import PACKAGES, ROOT, run

LINT = (
    "-c",
    "from importlinter.cli import lint_imports_command as lint; lint()",
    "--config",
    str(ROOT / ".importlinter"),
    "--no-cache",
    "--no-logo",
)

FORBIDDEN_IMPORTS = {
    "domain imports projections": (
        "domain/meter.py",
        "from ..projections.fold import fold_page",
        "tallybook.domain is not allowed to import tallybook.projections",
    ),
    "domain imports application": (
        "domain/rules.py",
        "from ..application import Metering",
        "tallybook.domain is not allowed to import tallybook.application",
    ),
    "projections import application": (
        "projections/fold.py",
        "from ..application import Metering",
        "tallybook.projections is not allowed to import tallybook.application",
    ),
    "domain creates ids": ("domain/meter_event_input.py", "import uuid", "tallybook.domain is not allowed to import"),
    "domain does I/O": ("domain/meter.py", "import sqlite3", "tallybook.domain is not allowed to import sqlite3"),
    "projections do I/O": (
        "projections/apply_delta.py",
        "import sqlite3",
        "tallybook.projections is not allowed to import sqlite3",
    ),
    "metering imports an interface": (
        "application/metering.py",
        "from .interfaces.cli import main",
        "tallybook.application.metering is not allowed to import tallybook.application.interfaces",
    ),
    "queries import commands": (
        "application/queries/totals.py",
        "from ..commands.meters import MeterCommands",
        "tallybook.application.queries is not allowed to import tallybook.application.commands",
    ),
    "read models import queries": (
        "application/read_models/generations.py",
        "from ..queries.totals import TotalQueries",
        "tallybook.application.read_models is not allowed to import tallybook.application.queries",
    ),
    "checkpoints import the archive": (
        "application/checkpoints/service.py",
        "from ..archive.ranges import TreeRange",
        "tallybook.application.checkpoints is not allowed to import tallybook.application.archive",
    ),
    "access keys import checkpoints": (
        "application/access_keys/views.py",
        "from ..checkpoints.checkpoint import Checkpoint",
        "tallybook.application.access_keys is not allowed to import tallybook.application.checkpoints",
    ),
    "storage imports the ledger": (
        "application/storage/key_value.py",
        "from ..ledger.ledger import Ledger",
        "tallybook.application.storage is not allowed to import tallybook.application.ledger",
    ),
    "HTTP imports the command line": (
        "application/interfaces/http/pagination.py",
        "from ..cli.columns import Column",
        "tallybook.application.interfaces.http is not allowed to import",
    ),
    "SQLite imports PostgreSQL": (
        "application/storage/sqlite/schema.py",
        "from ..postgres.schema import Schema",
        "tallybook.application.storage.sqlite is not allowed to import",
    ),
    "queries import Typer": (
        "application/queries/totals.py",
        "import typer",
        "tallybook.application.queries is not allowed to import typer",
    ),
    "a cycle": (
        "application/access_keys/key_format.py",
        "from .views import AccessKeyView",
        "No cycles are allowed in tallybook.application.access_keys.",
    ),
}


def copy_package(folder: Path) -> Path:
    """Copy the package as it is installed, to a folder from which it can be imported."""
    package = folder / "tallybook"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (ROOT / "src" / "tallybook").glob("*.py"):
        shutil.copy(file, package)
    return package


def test_the_import_contracts_hold(tmp_path: Path) -> None:
    """Every contract of `.importlinter` holds."""
    copy_package(tmp_path)
    status, output = run(*LINT, folder=tmp_path, environment={"PYTHONPATH": str(tmp_path)})
    assert status == 0, output
    assert " 0 broken." in output, output


@pytest.mark.parametrize("name", FORBIDDEN_IMPORTS)
def test_a_forbidden_import_breaks_a_contract(name: str, tmp_path: Path) -> None:
    """With one forbidden import added to a copy of the package, the same check fails and names the import."""
    file, line, message = FORBIDDEN_IMPORTS[name]
    changed_file = copy_package(tmp_path) / file
    changed_file.write_text(f"{changed_file.read_text()}\n{line}  # noqa\n")
    status, output = run(*LINT, folder=tmp_path, environment={"PYTHONPATH": str(tmp_path)})
    assert status == 1, output
    assert message in " ".join(output.split()), output
