"""A ledger of an earlier schema version is upgraded when it is opened, and one of a newer version is rejected."""

import shutil
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from tallybook.application import KeyValueEntry, Metering, TallybookError
from tallybook.application.storage.sqlite.ledger_schema import LEDGER_SCHEMA
from tallybook.domain.errors import UnsupportedSchemaVersion

from ..golden.build_ledger import END, NOW, START, record_usage
from .persistent_stores import PersistentStore, PostgresSchema, SQLiteFile, Step, StoreRejected

GOLDEN_LEDGERS = sorted((Path(__file__).parents[1] / "golden").glob("ledger-*.sqlite"))
ENTRIES = {
    "first": KeyValueEntry("golden", "first", 0, b"first"),
    "second": KeyValueEntry("golden", "second", 1, b"second"),
}
TOTALS = {
    "tokens": [("acme", Decimal("255.00"), 12), ("beta", Decimal("127.75"), 7)],
    "seats": [("acme", Decimal("37.25"), 13), ("beta", Decimal("39.25"), 7)],
}


DROP_VERSION_3 = (
    Step("DROP TABLE append_lock"),
    Step("DROP VIEW meter_streams"),
    Step("DROP FUNCTION lock_for_append"),
    Step("DROP FUNCTION recorded_streams"),
    Step(
        "CREATE OR REPLACE FUNCTION stored_events_are_only_appended() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NULL; END'"
    ),
)
"""Steps that remove from a PostgreSQL schema what version 3 added."""
DROP_VERSION_6 = (Step("DROP FUNCTION last_beginning"),)
"""Steps that remove from a PostgreSQL schema what version 6 added."""
DROP_VERSION_7 = (
    *(
        Step(f"DROP TRIGGER {name} ON stored_events")
        for name in (
            "stored_events_are_never_changed",
            "stored_events_are_never_deleted",
            "stored_events_are_pruned_by_record",
        )
    ),
    Step("DROP FUNCTION stored_events_are_pruned_by_record"),
    Step("DROP FUNCTION last_pruning"),
    Step(
        "CREATE TRIGGER stored_events_are_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON stored_events"
        " FOR EACH STATEMENT EXECUTE FUNCTION stored_events_are_never_changed()"
    ),
)
"""Steps that restore what version 7 replaced."""


def assert_is_golden_ledger(metering: Metering) -> None:
    """Check the totals, the closed period and the key-value entries of a golden ledger."""
    for event_name, totals in TOTALS.items():
        assert [(t.customer, t.value, t.count) for t in metering.totals(event_name, START, END)] == totals
    assert len(metering.periods.list("tokens")) == 1
    assert metering.key_value_store().get("golden", ["first", "second"]) == ENTRIES
    assert metering.verify().is_equal


@pytest.mark.parametrize("golden_ledger", GOLDEN_LEDGERS, ids=lambda file: file.stem)
def test_a_ledger_of_an_earlier_version_opens_with_the_same_totals(tmp_path: Path, golden_ledger: Path) -> None:
    """The schema version of the file is the current one afterwards."""
    file = tmp_path / "usage.db"
    shutil.copyfile(golden_ledger, file)
    for _ in range(2):
        with Metering.open(f"sqlite:///{file}", clock=lambda: NOW) as metering:
            assert_is_golden_ledger(metering)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (LEDGER_SCHEMA.version,)
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'k%' ORDER BY name").fetchall()
    assert tables == [("key_values",), ("key_values_by_time",)]


def test_there_is_a_golden_ledger_of_each_earlier_version() -> None:
    """A new schema version needs a golden file of the one before it, see tests/golden/build_ledger.py."""
    assert {file.stem for file in GOLDEN_LEDGERS} >= {
        f"ledger-{version}" for version in range(1, LEDGER_SCHEMA.version)
    }


def test_a_postgresql_ledger_of_version_1_opens_with_the_same_totals(postgres_store: PostgresSchema) -> None:
    """The key-value table of version 1 has another name."""
    with postgres_store.open() as metering:
        record_usage(metering)
    postgres_store.execute(
        "ledger",
        Step("ALTER TABLE key_values RENAME TO kept"),
        Step("ALTER INDEX key_values_pkey RENAME TO kept_pkey"),
        Step("ALTER INDEX key_values_by_time RENAME TO kept_by_time"),
        *DROP_VERSION_3,
        *DROP_VERSION_6,
        *DROP_VERSION_7,
        Step("UPDATE ledger SET version = 1"),
    )
    with postgres_store.open() as metering:
        assert_is_golden_ledger(metering)
    assert postgres_store.ledger_rows("SELECT version FROM ledger") == [(7,)]


