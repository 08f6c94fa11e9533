"""Server settings: each has an environment variable, which errors name."""

import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, ValidationError
from tallybook.application import Metering
from tallybook.application.interfaces.cli.access_log import FILE_VARIABLE
from tallybook.application.interfaces.cli.app import app
from tallybook.application.interfaces.environment import NAMED_GROUPS, NESTED_DELIMITER, VARIABLES, unknown_variables
from tallybook.application.interfaces.environment import PREFIX as ENV_PREFIX
from tallybook.application.interfaces.http.settings import ServerSettings
from tallybook.application.interfaces.job_settings import schedule_from_environment, scheduled_jobs, settings_errors
from tallybook.application.interfaces.usage_sources import ConsumerSettings, ImportSettings
from tallybook.application.python_process import MAX_PROCESSES_SETTING
from tallybook.domain.acceptance_policy import AcceptancePolicy
from typer.testing import CliRunner

from tests.http.running_server import TALLYBOOK
from tests.preloaded.program import Program

VALID_SETTINGS: list[tuple[str, str, str, object]] = [
    ("LEDGER", "sqlite:///other.db", "ledger", "sqlite:///other.db"),
    ("OUTBOX", "postgresql://app@here/shop", "outbox", "postgresql://app@here/shop"),
    ("OUTBOX_TABLE", "shop.usage", "outbox_table", "shop.usage"),
    ("HOST", "::1", "host", "::1"),
    ("PORT", "9000", "port", 9000),
    ("WORKERS", "4", "workers", 4),
    ("PROJECTION", "true", "projection", True),
    ("ACCESS_LOG", "false", "access_log", False),
    ("ACCESS_LOG_CUSTOMERS", "hashed", "access_log_customers", "hashed"),
    ("MAX_BODY_BYTES", "1024", "max_body_bytes", 1024),
    ("HEADER_TIMEOUT_SECONDS", "0.5", "header_timeout_seconds", 0.5),
    ("DRAIN_TIMEOUT_SECONDS", "5", "drain_timeout_seconds", 5),
    ("POLICY__MAX_AGE", "P90D", "policy", AcceptancePolicy(max_age=timedelta(days=90))),
    ("POLICY__MAX_AGE", "none", "policy", AcceptancePolicy(max_age=None)),
    ("POLICY__MAX_AHEAD", "PT1H", "policy", AcceptancePolicy(max_ahead=timedelta(hours=1))),
    ("POLICY__CANCEL_WINDOW", "PT48H", "policy", AcceptancePolicy(cancel_window=timedelta(hours=48))),
    ("POLICY__GRACE_PERIOD", "PT2H", "policy", AcceptancePolicy(grace_period=timedelta(hours=2))),
    ("POLICY__MAX_DIGITS", "30", "policy", AcceptancePolicy(max_digits=30)),
]
INVALID_SETTINGS = [
    ("PORT", "70000", "less than or equal to 65535"),
    ("PORT", "http", "valid integer"),
    ("HOST", "", "at least 1 character"),
    ("WORKERS", "0", "greater than or equal to 1"),
    ("ACCESS_LOG", "perhaps", "valid boolean"),
    ("ACCESS_LOG_CUSTOMERS", "perhaps", "'hidden', 'hashed' or 'named'"),
    ("MAX_BODY_BYTES", "1", "greater than or equal to 1024"),
    ("LEDGER", "mysql://root:geheim@here/db", "A ledger URL is one of"),
    ("LEDGER", f"postgresql://here/db?schema={chr(115) * 55}", "a schema name has 1 to 51 bytes"),
    ("LEDGER", "sqlite://", "an in-memory ledger cannot be served"),
    ("OUTBOX", "mysql://root:geheim@here/db", "A ledger URL is one of"),
    ("OUTBOX", "sqlite://", "use a file"),
    ("OUTBOX_TABLE", "usage; drop", "the name of a table"),
    ("POLICY__MAX_AGE", "a month", "valid timedelta"),
    ("POLICY__GRACE_PERIOD", "P10D", "less than or equal to"),
    ("POLICY__MAX_AGEE", "P90D", "Extra inputs are not permitted"),
    ("IMPORTS__A__URL", "", "at least 1 character"),
]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings of the environment that runs the tests."""
    for name in os.environ:
        if name.startswith("TALLYBOOK_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(("name", "value", "setting", "expected"), VALID_SETTINGS)
def test_a_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str, setting: str, expected: object) -> None:
    """It is read from the environment; all others keep their defaults."""
    monkeypatch.setenv(f"TALLYBOOK_{name}", value)
    settings = ServerSettings()
    assert getattr(settings, setting) == expected
    assert settings.model_copy(update={setting: getattr(DEFAULTS, setting)}) == DEFAULTS


DEFAULTS = ServerSettings.model_construct()


@pytest.mark.parametrize(("name", "value", "why"), INVALID_SETTINGS)
def test_an_invalid_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str) -> None:
    """The error names the variable without its value, which may be a password."""
    monkeypatch.setenv(f"TALLYBOOK_{name}", value)
    with pytest.raises(ValidationError) as error:
        ServerSettings()
    (message,) = settings_errors(error.value)
    assert message.startswith(f"TALLYBOOK_{name}: ")
    assert why in message
    assert "geheim" not in message + str(error.value)


SOURCES = {
    "TALLYBOOK_IMPORTS__GATE_1__URL": "s3://bucket/prefix",
    "TALLYBOOK_IMPORTS__GATE_1__DELIMITER": "tab",
    "TALLYBOOK_IMPORTS__GATE_1__TIMEZONE": "Europe/Berlin",
    "TALLYBOOK_IMPORTS__GATE_2__URL": "s3://bucket/prefix-2",
    "TALLYBOOK_CONSUMERS__KAFKA__TOPIC": "2026",
    "TALLYBOOK_CONSUMERS__KAFKA__PAYLOAD_COLUMNS": "data.n=tokens, model",
    "TALLYBOOK_BROKERS": "kafka:9092",
}


def test_imports_and_consumers_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server and `projection run` read the same, and make jobs of it."""
    for name, value in SOURCES.items():
        monkeypatch.setenv(name, value)
    assert unknown_variables(SOURCES) == []
    schedule = ServerSettings().schedule
    assert schedule == schedule_from_environment(SOURCES)
    assert schedule.imports["gate_1"].row_format().timestamps.timezone == ZoneInfo("Europe/Berlin")
    assert schedule.consumers["kafka"].row_format().columns.payload == {"data.n": "tokens", "model": "model"}
    with Metering.open("sqlite://") as metering:
        jobs = scheduled_jobs(metering, schedule)
    assert [(job.name, job.interval) for job in jobs] == [
        ("import-gate-1", timedelta(minutes=15)), ("import-gate-2", timedelta(minutes=15)), ("consumer-kafka", None),
    ]  # fmt: skip


