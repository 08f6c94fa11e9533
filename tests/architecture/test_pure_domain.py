"""The domain is pure: it takes times and ids as arguments and has no clock, no store and no side door of its own."""

import ast
from pathlib import Path

import pytest

from .tree import ROOT

CLOCKS = {"now", "utcnow", "today"}
DOORS = {"open", "print", "input", "exec", "eval", "__import__"}


def impurities(source: str) -> list[str]:
    """What in `source` reads a clock, opens a door, or reaches into the library's persistence."""
    return [found for node in ast.walk(ast.parse(source)) if (found := _impurity(node)) is not None]


def _impurity(node: ast.AST) -> str | None:
    match node:
        case ast.Attribute(attr=name, lineno=line) if name in CLOCKS:
            return f"line {line}: .{name}"
        case ast.Name(id=name, lineno=line) if name in DOORS:
            return f"line {line}: {name}"
        case ast.Import(names=names, lineno=line):
            return next((f"line {line}: {one.name}" for one in names if _is_persistence(one.name)), None)
        case ast.ImportFrom(module=str(module), level=0, lineno=line) if _is_persistence(module):
            return f"line {line}: {module}"
        case _:
            return None


def _is_persistence(module: str) -> bool:
    return module.partition(".")[0] == "eventsourcing" and module != "eventsourcing.domain"


@pytest.mark.parametrize("file", sorted((ROOT / "domain").rglob("*.py")), ids=lambda file: file.stem)
def test_a_file_of_the_domain_is_pure(file: Path) -> None:
    """No clock, no door, and of the event-sourcing library only its domain."""
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
    """The check sees each kind of what it forbids."""
    assert len(impurities(impure)) == 1