def test_a_postgresql_ledger_of_version_2_checks_topics_afterwards(postgres_store: PostgresSchema) -> None:
    """Opening it replaces the function of the trigger."""
    with postgres_store.open() as metering:
        record_usage(metering)
    postgres_store.execute(
        "ledger", *DROP_VERSION_3, *DROP_VERSION_6, *DROP_VERSION_7, Step("UPDATE ledger SET version = 2")
    )
    with postgres_store.open() as metering:
        assert_is_golden_ledger(metering)
        head = metering.catch_up()
    insert = "INSERT INTO stored_events SELECT ?, 'event/new', 1, 'Unknown', state FROM stored_events LIMIT 1"
    with pytest.raises(StoreRejected, match="known topics"):
        postgres_store.execute("ledger", Step(insert, (head + 1,)))


def test_a_postgresql_ledger_of_version_3_accepts_later_topics_afterwards(postgres_store: PostgresSchema) -> None:
    """The function of the trigger knew the topics of its version only; here it knows none."""
    with postgres_store.open() as metering:
        record_usage(metering)
    postgres_store.execute(
        "ledger",
        Step(
            "CREATE OR REPLACE FUNCTION stored_events_are_only_appended() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RAISE EXCEPTION USING ERRCODE = ''integrity_constraint_violation''; END'"
        ),
        *DROP_VERSION_6,
        *DROP_VERSION_7,
        Step("UPDATE ledger SET version = 3"),
    )
    with postgres_store.open() as metering:
        assert_is_golden_ledger(metering)
        assert metering.meters.deactivate("tokens").deactivated_at is not None


def test_a_migration_without_key_value_table_creates_none(file_store: SQLiteFile) -> None:
    """The table is created when a program first uses the key-value store."""
    file_store.open().close()
    file_store.execute("ledger", Step("DROP TRIGGER recorded_times_never_decrease"), Step("PRAGMA user_version = 1"))
    file_store.open().close()
    assert file_store.ledger_rows("PRAGMA user_version") == [(4,)]
    assert file_store.ledger_rows("SELECT name FROM sqlite_schema WHERE name LIKE 'k%'") == []


def test_an_upgraded_ledger_has_the_triggers_of_a_new_one(persistent_store: PersistentStore, tmp_path: Path) -> None:
    """They allow pruning and nothing else."""
    is_sqlite = isinstance(persistent_store, SQLiteFile)
    definitions = (
        "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY name"
        if is_sqlite
        else "SELECT tgname::text, pg_get_triggerdef(oid) FROM pg_trigger"
        " WHERE tgrelid = 'stored_events'::regclass ORDER BY tgname"
    )
    persistent_store.open().close()
    expected = persistent_store.ledger_rows(definitions)
    assert expected
    upgraded = persistent_store
    if is_sqlite:
        shutil.copyfile(GOLDEN_LEDGERS[-1], tmp_path / "golden.db")
        upgraded = SQLiteFile.in_file(tmp_path / "golden.db")
    else:
        persistent_store.execute("ledger", *DROP_VERSION_7, Step("UPDATE ledger SET version = 6"))
    assert upgraded.ledger_rows(definitions) != expected
    upgraded.open().close()
    assert upgraded.ledger_rows(definitions) == expected


def test_a_ledger_of_a_newer_version_is_rejected(persistent_store: PersistentStore) -> None:
    """The error names both versions, and the ledger is unchanged."""
    persistent_store.open().close()
    is_sqlite = isinstance(persistent_store, SQLiteFile)
    set_version = "PRAGMA user_version = 9" if is_sqlite else "UPDATE ledger SET version = 9"
    persistent_store.execute("ledger", Step(set_version))
    with pytest.raises(TallybookError, match=r"schema version 9.* up to [47]") as exc_info:
        persistent_store.open()
    assert isinstance(exc_info.value, UnsupportedSchemaVersion)
