"""The systemd unit and the container file name only things that exist."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from tallybook.application.interfaces.environment import NAMED_GROUPS, NESTED_DELIMITER
from tallybook.application.interfaces.environment import PREFIX as ENV_PREFIX
from tallybook.application.interfaces.http.settings import ServerSettings
from tallybook.application.interfaces.job_settings import ArchiveSettings, CheckpointSettings
from tallybook.domain.acceptance_policy import AcceptancePolicy

from tests.http.running_server import TALLYBOOK, serve

ROOT = Path(__file__).parents[3]
UNIT, CONTAINER = ROOT / "examples" / "tallybook.service", ROOT / "examples" / "Containerfile"
GUIDE, JOBS_GUIDE = (ROOT / "docs" / "guides" / name for name in ("serve.md", "jobs.md"))
SOURCE_GUIDES = {
    "imports": GUIDE.with_name("usage-from-object-stores.md"), "consumers": GUIDE.with_name("usage-from-topics.md"),
}  # fmt: skip
NAMES = {f"{ENV_PREFIX}{name.upper()}" for name in ServerSettings.model_fields}


def setting_names(text: str) -> set[str]:
    """Return the settings that a text names, without nested ones."""
    return {name.partition(NESTED_DELIMITER)[0] for name in re.findall(rf"{ENV_PREFIX}[A-Z_]+", text)}


def directives() -> dict[str, list[str]]:
    """Return the directives of the unit, by name."""
    values: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            values.setdefault(name, []).append(value)
    return values


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the container file, in order."""
    text = re.sub(r"\\\n\s*", "", CONTAINER.read_text())
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in text.splitlines() if line and line[0] != "#"]


def command_help(*command: str) -> str:
    """Return the help of a command."""
    return subprocess.run([TALLYBOOK, *command, "--help"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("file", [UNIT, CONTAINER, GUIDE], ids=lambda file: file.name)
def test_named_settings_exist(file: Path) -> None:
    """The server reads each variable."""
    named = setting_names(file.read_text())
    assert named
    # The prefix of variables that are no settings, and one that only other commands read.
    assert named <= {*NAMES, "TALLYBOOK_TEST_", "TALLYBOOK_ACCESS_LOG_FILE"}


def test_the_guide_describes_all_settings() -> None:
    """Each one has a row with its default."""
    text = GUIDE.read_text()
    for name, field in ServerSettings.model_fields.items():
        if name == "webhooks":
            assert "[webhooks](webhooks.md)" in text  # documented there
        elif name.upper() in NAMED_GROUPS:
            guide = SOURCE_GUIDES[name].read_text()
            assert f"`{ENV_PREFIX}{name.upper()}{NESTED_DELIMITER}NAME{NESTED_DELIMITER}…`" in guide
            for setting in NAMED_GROUPS[name.upper()]:
                assert re.search(rf"[`_]{setting}`", guide), setting
        elif isinstance(field.default, ArchiveSettings | CheckpointSettings):
            for setting in type(field.default).model_fields:
                assert f"`{ENV_PREFIX}{name.upper()}{NESTED_DELIMITER}{setting.upper()}`" in JOBS_GUIDE.read_text()
        elif name == "policy":
            for limit in AcceptancePolicy.model_fields:
                assert f"`{ENV_PREFIX}POLICY{NESTED_DELIMITER}{limit.upper()}`" in text
        else:
            default = "[]" if field.default == () else str(field.default)
            default = default.lower() if isinstance(field.default, bool) else default
            shown = "" if field.default is None else rf"`?{re.escape(default)}`? "
            assert re.search(rf"^\| `{ENV_PREFIX}{name.upper()}` \| {shown}\|", text, re.MULTILINE), name


def test_the_command_of_the_unit_has_its_options() -> None:
    """And the stop timeout is longer than the server's own."""
    (command,) = directives()["ExecStart"]
    _, *arguments = shlex.split(command)
    assert arguments[0] == "serve"
    for option in arguments[1:]:
        assert not option.startswith("-") or option in command_help("serve")
    drain = next(value for value in directives()["Environment"] if "DRAIN" in value).partition("=")[2]
    assert int(directives()["TimeoutStopSec"][0]) > 2 * int(drain)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze on this machine")
def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    """It finds no error, with the command at its place on this machine."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/tallybook/bin/tallybook", TALLYBOOK))
    completed = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60, check=False
    )
    about_it = [line for line in (completed.stdout + completed.stderr).splitlines() if UNIT.name in line]
    assert about_it == []


def test_the_container_copies_existing_files_and_runs_the_server() -> None:
    """It copies the sources of the package, installs existing extras, and stops on SIGTERM."""
    container = instructions()
    assert container[0] == ("FROM", "python:3.13-slim")
    copied = [path for name, arguments in container if name == "COPY" for path in arguments.split()[:-1]]
    assert all((ROOT / path_in_repository).exists() for path_in_repository in copied)
    assert {"src", "domain", "projections", "application", "pyproject.toml"} <= set(copied)
    (extras,) = re.findall(r"\[([\w,]+)\]'", dict(container)["RUN"])
    project = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras.split(","))
    assert (json.loads(dict(container)["ENTRYPOINT"]), json.loads(dict(container)["CMD"])) == (["tallybook"], ["serve"])


def test_the_health_check_of_the_container_queries_a_server(tmp_path: Path) -> None:
    """It exits with 0 if the server is ready, and with 1 if no server is running."""
    check = json.loads(dict(instructions())["HEALTHCHECK"].removeprefix("CMD "))
    with serve(f"sqlite:///{tmp_path}/ledger.db") as server:
        command = [part.replace("8080", str(server.port)) for part in check]
        assert subprocess.run(command, check=False).returncode == 0
    assert subprocess.run(command, check=False, capture_output=True).returncode == 1