AS_JSON = {
    "TALLYBOOK_ARCHIVE": '{"destination": "usage", "interval_seconds": 60}',
    "TALLYBOOK_ARCHIVE__INTERVAL_SECONDS": "5",
    "TALLYBOOK_IMPORTS": '{"gateway": {"url": "s3://usage/a", "max_rows": 7}, "other": {"url": "s3://other"}}',
    "TALLYBOOK_IMPORTS__GATEWAY__URL": "s3://usage/b",
}


def test_a_group_of_settings_may_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """For both programs; a variable of its own takes precedence."""
    for name, value in AS_JSON.items():
        monkeypatch.setenv(name, value)
    schedule = ServerSettings().schedule
    assert schedule == schedule_from_environment(AS_JSON)
    gateway = schedule.imports["gateway"]
    assert (schedule.archive.destination, schedule.archive.interval_seconds) == ("usage", 5)
    assert (gateway.url, gateway.max_rows, schedule.imports["other"].url) == ("s3://usage/b", 7, "s3://other")


@pytest.mark.parametrize(
    ("group", "message"),
    [("x", "it is not JSON. Use one variable"), ("[1]", "valid dictionary"), ('{"a": 5}', "valid dictionary")],
)
@pytest.mark.parametrize("also", [{}, {"TALLYBOOK_IMPORTS__A__MAX_ROWS": "1"}], ids=["alone", "with-a-variable"])
def test_a_group_that_is_no_json_object_is_an_error(group: str, message: str, also: dict[str, str]) -> None:
    """With a variable of its own or without."""
    with pytest.raises(ValidationError) as error:
        schedule_from_environment({"TALLYBOOK_IMPORTS": group, **also})
    (shown,) = settings_errors(error.value)
    assert shown.startswith("TALLYBOOK_IMPORTS")
    assert message in shown


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"TALLYBOOK_BROKERS": None}, "no brokers: set TALLYBOOK_BROKERS, or its own TALLYBOOK_CONSUMERS__KAFKA"),
        ({"TALLYBOOK_CONSUMERS__KAFKA__GROUPE": "x"}, "TALLYBOOK_CONSUMERS__KAFKA__GROUPE: Extra inputs"),
        ({"TALLYBOOK_IMPORTS__GATE_1__TIMEZONE": "Berlin"}, "TALLYBOOK_IMPORTS__GATE_1: Value error, There is no"),
        ({"TALLYBOOK_IMPORTS__GATE_1__TIMESTAMP_FORMAT": "odd"}, "'timestamp_format' must be one of 'auto'"),
        ({"TALLYBOOK_IMPORTS__1__URL": "s3://a"}, "TALLYBOOK_IMPORTS__1__[KEY]: "),
        ({"TALLYBOOK_CONSUMERS__OTHER__TOPIC": "2026"}, "same offsets: set TALLYBOOK_CONSUMERS__OTHER__GROUP"),
        ({"TALLYBOOK_IMPORTS__PART__URL": "s3://bucket/prefix/part"}, "'gate_1' and 'part' read the same objects"),
        ({"TALLYBOOK_IMPORTS__WHOLE__URL": "s3://bucket/"}, "'gate_1' and 'whole' read the same objects"),
    ],
)  # fmt: skip
def test_wrong_settings_of_sources(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str | None], message: str
) -> None:
    """Both programs say the same when they start."""
    environment = {name: value for name, value in {**SOURCES, **changed}.items() if value is not None}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for read in (ServerSettings, lambda: schedule_from_environment(environment)):
        with pytest.raises(ValidationError) as error:
            read()
        assert message in " ".join(settings_errors(error.value))


