"""The source tree under test, and a function that runs tools on it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("domain", "projections", "application")


def run(*command: str, folder: Path = ROOT, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Return the exit status and the output of a module or program of this Python environment."""
    completed = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return completed.returncode, completed.stdout + completed.stderr


def copy_package(folder: Path) -> Path:
    """Copy the package to `folder`, as it is installed; return the path of the copy."""
    package = folder / "tallybook"
    shutil.copytree(ROOT / "src" / "tallybook", package)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    return package
