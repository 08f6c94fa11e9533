"""The wheel contains all modules under one package name, and nothing else."""

from pathlib import Path
from zipfile import ZipFile

from .conftest import PACKAGES, ROOT


def wheel_files(wheel: Path) -> set[str]:
    """Return the names of the files in a wheel, without its metadata."""
    with ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_contains_every_module_and_nothing_else(wheel: Path) -> None:
    """Each module is installed below `tallybook`, with a marker that it is typed. Tests and benchmarks are not.

    The Django application is `tallybook.django`. Templates and static files of the console are installed too.
    """
    files = [str(file.relative_to(ROOT)) for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    layered = {f"tallybook/{file.replace('application/interfaces/django/', 'django/')}" for file in files}
    top_level = {f"tallybook/{file.name}" for file in (ROOT / "src" / "tallybook").glob("*.py")}
    console = ROOT / "application" / "interfaces" / "console"
    of_pages = {f"tallybook/{file.relative_to(ROOT)}" for file in console.glob("[st]*/*") if file.suffix != ".py"}
    assert wheel_files(wheel) == layered | top_level | of_pages | {"tallybook/py.typed"}


def test_the_wheel_declares_typing_dependencies_and_the_command(wheel: Path) -> None:
    """The metadata states the name, the Python versions, the dependencies and the console script."""
    with ZipFile(wheel) as archive:
        metadata = {
            Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name
        }
    assert "Name: tallybook\n" in metadata["METADATA"]
    assert "Requires-Python: >=3.11\n" in metadata["METADATA"]
    assert "Classifier: Typing :: Typed\n" in metadata["METADATA"]
    for dependency in ("eventsourcing", "msgspec", "pydantic", "tzdata", "uuid-utils"):
        assert f"Requires-Dist: {dependency}" in metadata["METADATA"]
    assert "tallybook = tallybook.__main__:main" in metadata["entry_points.txt"]
