"""The roles of docs/guides/postgresql.md: its SQL is executed as it stands, and the program runs as each user."""

import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from tallybook.application import (
    AcceptancePolicy,
    EntryExists,
    KeyValueEntry,
    Metering,
    PostgresSettings,
    PruningResult,
    TallybookError,
)
from tallybook.application.checkpoints.signing_keys import PrivateKey
from tallybook.domain.errors import DuplicateMeterEvent, PermissionDenied

from tests.docs.roles import DAY, TOKENS, acme_total, connect_as, open_as, record, run_projection


@contextmanager
def expect_error(code: str = "database_permission_denied") -> Generator[None]:
    """Expect an error with this code."""
    with pytest.raises(TallybookError) as exc_info:
        yield
    assert exc_info.value.code == code, exc_info.value


def test_the_recorder_role_records(roles: None) -> None:
    """Single meter events and batches, of meters of each kind; and nothing else."""
    with open_as("manager") as manager:
        manager.meters.configure("seats", formula="last", customer_key="customer", value_key="seats")
        filter_test = {"not": {"key": "kind", "equals": "test"}}
        manager.meters.configure("filtered", customer_key="customer", dimension_keys=["region"], filter=filter_test)
        manager.meters.configure("calls", formula="count", customer_key="customer", value_key="no")
    with open_as("api") as metering:
        record(metering, "req-1")
        batch = [{"event_name": "tokens", "payload": {"customer": "acme", "tokens": "-1.50"}} for _ in range(3)]
        for name, fields in {"filtered": {"kind": "test"}, "calls": {}, "seats": {"seats": "3"}}.items():
            batch.append({"event_name": name, "payload": {"customer": "acme", **fields}})
        assert {str(receipt.outcome) for receipt in metering.record_many(batch)} == {"accepted"}
        for command in (
            lambda: metering.cancel("tokens", "req-1", reason="a test"),
            lambda: metering.meters.rename("seats", "Seats"),
            lambda: metering.meters.configure("mine"),
        ):
            with expect_error():
                command()


def test_the_role_for_changes_configures_and_cancels(roles: None) -> None:
    """Each of these is an event; it records too."""
    with open_as("manager") as metering:
        metering.meters.configure("tokens", **TOKENS)
        metering.meters.configure("seats", formula="last", customer_key="customer", value_key="seats")
        record(metering, "req-1")
        batch = [{"event_name": "tokens", "payload": {"customer": "acme", "tokens": "1"}} for _ in range(3)]
        assert {str(receipt.outcome) for receipt in metering.record_many(batch)} == {"accepted"}
        assert metering.cancel("tokens", "req-1", reason="a test").identifier == "req-1"
        metering.meters.rename("seats", "Seats")
        assert [meter.event_name for meter in metering.meters.list()] == ["seats", "tokens"]


QUERIES: dict[str, Callable[[Metering], object]] = {
    "total": acme_total,
    "totals": lambda metering: metering.totals("tokens", datetime.now(UTC) - DAY, datetime.now(UTC) + DAY),
    "explain": lambda metering: metering.explain("tokens", "acme", datetime.now(UTC) - DAY, datetime.now(UTC) + DAY),
    "events": lambda metering: metering.events("tokens"),
    "verify": lambda metering: metering.verify(),
    "generations": lambda metering: metering.generations.list(),
}
REBUILDING: dict[str, Callable[[Metering], object]] = {
    "rebuild": lambda metering: metering.generations.rebuild(),
    "candidate": lambda metering: metering.generations.build_candidate("tokens", {"formula": "count"}),
    "promote": lambda metering: metering.generations.promote(1),
    "drop": lambda metering: metering.generations.drop(1),
}
RECORDING: dict[str, Callable[[Metering], object]] = {
    "record": lambda metering: record(metering, "req-1"),
    "record_many": lambda metering: metering.record_many(
        [{"event_name": "tokens", "payload": {"customer": "acme", "tokens": "1"}}]
    ),
    "meters.configure": lambda metering: metering.meters.configure("seats"),
    "meters.rename": lambda metering: metering.meters.rename("tokens", "Tokens"),
    "cancel": lambda metering: metering.cancel("tokens", "of the owner"),
}


@pytest.mark.parametrize("operation", [*QUERIES, *REBUILDING])
def test_the_recorder_role_may_do_nothing_else(roles: None, operation: str) -> None:
    """It may neither query nor build generations."""
    with open_as("api") as metering, expect_error():
        {**QUERIES, **REBUILDING}[operation](metering)


@pytest.mark.parametrize("operation", [*RECORDING, *REBUILDING])
def test_the_reader_role_may_do_nothing_else(roles: None, operation: str) -> None:
    """It may neither record nor build generations."""
    with run_projection(), open_as("reports") as metering:
        assert acme_total(metering) == 10
        with expect_error():
            {**RECORDING, **REBUILDING}[operation](metering)


@pytest.mark.parametrize("operation", RECORDING)
def test_the_rebuilder_role_may_not_record(roles: None, operation: str) -> None:
    """It may not record meters, meter events or cancellations."""
    with open_as("projector") as metering, expect_error():
        RECORDING[operation](metering)


