"""Fixtures that build the wheel once, from a copy of the source tree, and install it into a new environment."""

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("domain", "projections", "application")
SOURCE_FOLDERS = (*PACKAGES, "src")
MIN_SETUPTOOLS_VERSION = 77
"""The first major version of setuptools that can build this project."""

_PURELIB = "import sysconfig; print(sysconfig.get_path('purelib'))"


def run(*command: str | Path, folder: Path) -> str:
    """Run a command in a folder and return its output. On failure, the assertion shows all that it printed."""
    completed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


def _has_setuptools() -> bool:
    if importlib.util.find_spec("setuptools") is None:
        return False
    return int(importlib.metadata.version("setuptools").partition(".")[0]) >= MIN_SETUPTOOLS_VERSION


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the working tree.

    If this environment's setuptools is recent enough, the build uses it. Otherwise the build installs its own.
    """
    source = tmp_path_factory.mktemp("source")
    for folder in SOURCE_FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for folder in ("tests", "benchmarks", "docs"):
        (source / folder).mkdir()
        (source / folder / "__init__.py").touch()
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    isolation = ["--no-isolation"] if _has_setuptools() else []
    run(sys.executable, "-m", "build", "--wheel", *isolation, folder=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a new environment that contains the wheel.

    The wheel's dependencies come from the environment that runs the tests.
    """
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", environment, folder=environment)
    interpreter = environment / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", interpreter, "--quiet", "--disable-pip-version-check")
    run(*pip, "install", "--no-deps", "--no-index", wheel, folder=environment)
    site_packages = Path(run(interpreter, "-c", _PURELIB, folder=environment).strip())
    dependencies = [folder for folder in sys.path if Path(folder).name == "site-packages"]
    (site_packages / "dependencies.pth").write_text("\n".join(dependencies))
    return interpreter
