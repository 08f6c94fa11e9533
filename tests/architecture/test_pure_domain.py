"""The domain is pure: times and ids are arguments; it reads no clock, does no I/O and uses no persistence."""

import ast
from pathlib import Path

import pytest

from .tree import ROOT

CLOCKS = {"now", "utcnow", "today"}
IO_FUNCTIONS = {"open", "print", "input", "exec", "eval", "__import__"}


def impurities(source: str) -> list[str]:
    """Return a message for each clock access, I/O call and import of eventsourcing's persistence in `source`."""
    return [message for node in ast.walk(ast.parse(source)) if (message := _impurity(node)) is not None]


def _impurity(node: ast.AST) -> str | None:
    match node:
        case ast.Attribute(attr=name, lineno=line) if name in CLOCKS:
            return f"line {line}: .{name}"
        case ast.Name(id=name, lineno=line) if name in IO_FUNCTIONS:
            return f"line {line}: {name}"
        case ast.Import(names=names, lineno=line):
            return next((f"line {line}: {alias.name}" for alias in names if _is_persistence(alias.name)), None)
        case ast.ImportFrom(module=str(module), level=0, lineno=line) if _is_persistence(module):
            return f"line {line}: {module}"
        case _:
            return None


def _is_persistence(module: str) -> bool:
    return module.partition(".")[0] == "eventsourcing" and module != "eventsourcing.domain"


@pytest.mark.parametrize("file", sorted((ROOT / "domain").rglob("*.py")), ids=lambda file: file.stem)
def test_a_file_of_the_domain_is_pure(file: Path) -> None:
    """It has no clock and no I/O, and imports only the domain module of the eventsourcing library."""
    assert impurities(file.read_text()) == []


@pytest.mark.parametrize(
    "impure",
    [
        "from datetime import datetime\nat = datetime.now()",
        "import datetime\nat = datetime.datetime.utcnow()",
        "from datetime import date\nclock = date.today",
        "text = open('x').read()",
        "from eventsourcing.persistence import IntegrityError",
        "import eventsourcing.sqlite",
        "from eventsourcing import application",
    ],
)
def test_an_impure_line_is_found(impure: str) -> None:
    """The check finds each kind of impurity."""
    assert len(impurities(impure)) == 1
