"""A ledger URL on PostgreSQL is libpq's own, and a schema."""

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
def test_all_that_is_said_to_libpq_reaches_it_as_it_is(url: str, schema: str | None) -> None:
    """Wherever the schema stands among the parameters, and however it is written."""
    given = url
    if schema is not None:
        encoded = "schema=" + "".join(f"%{byte:02x}" for byte in schema.encode())
        given = url.replace("?", f"?{encoded}&") if "?" in url else f"{url}?{encoded}"
    settings = PostgresSettings.parse(given)
    assert conninfo_to_dict(settings.url.get_secret_value()) == conninfo_to_dict(url)
    assert settings.schema_name == (schema or "tallybook")


@pytest.mark.parametrize(
    "query",
    ["schema=", "schema=pg_usage", "schema=a&schema=b", "schema=%ff", "schema=%00", "schema=" + "ü" * 29],
)
def test_a_schema_that_can_not_be_is_refused(query: str) -> None:
    """None at all, one of the server's own, two, one that is no text, and one that is too long."""
    with pytest.raises(TallybookError) as refused:
        PostgresSettings.parse(f"postgresql://ops:secret@/usage?{query}")
    assert refused.value.code == "invalid_ledger_url"
    assert refused.value.field == "url"
    assert "secret" not in str(refused.value)
