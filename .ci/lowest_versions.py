"""Prints the lowest version of each dependency that pyproject.toml allows, as constraints for pip.

They are those of the package and of the extras that are used in production; tools of tests and benchmarks are as new as
pip finds them.
"""

import re
import tomllib
from pathlib import Path

EXTRAS = ("archive", "arrow", "checkpoints", "cli", "console", "iceberg", "postgres", "server")
_REQUIREMENT = re.compile(r"(?P<name>[\w-]+)(\[[\w,-]+\])?>=(?P<version>[\d.]+)[^;]*(?P<marker>;.*)?")


def lowest_versions(pyproject: str) -> list[str]:
    """Return a constraint for each dependency in the text of a pyproject.toml. Raises ValueError without a bound."""
    project = tomllib.loads(pyproject)["project"]
    requirements = [
        *project["dependencies"],
        *(item for name in EXTRAS for item in project["optional-dependencies"][name]),
    ]
    constraints: list[str] = []
    for requirement in requirements:
        if requirement.startswith(f"{project['name']}["):
            continue
        match = _REQUIREMENT.fullmatch(requirement)
        if match is None:
            raise ValueError(f"{requirement!r} has no lower bound")
        constraints.append(f"{match['name']}=={match['version']}{match['marker'] or ''}")
    return constraints


if __name__ == "__main__":
    print(*lowest_versions((Path(__file__).parents[1] / "pyproject.toml").read_text()), sep="\n")
