"""The tools that hold the style find nothing, in the whole tree."""

import shutil
import sys
from pathlib import Path

import pytest

from .tree import ROOMS, ROOT, run

RUFF_CHECK = ("-m", "ruff", "check", "--no-cache")
RUFF_FORMAT = ("-m", "ruff", "format", "--check", "--no-cache")
PYRIGHT = ("-m", "pyright", "--warnings", "--pythonpath", sys.executable)


@pytest.mark.parametrize("tool", [RUFF_CHECK, RUFF_FORMAT], ids=["ruff check", "ruff format"])
def test_ruff_finds_nothing(tool: tuple[str, ...]) -> None:
    """Lint and format are clean; otherwise what ruff printed is shown."""
    status, said = run(*tool)
    if status != 0:
        pytest.fail(said, pytrace=False)


def test_pyright_finds_nothing(tmp_path: Path) -> None:
    """Types are clean in strict mode, with `tallybook` standing for the rooms themselves, as it does when installed."""
    for folder in (*ROOMS, "tests", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    package = tmp_path / "typings" / "tallybook"
    package.mkdir(parents=True)
    for room in ROOMS:
        (package / room).symlink_to(tmp_path / room, target_is_directory=True)
    status, said = run(*PYRIGHT, folder=tmp_path)
    if status != 0:
        pytest.fail(said.replace(f"{tmp_path}/", ""), pytrace=False)


@pytest.mark.parametrize(
    ("tool", "source"),
    [
        (RUFF_CHECK, "import os\n"),
        (RUFF_FORMAT, "x  =  1\n"),
        (PYRIGHT, "def half(n):\n    return n / 2\n"),
    ],
    ids=["ruff check", "ruff format", "pyright"],
)
def test_a_tool_can_find_something(tool: tuple[str, ...], source: str, tmp_path: Path) -> None:
    """Each of them fails on a file that it should fail on, by this project's settings."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "domain").mkdir()
    (tmp_path / "domain" / "spoilt.py").write_text(source)
    status, said = run(*tool, folder=tmp_path)
    assert status == 1, said
    assert "spoilt.py" in said
