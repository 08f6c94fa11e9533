"""The systemd unit and the container file: what they name is there."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from tallybook.application.server.process.settings import INSIDE, PREFIX, ServerSettings
from tallybook.domain.policy import AcceptancePolicy

from tests.server.serving import TALLYBOOK, serve

ROOT = Path(__file__).parents[3]
UNIT, CONTAINER = ROOT / "examples" / "tallybook.service", ROOT / "examples" / "Containerfile"
GUIDE = ROOT / "docs" / "guides" / "serve.md"
NAMES = {f"{PREFIX}{name.upper()}" for name in ServerSettings.model_fields}


def variables(text: str) -> set[str]:
    """The settings that a text names, each without what is inside of it."""
    return {name.partition(INSIDE)[0] for name in re.findall(rf"{PREFIX}[A-Z_]+", text)}


def directives() -> dict[str, list[str]]:
    """What the unit says, by name."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def instructions() -> list[tuple[str, str]]:
    """What the container file says, in order."""
    text = re.sub(r"\\\n\s*", "", CONTAINER.read_text())
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in text.splitlines() if line and line[0] != "#"]


def command_help(*command: str) -> str:
    """The help of a command."""
    return subprocess.run([TALLYBOOK, *command, "--help"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("file", [UNIT, CONTAINER, GUIDE], ids=lambda file: file.name)
def test_settings_that_are_named_exist(file: Path) -> None:
    """Each variable is one that the server reads."""
    named = variables(file.read_text())
    assert named
    assert named <= NAMES


def test_the_guide_tells_all_settings() -> None:
    """Every one has a row with its default."""
    text = GUIDE.read_text()
    for name, field in ServerSettings.model_fields.items():
        if name == "webhooks":
            assert "[webhooks](webhooks.md)" in text  # where they are told
        elif name == "policy":
            for limit in AcceptancePolicy.model_fields:
                assert f"`{PREFIX}POLICY{INSIDE}{limit.upper()}`" in text
        else:
            default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            assert re.search(rf"^\| `{PREFIX}{name.upper()}` \| `?{re.escape(default)}`? \|", text, re.MULTILINE), name


def test_the_command_of_the_unit_has_its_options() -> None:
    """And its time to end is longer than the server's own."""
    (command,) = directives()["ExecStart"]
    _, *words = shlex.split(command)
    assert words[0] == "serve"
    for option in words[1:]:
        assert not option.startswith("-") or option in command_help("serve")
    drain = next(value for value in directives()["Environment"] if "DRAIN" in value).partition("=")[2]
    assert int(directives()["TimeoutStopSec"][0]) > 2 * int(drain)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze on this machine")
def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    """It finds nothing, once the command is where this machine has it."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/tallybook/bin/tallybook", TALLYBOOK))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60, check=False
    )
    about_it = [line for line in (done.stdout + done.stderr).splitlines() if UNIT.name in line]
    assert about_it == []


def test_the_container_has_what_is_installed_and_runs_the_server() -> None:
    """It copies what the package is made of, installs extras that exist, and ends on SIGTERM."""
    said = instructions()
    assert said[0] == ("FROM", "python:3.13-slim")
    copied = [word for name, words in said if name == "COPY" for word in words.split()[:-1]]
    assert all((ROOT / one).exists() for one in copied)
    assert {"domain", "projections", "application", "pyproject.toml"} <= set(copied)
    (extras,) = re.findall(r"\[([\w,]+)\]'", dict(said)["RUN"])
    project = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras.split(","))
    assert (json.loads(dict(said)["ENTRYPOINT"]), json.loads(dict(said)["CMD"])) == (["tallybook"], ["serve"])


def test_the_health_check_of_the_container_asks_a_server(tmp_path: Path) -> None:
    """It ends with 0 where the server is ready, and not where there is none."""
    check = json.loads(dict(instructions())["HEALTHCHECK"].removeprefix("CMD "))
    with serve(f"sqlite:///{tmp_path}/ledger.db") as serving:
        asked = [part.replace("8080", str(serving.port)) for part in check]
        assert subprocess.run(asked, check=False).returncode == 0
    assert subprocess.run(asked, check=False, capture_output=True).returncode == 1
