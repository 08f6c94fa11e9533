"""Stores results in a JSON file. Each measurement is merged into it, so that a part of the suite can run again."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from .machine import Machine
from .measure import Measurement, Target


class Results:
    """A machine and its measurements, in the order in which they were first added."""

    def __init__(self, machine: Machine, measurements: list[Measurement] | None = None) -> None:
        self.machine = machine
        self._measurements = {_key(measurement): measurement for measurement in measurements or ()}

    @property
    def measurements(self) -> list[Measurement]:
        """Return the measurements, ordered by store, size and the order in which they were added."""
        stores = list(dict.fromkeys(measurement.store for measurement in self._measurements.values()))
        return sorted(
            self._measurements.values(), key=lambda measurement: (stores.index(measurement.store), measurement.events)
        )

    def add(self, measurement: Measurement) -> None:
        """Add a measurement, or replace the earlier one of the same store, benchmark, name and size."""
        self._measurements[_key(measurement)] = measurement

    def to_json(self) -> str:
        """Return everything as JSON, with the verdict of each measurement that has a target."""
        results = [
            {**asdict(measurement), "figures": dict(measurement.figures), "verdict": measurement.verdict}
            for measurement in self._measurements.values()
        ]
        return json.dumps({"machine": self.machine, "results": results}, indent=1, ensure_ascii=False) + "\n"

    def write(self, file: Path) -> None:
        """Write the results to a file atomically."""
        temporary_file = file.with_name(f"{file.name}.new")
        temporary_file.write_text(self.to_json(), encoding="utf-8")
        temporary_file.replace(file)


def load_for_machine(machine: Machine, file: Path | None) -> Results:
    """Load the results in a file to add to them, or return empty results if there is no file.

    Raises SystemExit if the results are of another machine.
    """
    if file is None or not file.exists():
        return Results(machine)
    earlier = load(file)
    for name in ("cores", "processor"):
        if earlier.machine[name] != machine[name]:
            values = f"{name} is {earlier.machine[name]} there and {machine[name]} here"
            raise SystemExit(f"{file} has results of another machine: {values}.")
    return Results({**earlier.machine, **machine}, list(earlier.measurements))


def load(file: Path) -> Results:
    """Return the results in a file."""
    document = cast(dict[str, Any], json.loads(file.read_text(encoding="utf-8")))
    return Results(document["machine"], [_parse_measurement(entry) for entry in document["results"]])


def _parse_measurement(entry: dict[str, Any]) -> Measurement:
    target = entry.pop("target")
    del entry["verdict"]
    return Measurement(**entry, target=None if target is None else Target(**target))


def _key(measurement: Measurement) -> tuple[str, str, str, int]:
    return measurement.store, measurement.benchmark, measurement.what, measurement.events
