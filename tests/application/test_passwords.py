"""Passwords are not shown: in errors, their tracebacks, the repr of settings, and the output of commands."""

import os
import traceback

import pytest
from pydantic import SecretStr, ValidationError
from tallybook.application import Metering, PostgresSettings, TallybookError
from tallybook.application.interfaces.cli.app import app
from tallybook.application.interfaces.http.settings import ServerSettings
from tallybook.application.redaction import redact
from tallybook.application.storage.url import resolve_store
from typer.testing import CliRunner

SECRET = "sesame"


INVALID_URLS = [
    f"host=db user=ops password={SECRET}",
    f"password={SECRET}",
    f"password = '{SECRET} and more'",
    f"postgresq://ops:1/{SECRET}@db/usage",
    f"postgresq://ops:{SECRET}",
    f"postgresq://ops:1@2 {SECRET}@db/usage",
    f"postgresq://ops%3A{SECRET}@db/usage",
    f"postgresql//ops:{SECRET}@db/usage",
    f"ops:{SECRET}@db/usage",
    f"POSTGRESQL://ops:{SECRET}@db/usage",
    f"postgresql+psycopg://ops:1@{SECRET}@db/usage",
    f"postgresq://db/usage?password={SECRET}",
    f"postgresq://db/usage?pgpass={SECRET}",
    f"postgresq://[ops:{SECRET}@db/usage",
    f"postgresq://ops:{SECRET}\uff03@db/usage",  # urlsplit names the host and password in its error
    f"postgresql://ops:{SECRET}@[::1/usage",
    f'postgresql://ops:a"{SECRET}"b@[::1/usage',
    f"postgresql://ops:{SECRET}@[::1]x/usage",
    f"postgresql://ops:{SECRET}@[]/usage",
    f"postgresql://ops:{SECRET}",
    f"postgresql://ops@db:{SECRET}/usage",
    f"postgresql://ops:{SECRET}@db:http/usage",
    f"postgresql://ops:{SECRET}%zz@db/usage",
    f"postgresql://ops:{SECRET}%00@db/usage",
    f"postgresql://ops@db/usage?password={SECRET}%zz",
    f"postgresql://ops@db/usage?{SECRET}",
    f"postgresql://ops@db/usage?{SECRET}=1",
    f"postgresql://ops@db/usage?passwort={SECRET}",
    f"postgresql://ops@db/usage?password={SECRET}=",
    f"postgresql://ops:1?{SECRET}/x@db/usage",
    f"postgresql://ops:1/{SECRET}@db/usage",
    f"postgresql://ops:1@{SECRET}@db/usage",
    f"postgresql://ops:{SECRET}@db/usage?schema=pg_x",
    f"postgresql://ops:{SECRET}@db/usage?schema=a&schema=b",
    f"postgresql://ops:{SECRET}@db/usage?schema=%ff",
    f"sqlite://ops:{SECRET}@db/usage",
    f"sqlite:///usage.db?password={SECRET}",
    f"sqlite:///usage.db#{SECRET}",
]
"""URLs that cannot be used, with a password in any place where one may be typed."""


@pytest.mark.parametrize("url", INVALID_URLS)
def test_a_password_in_an_invalid_url_is_never_shown(url: str) -> None:
    """Neither in the error, as text or as data, nor in its traceback."""
    with pytest.raises(TallybookError) as exc_info:
        Metering.open(url)
    error = exc_info.value
    assert error.code == "invalid_ledger_url"
    traceback_text = "".join(traceback.format_exception(error)[1:])
    shown = f"{error!r} {error} {error.as_dict()} {error.value} {lines_without_source(traceback_text)}"
    assert SECRET not in shown


def test_a_password_of_a_server_that_cannot_be_reached_is_never_shown() -> None:
    """Neither in the error nor in the psycopg error that caused it."""
    settings = PostgresSettings(
        url=SecretStr(f"postgresql://ops:{SECRET}@127.0.0.1:1/usage?sslpassword={SECRET}"), timeout_seconds=0.1
    )
    with pytest.raises(TallybookError) as exc_info:
        Metering.open(settings)
    traceback_text = "".join(traceback.format_exception(exc_info.value)[1:])
    assert SECRET not in f"{exc_info.value!r} {lines_without_source(traceback_text)}"