def test_the_reader_role_reads_projected_data(roles: None) -> None:
    """It reads the newest events of other processes, from this generation and from later ones."""
    with run_projection(), open_as("api") as api, open_as("reports") as reader:
        record(api, "req-1")
        assert acme_total(reader) == 20
        for operation in QUERIES.values():
            operation(reader)
        assert reader.verify().is_equal
        with open_as("projector") as projector:
            assert projector.generations.promote(projector.generations.rebuild().number).state == "live"
        record(api, "req-2")
        assert acme_total(reader) == 30
        assert [str(generation.state) for generation in reader.generations.list()] == ["retired", "live"]


def test_without_a_projection_the_reader_role_times_out(roles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what is missing, however often it has looked; queries of projected events succeed."""
    monkeypatch.setattr("tallybook.application.queries.freshness.PROJECTION_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr("tallybook.application.queries.freshness._MAX_ATTEMPTS", 5)
    with open_as("projector") as projector:
        projector.catch_up()
    with open_as("reports") as reader, open_as("api") as api:
        assert acme_total(reader) == 10
        record(api, "req-1")
        with pytest.raises(TallybookError, match="tallybook projection run") as waited:
            acme_total(reader)
        assert waited.value.code == "ledger_unavailable"


def test_the_reader_role_waits_for_the_first_projection(roles: None) -> None:
    """It also waits if the read models and their tables do not exist yet."""
    totals: list[int] = []
    with open_as("reports") as reader:
        query_thread = threading.Thread(target=lambda: totals.append(acme_total(reader)))
        query_thread.start()
        query_thread.join(0.5)
        assert query_thread.is_alive()
        with run_projection():
            query_thread.join()
    assert totals == [10]


def test_the_rebuilder_role_builds_promotes_and_drops(roles: None) -> None:
    """It may do everything except change rules, for which the page has another grant."""
    with open_as("projector") as metering:
        assert acme_total(metering) == 10
        second = metering.generations.rebuild()
        metering.generations.promote(second.number)
        metering.generations.drop(1)
        assert metering.verify().is_equal
        candidate = metering.generations.build_candidate("tokens", {"formula": "count"})
        assert [
            (difference.before, difference.after)
            for difference in metering.generations.diff(candidate.number).differences
        ] == [(10, 1)]
        with expect_error():
            metering.generations.promote(candidate.number, reason="a test")
        assert acme_total(metering) == 10
        with psycopg.connect("postgresql:///billing") as administrator:
            administrator.execute("GRANT tallybook_change TO tallybook_rebuild")
        metering.generations.promote(candidate.number, reason="a test")
        assert acme_total(metering) == 1


def test_a_role_that_reads_and_changes_closes_periods(roles: None) -> None:
    """A user in both roles may close periods."""
    with psycopg.connect("postgresql:///billing") as administrator:
        administrator.execute("CREATE ROLE closer LOGIN IN ROLE tallybook_change, tallybook_read")
    start = datetime.now(UTC) - 3 * DAY
    with run_projection(), open_as("closer") as metering:
        closed = metering.periods.close("tokens", "acme", start, start + DAY)
        assert metering.periods.list("tokens", "acme") == [closed]


def test_the_server_role_stores_entries_with_recorded_events(server: None) -> None:
    """It also changes entries and queries; other roles may not."""
    event_input = {"event_name": "tokens", "payload": {"customer": "acme", "tokens": "1"}}
    row = KeyValueEntry("answer", "key", 1, b"")
    with run_projection(), open_as("server") as metering:
        metering.record_many([event_input], attach=lambda receipts, now: [row])
        with pytest.raises(EntryExists):
            metering.record_many([event_input], attach=lambda receipts, now: [row])
        key_values = metering.key_value_store()
        assert key_values.get("answer", ["key"]) == {"key": row}
        key_values.apply(upsert=[row], insert=[row._replace(key="other")], delete=[("answer", "never there")])
        assert key_values.delete_due_before("answer", 1, 10) == 2
        with key_values.try_lock("sweeping") as is_locked:
            assert is_locked
        assert acme_total(metering) == 11
    with closing(connect_as("server")) as connection:  # as after a lost connection
        connection.execute("BEGIN; LOCK TABLE tallybook.key_values IN SHARE MODE")
    for user in ("api", "reports", "projector"):
        with open_as(user) as metering, expect_error():
            metering.key_value_store().scan("answer", limit=1)


def test_a_missing_key_value_table_is_reported_with_a_hint(roles: None) -> None:
    """The owner has to create the table. Recording without it works."""
    with open_as("api") as metering:
        with pytest.raises(
            TallybookError, match=r"owner call Metering\.key_value_store\(\) once, and grant"
        ) as exc_info:
            metering.key_value_store()
        assert exc_info.value.code == "database_permission_denied"
        record(metering, "req-1")


INSERT_EVENT = (
    "INSERT INTO tallybook.stored_events"
    " VALUES (3, 'meter/a', 1, 'Renamed', convert_to(json_build_object('recorded_at', now())::text, 'UTF8'))"
)
REWRITING = {
    "update": "UPDATE tallybook.stored_events SET topic = ''",
    "delete": "DELETE FROM tallybook.stored_events",
    "truncate": "TRUNCATE tallybook.stored_events",
    "drop": "DROP TABLE tallybook.stored_events",
    "drop trigger": "DROP TRIGGER stored_events_are_never_changed ON tallybook.stored_events",
    "disable trigger": "ALTER TABLE tallybook.stored_events DISABLE TRIGGER ALL",
    "replica": "SET session_replication_role = 'replica'",
    "change what a trigger does": "CREATE OR REPLACE FUNCTION tallybook.stored_events_are_never_changed()"
    " RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "version": "UPDATE tallybook.ledger SET version = 9",
}


@pytest.mark.parametrize("statement", REWRITING.values(), ids=REWRITING)
@pytest.mark.parametrize("user", ["api", "reports", "projector", "server"])
def test_no_role_rewrites_stored_events(server: None, user: str, statement: str) -> None:
    """The database rejects it without the program, too."""
    with closing(connect_as(user)) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement.encode())


@pytest.mark.parametrize("user", ["reports", "projector"])
def test_roles_without_record_permission_insert_nothing(roles: None, user: str) -> None:
    """They may not take the lock of appending processes either."""
    for statement in (INSERT_EVENT, "INSERT INTO tallybook.append_lock SELECT WHERE false"):
        with closing(connect_as(user)) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute(f"BEGIN; {statement}".encode())


@pytest.mark.parametrize("position", [1, 2, 4, 0])
def test_recording_roles_insert_only_at_the_end(roles: None, position: int) -> None:
    """A trigger checks the position; the next one is 3."""
    with closing(connect_as("manager")) as connection, pytest.raises(errors.IntegrityError):
        connection.execute(INSERT_EVENT.replace("(3", f"({position}").encode())


def test_a_trigger_is_not_fooled_by_functions_of_the_user(roles: None) -> None:
    """A program may own a schema with operators that have the same names as those in the trigger."""
    with psycopg.connect("postgresql:///billing") as administrator:
        administrator.execute("CREATE SCHEMA mine AUTHORIZATION manager")
    with closing(connect_as("manager")) as connection:
        for left_type, operator, right_type in (("bigint", "<>", "bigint"), ("bigint", ">", "integer")):
            never = f"FUNCTION mine.never(a {left_type}, b {right_type}) RETURNS boolean LANGUAGE sql AS 'SELECT false'"
            takes = f"FUNCTION = mine.never, LEFTARG = {left_type}, RIGHTARG = {right_type}"
            connection.execute(f"CREATE {never}; CREATE OPERATOR mine.{operator} ({takes})".encode())
        connection.execute("SET search_path = mine, pg_catalog")
        with pytest.raises(errors.IntegrityError):
            connection.execute(INSERT_EVENT.replace("(3", "(9").encode())


def test_the_recorder_role_cannot_read_the_read_models(roles: None) -> None:
    """It may not read the tables of their schema."""
    with open_as("projector") as projector:
        projector.catch_up()
    with closing(connect_as("api")) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute("SELECT FROM tallybook_read_models.generations")


def test_all_read_models_belong_to_the_role(roles: None) -> None:
    """Every member of the role can therefore drop them."""
    with open_as("projector") as projector:
        projector.generations.rebuild()
    with closing(connect_as("reports")) as connection:
        owners = connection.execute(
            "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'tallybook_read_models'"
        )
        assert owners.fetchall() == [("tallybook_rebuild",)]


def test_the_recorder_role_recognizes_duplicates_of_pruned_usage(roles: None, tmp_path: Path) -> None:
    """It reads which archive has the contents, and not the ledger. Nobody but the owner can prune."""
    lifted = AcceptancePolicy(max_age=None, cancel_window=None)
    key = PrivateKey.generate(tmp_path / "key", "tallybook").public_key
    checkpoints, archive = tmp_path / "checkpoints", tmp_path / "archive"
    with open_as("api") as metering:
        record(metering, "req-1")

    def prune(user: str) -> PruningResult:
        with Metering.open(PostgresSettings(parameters={"dbname": "billing", "user": user}), policy=lifted) as metering:
            return metering.archive.prune(archive, checkpoints=checkpoints, key=str(key), keep=timedelta(0))

    with open_as("billing") as owner:
        owner.archive.export(archive)
        owner.checkpoints.create(checkpoints, key=tmp_path / "key")
    with run_projection():
        with pytest.raises(PermissionDenied):
            prune("manager")
        assert prune("billing").events > 0
    payload = {"customer": "acme", "tokens": "10"}
    with open_as("api") as metering:
        assert metering.record("tokens", payload, identifier="req-1").outcome == "duplicate"
        with pytest.raises(DuplicateMeterEvent):
            metering.record("tokens", {**payload, "tokens": "11"}, identifier="req-1")
