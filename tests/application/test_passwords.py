"""Passwords are shown nowhere, whatever is wrong with a URL or with settings."""

import pytest
from pydantic import ValidationError
from tallybook.application import Metering, PostgresSettings, TallybookError
from tallybook.application.ledger_url import locate

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
def test_a_password_in_a_mistyped_url_is_shown_nowhere(url: str) -> None:
    """Whatever is wrong with the URL."""
    with pytest.raises(TallybookError) as refused:
        Metering.open(url)
    assert refused.value.code == "invalid_ledger_url"
    assert SECRET not in f"{refused.value!r} {refused.value} {refused.value.as_dict()}"


def test_a_password_among_parameters_is_shown_nowhere() -> None:
    """Neither by the settings, nor by the store, nor where settings are refused."""
    settings = PostgresSettings(parameters={"password": SECRET})
    assert SECRET not in f"{settings!r} {settings} {locate(settings)!r}"
    for wrong in ({"password": SECRET}, {"parameters": f"password={SECRET}"}, {"parameters": {"password": [SECRET]}}):
        with pytest.raises(ValidationError) as refused:
            PostgresSettings.model_validate(wrong)
        assert SECRET not in str(refused.value)


def test_parameters_that_libpq_does_not_know_are_refused() -> None:
    """As in a URL, before anything is connected to."""
    with pytest.raises(TallybookError) as refused:
        Metering.open(PostgresSettings(parameters={"colour": "red"}))
    assert refused.value.code == "invalid_ledger_url"
    assert "colour" in refused.value.message
