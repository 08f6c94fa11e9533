"""A PostgreSQL ledger URL is a libpq URL with a schema parameter."""

import pytest
from psycopg.conninfo import conninfo_to_dict
from tallybook.application import PostgresSettings, TallybookError


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgresql:///usage",
        "postgresql:///usage?host=/var/run/postgresql",
        "postgresql:///usage?host=%2Fvar%2Frun%2Fpostgresql",
        "postgres://ops@/usage?host=/a+b",
        "postgresql://ops:a%2Bb+c%40@db.example:5433/usage?sslmode=require",
        "postgresql://?service=usage",
        "postgresql://ops@one:5432,two:5433/usage?target_session_attrs=read-write",
        "postgresql://[::1]/usage?options=-c%20statement_timeout%3D5s&application_name=a%26b",
    ],
)
@pytest.mark.parametrize("schema", [None, "usage", "a+b", "a b&c=ü"])
def test_libpq_parameters_are_passed_unchanged(url: str, schema: str | None) -> None:
    """At any position of the schema among the parameters, and however it is encoded."""
    encoded_url = url
    if schema is not None:
        encoded = "schema=" + "".join(f"%{byte:02x}" for byte in schema.encode())
        encoded_url = url.replace("?", f"?{encoded}&") if "?" in url else f"{url}?{encoded}"
    settings = PostgresSettings.parse(encoded_url)
    assert conninfo_to_dict(settings.url.get_secret_value()) == conninfo_to_dict(url)
    assert settings.schema_name == (schema or "tallybook")


@pytest.mark.parametrize(
    "query",
    ["schema=", "schema=pg_usage", "schema=a&schema=b", "schema=%ff", "schema=%00", "schema=" + "ü" * 29],
)
def test_an_invalid_schema_is_rejected(query: str) -> None:
    """An empty name, a reserved one, two schemas, invalid UTF-8, and a name that is too long."""
    with pytest.raises(TallybookError) as exc_info:
        PostgresSettings.parse(f"postgresql://ops:secret@/usage?{query}")
    assert exc_info.value.code == "invalid_ledger_url"
    assert exc_info.value.field == "url"
    assert "secret" not in str(exc_info.value)
