"""The tree that is checked, and how tools are run over it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("domain", "projections", "application")


def run(*command: str, folder: Path = ROOT, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The exit status of a Python module or program of this environment, and all that it printed."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
