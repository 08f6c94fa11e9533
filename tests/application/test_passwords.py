"""Passwords are not shown in errors about a URL or settings."""

import pytest
from pydantic import ValidationError
from tallybook.application import Metering, PostgresSettings, TallybookError
from tallybook.application.storage.url import resolve_store

SECRET = "sesame"


@pytest.mark.parametrize(
    "url",
    [
        f"host=db user=ops password={SECRET}",
        f"password={SECRET}",
        f"postgresq://ops:1/{SECRET}@db/usage",
        f"POSTGRESQL://ops:{SECRET}@db/usage",
        f"postgresql+psycopg://ops:1@{SECRET}@db/usage",
        f"postgresq://db/usage?password={SECRET}",
        f"postgresql://ops:{SECRET}%zz@db/usage",
        f"postgresql://ops:{SECRET}%00@db/usage",
        f"postgresql://ops@db/usage?password={SECRET}%zz",
        f"postgresql://ops:1/{SECRET}@db/usage",
        f"postgresql://ops:1@{SECRET}@db/usage",
        f"sqlite://ops:{SECRET}@db/usage",
    ],
)
def test_a_password_in_an_invalid_url_is_never_shown(url: str) -> None:
    """The message masks it for every kind of invalid URL."""
    with pytest.raises(TallybookError) as exc_info:
        Metering.open(url)
    assert exc_info.value.code == "invalid_ledger_url"
    assert SECRET not in f"{exc_info.value!r} {exc_info.value} {exc_info.value.as_dict()}"


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
        assert SECRET not in str(exc_info.value)


def test_parameters_unknown_to_libpq_are_rejected() -> None:
    """As in a URL, before a connection is opened."""
    with pytest.raises(TallybookError) as exc_info:
        Metering.open(PostgresSettings(parameters={"colour": "red"}))
    assert exc_info.value.code == "invalid_ledger_url"
    assert "colour" in exc_info.value.message
