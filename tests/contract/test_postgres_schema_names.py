"""One schema never holds a ledger and the read models of another one, because read models may be dropped."""

import pytest
from tallybook.application import Metering, TallybookError

from ..postgres import Database
from .histories import END, START
from .persistent_stores import PostgresSchema
from .stores import ANY_TIME, NOW


def open_ledger(store: PostgresSchema, suffix: str) -> Metering:
    """Open a ledger in the schema of a store, or in one whose name starts with it."""
    return Metering.open(store.database.at(store.schema + suffix), policy=ANY_TIME, clock=lambda: NOW)


def record_and_query(store: PostgresSchema, suffix: str = "") -> None:
    """Create a ledger with its read models."""
    with open_ledger(store, suffix) as metering:
        metering.meters.configure("tokens", customer_key="customer")
        metering.record("tokens", {"customer": "acme", "value": "1"}, identifier="request", timestamp=START)
        assert metering.total("tokens", "acme", START, END).count == 1


def assert_rejected(store: PostgresSchema, suffix: str, advice: str) -> None:
    """Opening creates nothing, and the error says what to do."""
    before = store.list_objects()
    with pytest.raises(TallybookError, match=advice) as exc_info:
        open_ledger(store, suffix)
    assert (exc_info.value.code, exc_info.value.field) == ("invalid_ledger_url", "url")
    assert store.list_objects() == before


@pytest.fixture(autouse=True)
def _drop_schemas(postgres: Database, postgres_store: PostgresSchema) -> object:
    """Drop the schemas that are not the store's own."""
    yield
    postgres.drop_schemas()


def test_a_ledger_is_not_created_in_the_schema_of_read_models(postgres_store: PostgresSchema) -> None:
    """The schema is reserved for read models, even if there are none."""
    record_and_query(postgres_store)
    assert_rejected(
        postgres_store, "_read_models", f"of the ledger in the schema '{postgres_store.schema}'. Use another"
    )
    postgres_store.delete_read_models()
    assert_rejected(postgres_store, "_read_models", "Use another schema for this ledger")
    record_and_query(postgres_store)


def test_read_models_without_their_ledger_are_not_used_as_a_ledger(postgres_store: PostgresSchema) -> None:
    """The schema of the ledger may have been renamed."""
    record_and_query(postgres_store)
    postgres_store.ledger_rows(f"ALTER SCHEMA {postgres_store.schema} RENAME TO {postgres_store.schema}_old")
    assert_rejected(postgres_store, "_read_models", "Use another schema for this ledger")


def test_a_ledger_is_not_opened_if_another_one_is_in_the_schema_of_its_read_models(
    postgres_store: PostgresSchema,
) -> None:
    """The other ledger can still be opened, also after the one that is rejected was renamed away."""
    record_and_query(postgres_store, "_read_models")
    assert_rejected(postgres_store, "", "which holds another ledger. Use another schema.*or rename that schema")
    record_again = open_ledger(postgres_store, "_read_models")
    with record_again as metering:
        assert metering.total("tokens", "acme", START, END).count == 1


@pytest.mark.parametrize("suffix", ["_test", "_read", "_read_models2"])
def test_schemas_with_similar_names_are_independent(postgres_store: PostgresSchema, suffix: str) -> None:
    """One of them is the schema of a server's test ledger."""
    record_and_query(postgres_store)
    record_and_query(postgres_store, suffix)
    with open_ledger(postgres_store, "") as metering:
        assert metering.verify().is_equal
