"""The wheel holds the tree under one name, all of it and nothing else."""

from pathlib import Path
from zipfile import ZipFile

from .conftest import ROOMS, ROOT


def contents(wheel: Path) -> set[str]:
    """The files of a wheel, without what describes it."""
    with ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_every_module_of_the_tree_is_in_the_wheel_and_nothing_else(wheel: Path) -> None:
    """Each file of domain, projections and application is there as `tallybook.…`; tests and benchmarks are not."""
    modules = {f"tallybook/{file.relative_to(ROOT)}" for room in ROOMS for file in (ROOT / room).rglob("*.py")}
    typed = {f"tallybook/{room}/py.typed" for room in ROOMS}
    assert contents(wheel) == modules | typed


def test_the_wheel_says_that_it_is_typed_and_what_it_needs(wheel: Path) -> None:
    """Name, version, the Python it runs on, its dependencies, and the command that comes with it."""
    with ZipFile(wheel) as archive:
        said = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    assert "Name: tallybook\n" in said["METADATA"]
    assert "Requires-Python: >=3.11\n" in said["METADATA"]
    assert "Classifier: Typing :: Typed\n" in said["METADATA"]
    for dependency in ("eventsourcing", "msgspec", "pydantic", "tzdata", "uuid-utils"):
        assert f"Requires-Dist: {dependency}" in said["METADATA"]
    assert "tallybook = tallybook.application.cli:main" in said["entry_points.txt"]
