"""ruff and pyright report nothing in the whole tree."""

import shutil
import sys
from pathlib import Path

import pytest

from .tree import PACKAGES, ROOT, run

RUFF_CHECK = ("-m", "ruff", "check", "--no-cache")
RUFF_FORMAT = ("-m", "ruff", "format", "--check", "--no-cache")
PYRIGHT = ("-m", "pyright", "--warnings", "--pythonpath", sys.executable)
NODE_OPTIONS = {"NODE_OPTIONS": "--max-semi-space-size=128"}
"""With more memory for young objects, pyright needs a seventh less processor time."""


@pytest.mark.parametrize("tool", [RUFF_CHECK, RUFF_FORMAT], ids=["ruff check", "ruff format"])
def test_ruff_reports_nothing(tool: tuple[str, ...]) -> None:
    """Lint and format are clean; a failure shows the output of ruff."""
    status, output = run(*tool)
    if status != 0:
        pytest.fail(output, pytrace=False)


def test_pyright_reports_nothing(tmp_path: Path) -> None:
    """Types are clean in strict mode, with `tallybook` as it is installed."""
    for folder in (*PACKAGES, "src", "tests", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "typings", tmp_path / "typings", symlinks=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    status, output = run(*PYRIGHT, folder=tmp_path, environment=NODE_OPTIONS)
    if status != 0:
        pytest.fail(output.replace(f"{tmp_path}/", ""), pytrace=False)


@pytest.mark.parametrize(
    ("tool", "source"),
    [
        (RUFF_CHECK, "import os\n"),
        (RUFF_FORMAT, "x  =  1\n"),
        (PYRIGHT, "def half(n):\n    return n / 2\n"),
    ],
    ids=["ruff check", "ruff format", "pyright"],
)
def test_a_tool_reports_an_error(tool: tuple[str, ...], source: str, tmp_path: Path) -> None:
    """Each tool fails on an invalid file, with the settings of this project."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "invalid.py").write_text(source)
    status, output = run(*tool, folder=tmp_path)
    assert status == 1, output
    assert "invalid.py" in output
