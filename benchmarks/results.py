"""Results in a JSON file: written after each figure, and merged, so that a part can be run again."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from .machine import Machine
from .measure import Mark, Measured


class Results:
    """The machine, and the figures that were measured on it, in the order that they first came in."""

    def __init__(self, machine: Machine, measured: list[Measured] | None = None) -> None:
        self.machine = machine
        self._measured = {_key(one): one for one in measured or ()}

    @property
    def measured(self) -> list[Measured]:
        """The figures by store and size, and among these in their order."""
        stores = list(dict.fromkeys(one.store for one in self._measured.values()))
        return sorted(self._measured.values(), key=lambda one: (stores.index(one.store), one.events))

    def add(self, one: Measured) -> None:
        """Put in a figure, in the place of an earlier one of the same."""
        self._measured[_key(one)] = one

    def json(self) -> str:
        """All of it, with the verdict on each figure that has a mark."""
        results = [
            {**asdict(one), "figures": dict(one.figures), "verdict": one.verdict} for one in self._measured.values()
        ]
        return json.dumps({"machine": self.machine, "results": results}, indent=1, ensure_ascii=False) + "\n"

    def write(self, file: Path) -> None:
        """Put all of it into a file, at once."""
        beside = file.with_name(f"{file.name}.new")
        beside.write_text(self.json(), encoding="utf-8")
        beside.replace(file)


def of_machine(machine: Machine, file: Path | None) -> Results:
    """What is in a file already, to be merged with what this machine measures now; nothing where there is no file.

    Figures of two machines don't go into one table: raises SystemExit.
    """
    if file is None or not file.exists():
        return Results(machine)
    earlier = read(file)
    for what in ("cores", "processor"):
        if earlier.machine[what] != machine[what]:
            raise SystemExit(f"{file} is of another machine: {what} {earlier.machine[what]}, here {machine[what]}.")
    return Results({**earlier.machine, **machine}, list(earlier.measured))


def read(file: Path) -> Results:
    """What was written."""
    said = cast(dict[str, Any], json.loads(file.read_text(encoding="utf-8")))
    return Results(said["machine"], [_measured(one) for one in said["results"]])


def _measured(said: dict[str, Any]) -> Measured:
    mark = said.pop("mark")
    del said["verdict"]
    return Measured(**said, mark=None if mark is None else Mark(**mark))


def _key(one: Measured) -> tuple[str, str, str, int]:
    return one.store, one.benchmark, one.what, one.events