def test_sources_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of one setting takes precedence, in whichever order they are; no other text is a group of settings."""
    setting, groups = "TALLYBOOK_IMPORTS__A__SOURCE", '{"a": {"url": "s3://a", "source": "b"}, "c": {"url": "s3://c"}}'
    for environment in ({"TALLYBOOK_IMPORTS": groups, setting: "d"}, {setting: "d", "TALLYBOOK_IMPORTS": groups}):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        schedule = schedule_from_environment(environment)
        assert schedule == ServerSettings().schedule
        assert {name: (one.url, one.source) for name, one in schedule.imports.items()} == {
            "a": ("s3://a", "d"), "c": ("s3://c", ""),
        }  # fmt: skip
    for name, message in (
        ("TALLYBOOK_IMPORTS", "Value error, it is not JSON. Use one variable for each setting"),
        ("TALLYBOOK_IMPORTS__A", "Input should be a valid dictionary or instance of ImportSettings"),
    ):
        with pytest.raises(ValidationError) as error:
            schedule_from_environment({name: "s3://user:secret@a", setting: "d"})
        assert settings_errors(error.value) == [f"{name}: {message}"]


def usage_error(tmp_path: Path, *options: str, **environment: str) -> str:
    """Return the output of a usage error."""
    program = Program(
        "tallybook", "serve", *options, folder=tmp_path, environment={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with program:
        stdout, stderr = program.communicate(timeout=30)
    assert (program.returncode, stdout, list(tmp_path.iterdir())) == (2, "", [])
    return stderr


def test_invalid_settings_are_reported_and_nothing_is_created(tmp_path: Path) -> None:
    """All of them, with status 2."""
    stderr = usage_error(tmp_path, TALLYBOOK_PORT="-1", TALLYBOOK_POLICY__MAX_AGE="old")
    assert [line.split(": ")[:2] for line in stderr.splitlines()] == [
        ["tallybook", "TALLYBOOK_PORT"], ["tallybook", "TALLYBOOK_POLICY__MAX_AGE"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("TALLYBOOK_LEGDER", "TALLYBOOK_LEDGER"),
        ("TALLYBOOK_POLICY_MAX_AGE", "TALLYBOOK_POLICY__MAX_AGE"),
        ("TALLYBOOK_POLICY__MAXAGE", "TALLYBOOK_POLICY__MAX_AGE"),
        ("TALLYBOOK_MAXHEADERS", "TALLYBOOK_MAX_HEADERS"),
        ("tallybook_prot", "TALLYBOOK_PORT"),
        ("TALLYBOOK_IMPORTS__A__URI", "TALLYBOOK_IMPORTS__A__URL"),
        ("TALLYBOOK_CONSUMERS__A_B__TOPICS", "TALLYBOOK_CONSUMERS__A_B__TOPIC"),
        ("TALLYBOOK_IMPORTS__URL", "TALLYBOOK_IMPORTS"),
        ("TALLYBOOK_", ""),
        ("TALLYBOOK_QUITE_DIFFERENT", ""),
    ],
)
@pytest.mark.parametrize("command", [["serve"], ["meter", "list"], ["demo"]])
def test_a_misspelt_variable_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, similar: str, command: list[str]
) -> None:
    """Of the server and of every command: it names similar settings, not the value, and nothing is done."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, command, env={name: "geheim", "TALLYBOOK_LEDGER": "sqlite:///usage.db"})
    assert (result.exit_code, result.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert result.stderr.startswith(f"tallybook: {name}: there is no such setting.")
    assert similar in result.stderr
    assert "geheim" not in result.output
    assert CliRunner().invoke(app, [*command, "--help"], env={name: "geheim"}).exit_code == 0


def test_an_embedded_ledger_does_not_judge_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to the program that embeds it."""
    monkeypatch.setenv("TALLYBOOK_LEGDER", "sqlite:///usage.db")
    Metering.open("sqlite://").close()


def test_variables_that_are_no_settings_are_accepted() -> None:
    """Those of the tests, of Kubernetes for a Service called `tallybook`, and those of other programs."""
    names = (
        "TALLYBOOK_TEST_POSTGRES", "TALLYBOOK_SERVICE_HOST", "TALLYBOOK_SERVICE_PORT", "TALLYBOOK_SERVICE_PORT_HTTP",
        "TALLYBOOK_PORT_8080_TCP", "TALLYBOOK_PORT_8080_TCP_ADDR", "TALLYBOOKKEEPER", "_TALLYBOOK_COMPLETE", "PATH",
    )  # fmt: skip
    assert unknown_variables(dict.fromkeys(names, "")) == []


def test_the_list_of_variables_is_complete() -> None:
    """It has each setting of the server, and the variable of the worker processes."""

    def variables(model: type[BaseModel], prefix: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            yield f"{prefix}{name}".upper()
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from variables(field.annotation, f"{prefix}{name}{NESTED_DELIMITER}")

    assert {*variables(ServerSettings, ENV_PREFIX), MAX_PROCESSES_SETTING, FILE_VARIABLE} == VARIABLES
    for group, model in (("IMPORTS", ImportSettings), ("CONSUMERS", ConsumerSettings)):
        assert set(variables(model, "")) == NAMED_GROUPS[group]


def test_a_setting_that_is_not_json_is_reported(tmp_path: Path) -> None:
    """A group of settings can be one JSON object."""
    assert "policy" in usage_error(tmp_path, TALLYBOOK_POLICY="{max_age")


def test_an_option_comes_before_the_environment(tmp_path: Path) -> None:
    """An invalid variable of that setting is ignored."""
    stderr = usage_error(tmp_path, "--port", "-1", TALLYBOOK_PORT="8080")
    assert stderr.startswith("tallybook: TALLYBOOK_PORT: ")


def test_several_workers_need_postgresql(tmp_path: Path) -> None:
    """The error is one sentence."""
    assert usage_error(tmp_path, "--workers", "2") == (
        "tallybook: Several workers need a ledger on PostgreSQL: only one process writes to SQLite.\n"
    )


def test_without_its_extra_the_command_prints_how_to_install_it(tmp_path: Path) -> None:
    """In one sentence, with status 2."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['uvicorn'] = None\n")
    completed = subprocess.run(
        [TALLYBOOK, "serve"], env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}, cwd=tmp_path,
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (completed.returncode, completed.stderr) == (
        2,
        "Serving a ledger needs an extra: pip install 'tallybook[server]'\n",
    )