def lines_without_source(traceback_text: str) -> str:
    """Return a traceback without the lines of source code, of which this file has some with the password."""
    return "\n".join(line for line in traceback_text.splitlines() if not line.startswith("    "))


@pytest.mark.parametrize("url", INVALID_URLS)
def test_a_password_is_never_printed_by_a_command(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an option, from the environment, in the place of another argument, and when a server starts."""
    for name in [name for name in os.environ if name.startswith("TALLYBOOK_")]:
        monkeypatch.delenv(name)
    runs: list[tuple[list[str], dict[str, str]]] = [
        (["meter", "list", "--ledger", url], {}),
        (["meter", "list", "--ledger", url, "--json"], {}),
        (["meter", "list"], {"TALLYBOOK_LEDGER": url}),
        (["serve", "--ledger", url], {}),
        (["serve"], {"TALLYBOOK_LEDGER": url}),
        (["serve", "--port", "no"], {"TALLYBOOK_LEDGER": url}),
    ]
    for arguments, environment in runs:
        result = CliRunner().invoke(app, arguments, env=environment)
        assert result.exit_code in {1, 2}, (arguments, result.output)
        assert SECRET not in result.output + str(result.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "{}"],
        ["{}"],
        ["meter", "{}"],
        ["meter", "list", "{}"],
        ["total", "tokens", "acme", "x", "{}"],
        ["projection", "drop", "{}"],
        ["total", "--as-off={}"],
    ],
)
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ops:{SECRET}@db/usage",
        f"postgresql://ops:1@{SECRET}@db/usage",
        f"postgresql://db/usage?user=ops&password={SECRET}",
        f"host=db password='a {SECRET}'",
    ],
)
def test_a_password_in_the_place_of_another_argument_is_never_printed(arguments: list[str], url: str) -> None:
    """A usage error shows the argument without it."""
    result = CliRunner().invoke(app, [argument.format(url) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert SECRET not in result.output + str(result.exception)


def test_redaction_changes_no_other_text() -> None:
    """Only users and passwords of URLs, and values of password parameters."""
    for text in (
        "a ledger URL is one of 'sqlite:///usage.db' (a file here), 'sqlite://' or 'postgresql://user@host/database'",
        "record flights passengers=12 compass=north",
        "https://example.com:8080/a?b=c",
    ):
        assert redact(text) == text
    assert redact("connect to postgresql://ops:a@b/c@db/usage") == "connect to postgresql://…@db/usage"
    assert redact("host=db PGPASSWORD = 'a b' user=ops") == "host=db PGPASSWORD = … user=ops"


def test_a_password_in_the_parameters_is_never_shown() -> None:
    """Not in the repr of the settings, nor in that of the store, nor in an error about invalid settings."""
    settings = PostgresSettings(parameters={"password": SECRET})
    assert SECRET not in f"{settings!r} {settings} {resolve_store(settings)!r}"
    for arguments in (
        {"password": SECRET},
        {"parameters": f"password={SECRET}"},
        {"parameters": {"password": [SECRET]}},
    ):
        with pytest.raises(ValidationError) as exc_info:
            PostgresSettings.model_validate(arguments)
        error = exc_info.value
        assert SECRET not in f"{error} {error!r} {error.errors()} {error.json()}"


def test_a_password_in_server_settings_is_never_shown() -> None:
    """Neither in their repr nor in an error about them, as text or as data."""
    settings = ServerSettings(ledger=f"postgresql://ops:{SECRET}@db/usage")
    assert SECRET not in f"{settings!r} {settings}"
    with pytest.raises(ValidationError) as exc_info:
        ServerSettings(ledger=f"postgresq://ops:{SECRET}@db/usage")
    error = exc_info.value
    assert SECRET not in f"{error} {error!r} {error.errors()} {error.json()}"


def test_parameters_unknown_to_libpq_are_rejected() -> None:
    """As in a URL, before a connection is opened."""
    with pytest.raises(TallybookError) as exc_info:
        Metering.open(PostgresSettings(parameters={"colour": "red"}))
    assert exc_info.value.code == "invalid_ledger_url"
    assert "colour" in exc_info.value.message
