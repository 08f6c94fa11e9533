"""Attacks as each role of docs/guides/postgresql.md, on plain connections, without the program."""

import json
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import errors
from tallybook.application import DatabasePermissionDenied, TallybookError
from tallybook.application.storage.ports import RowRejected
from tallybook.application.storage.postgres.errors import translate_errors

from tests.docs.roles import DAY, acme_total, connect_as, open_as, record, run_projection
from tests.postgres import Server

EVENTS = "tallybook.stored_events"
HEAD = 4
"""The position of the newest event: a meter, an event and an access key of the owner, and an event of `api`."""
DENIED = errors.InsufficientPrivilege


@pytest.fixture
def attacked(server: None) -> None:
    """Create an access key, one more event, and the read models."""
    with open_as("billing") as owner:
        owner.access_keys.create(["record"], "ci")
    with open_as("api") as metering:
        record(metering, "request-1")
    with open_as("projector") as metering:
        metering.catch_up()


def state(recorded_ago: timedelta = timedelta(), occurred_ago: timedelta = timedelta(), **fields: object) -> str:
    """Return the JSON of a meter event."""
    now = datetime.now(UTC)
    times = {"recorded_at": _text(now - recorded_ago), "occurred_at": _text(now - occurred_ago)}
    event = times | {"event_name": "tokens", "payload": {"customer": "acme", "tokens": "1"}} | fields
    return json.dumps(event, separators=(",", ":"))  # as the ledger writes it: it begins with its time


def _text(at: datetime) -> str:
    return at.replace(tzinfo=None).isoformat() + "Z"


def insert(user: str, stream: str, topic: str, event_state: str, position: int = HEAD + 1) -> None:
    """Append an event as a user, who takes the lock first."""
    with closing(connect_as(user)) as connection, connection.transaction():
        connection.execute("INSERT INTO tallybook.append_lock SELECT WHERE false")
        connection.execute(
            f"INSERT INTO {EVENTS} VALUES (%s, %s, 1, %s, %s)".encode(), (position, stream, topic, event_state.encode())
        )


def test_the_recorder_role_appends_what_recording_appends(attacked: None) -> None:
    """The attacks below fail for their own reason: this statement, which differs little from them, succeeds."""
    insert("api", "event/x", "UsageRecorded", state())
    with run_projection(), open_as("reports") as metering:
        assert acme_total(metering) == 21


REJECTED_EVENTS: dict[str, tuple[str, str, dict[str, Any], type[psycopg.Error]]] = {
    "unknown topic": ("event/x", "Unknown", {}, errors.IntegrityError),
    "topic of another kind of stream": ("meter/x", "UsageRecorded", {}, errors.IntegrityError),
    "unknown kind of stream": ("other/x", "UsageRecorded", {}, errors.IntegrityError),
    "access key": ("key/x", "AccessKeyCreated", {}, DENIED),
    "access key in another stream": ("event/x", "AccessKeyCreated", {}, errors.IntegrityError),
    "revocation of an access key": ("key/x", "AccessKeyRevoked", {}, DENIED),
    "recorded an hour ago": ("event/x", "UsageRecorded", {"recorded_ago": timedelta(hours=1)}, DENIED),
    "recorded in an hour": ("event/x", "UsageRecorded", {"recorded_ago": -timedelta(hours=1)}, DENIED),
    "occurred too early": ("event/x", "UsageRecorded", {"occurred_ago": 36 * DAY}, DENIED),
    "occurs too late": ("event/x", "UsageRecorded", {"occurred_ago": -timedelta(hours=1)}, DENIED),
    "without a time": ("event/x", "UsageRecorded", {"recorded_at": None}, DENIED),
    "without the time of the usage": ("event/x", "UsageRecorded", {"occurred_at": None}, DENIED),
    "an infinite time": ("event/x", "UsageRecorded", {"recorded_at": "infinity"}, psycopg.Error),
    "closed a year ago": ("period/tokens/acme", "PeriodClosed", {"recorded_ago": 365 * DAY}, DENIED),
    "at a position that is taken": ("event/x", "UsageRecorded", {"position": HEAD}, errors.IntegrityError),
    "after a gap": ("event/x", "UsageRecorded", {"position": HEAD + 2}, errors.IntegrityError),
}


@pytest.mark.parametrize(("stream", "topic", "changes", "error"), REJECTED_EVENTS.values(), ids=REJECTED_EVENTS)
def test_recording_roles_can_not_append(
    attacked: None, stream: str, topic: str, changes: dict[str, Any], error: type[psycopg.Error]
) -> None:
    """Neither unknown events, nor access keys, nor events with other times than those of the policy."""
    fields = {name: value for name, value in changes.items() if name != "position"}
    with pytest.raises(error):
        insert("manager", stream, topic, state(**fields), changes.get("position", HEAD + 1))
    with pytest.raises(psycopg.Error):
        insert("api", stream, topic, state(**fields), changes.get("position", HEAD + 1))


NO_USAGE: dict[str, tuple[str, dict[str, Any]]] = {
    "a payload that is none": ("event/x", {"payload": "acme"}),
    "a payload with a number": ("event/x", {"payload": {"customer": "acme", "tokens": 1}}),
    "no payload": ("event/x", {"payload": None}),
    "no value": ("event/x", {"payload": {"customer": "acme"}}),
    "a value that is no number": ("event/x", {"payload": {"customer": "acme", "tokens": "1e5"}}),
    "no customer": ("event/x", {"payload": {"tokens": "1"}}),
    "an empty customer": ("event/x", {"payload": {"customer": "", "tokens": "1"}}),
    "a customer with NUL": ("event/x", {"payload": {"customer": "a\0", "tokens": "1"}}),
    "a meter that does not exist": ("event/x", {"event_name": "missing"}),
    "a name that is no text": ("event/x", {"event_name": ["tokens"]}),
    "no name": ("event/x", {"event_name": None}),
    "a date in words": ("event/x", {"occurred_at": "yesterday"}),
    "a time without a timezone": ("event/x", {"occurred_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"}),
    "an empty identifier": ("event/", {}),
    "a long identifier": (f"event/{'x' * 101}", {}),
    "the stream of a meter": ("meter/tokens", {}),
}
NO_RECORDINGS = (
    ("event/request-1", "EventCancelled"),
    ("event/request-1", "CancelRevoked"),
    ("meter/tokens", "RulesChanged"),
    ("meter/mine", "Configured"),
    ("meter/tokens", "Deactivated"),
    ("period/tokens/acme", "PeriodClosed"),
    ("period/tokens/acme", "PeriodReopened"),
    ("run/1", "BillingRunStarted"),
    ("import/1", "ImportStarted"),
    ("cancellation/1", "EventsCancelled"),
)


def test_the_recorder_role_appends_no_event_that_stops_a_projection(attacked: None) -> None:
    """Each of them would be stored forever, and no total could be computed any more."""
    for name, (stream, fields) in NO_USAGE.items():
        try:
            insert("api", stream, "UsageRecorded", state(**fields))
        except psycopg.Error:
            continue
        pytest.fail(f"{name} was stored")


def test_the_recorder_role_appends_meter_events_only(attacked: None) -> None:
    """No total of the past, no rule and no period changes."""
    for stream, topic in NO_RECORDINGS:
        with pytest.raises(DENIED):
            insert("api", stream, topic, state())


def test_the_recorder_role_obeys_the_rules_of_derived_and_inactive_meters(attacked: None) -> None:
    """An event must be readable by all meters that count it."""
    with psycopg.connect("postgresql:///billing") as administrator:
        administrator.execute("GRANT tallybook_change TO tallybook_rebuild")
    with open_as("projector") as metering:
        metering.meters.configure("calls", formula="count", customer_key="customer")
        metering.meters.configure("sizes", customer_key="customer", value_key="size", source="calls")
        position = metering.catch_up() + 1
    without_size, with_size = {"customer": "acme"}, {"customer": "acme", "size": "1"}
    with pytest.raises(DENIED):
        insert("api", "event/x", "UsageRecorded", state(event_name="calls", payload=without_size), position)
    with pytest.raises(DENIED):
        insert("api", "event/x", "UsageRecorded", state(event_name="nothing", payload=with_size), position)
    insert("api", "event/x", "UsageRecorded", state(event_name="calls", payload=with_size), position)
    with open_as("manager") as manager:
        manager.meters.deactivate("calls")
    with pytest.raises(DENIED):
        insert("api", "event/y", "UsageRecorded", state(event_name="calls", payload=with_size), position + 2)
    with open_as("manager") as manager:
        manager.meters.reactivate("calls")
    insert("api", "event/y", "UsageRecorded", state(event_name="calls", payload=with_size), position + 3)


def test_a_repeated_json_key_does_not_hide_a_time(attacked: None) -> None:
    """The program reads the last of several values of a key; so does the policy."""
    hidden = state().removesuffix("}") + ', "recorded_at": "2020-01-01T00:00:00Z"}'
    with pytest.raises(DENIED):
        insert("api", "event/x", "UsageRecorded", hidden)


def test_the_recorder_role_records_nul_characters(attacked: None) -> None:
    """A payload may contain them, and text that looks like their escape; the policy reads the times nevertheless."""
    payload = {"customer": "acme", "tokens": "1", "note": "a\0b", "text": "\\u0000", "other": "\\\0"}
    with open_as("api") as api:
        batch = [{"event_name": "tokens", "payload": {**payload, "n": str(n)}, "identifier": f"nul-{n}"} for n in "12"]
        assert [str(receipt.outcome) for receipt in api.record_many(batch)] == ["accepted"] * 2
    with run_projection(), open_as("reports") as reader:
        assert acme_total(reader) == 22
        assert reader.event("nul-1").payload == {**payload, "n": "1"}


def test_nul_characters_do_not_hide_a_time(attacked: None) -> None:
    """Neither in a key that resembles the one of a time, nor in the time."""
    late = state(recorded_ago=timedelta(hours=1))
    now = datetime.now(UTC).isoformat()
    with pytest.raises(DENIED):
        insert("api", "event/x", "UsageRecorded", json.dumps(json.loads(late) | {"recorded_at\0": now}))
    with pytest.raises(DENIED):
        insert("api", "event/x", "UsageRecorded", state(recorded_at=f"{now}\0"))


def test_an_open_transaction_does_not_shift_the_clock(attacked: None) -> None:
    """The policy compares with the time of the insert, not with the beginning of the transaction."""
    with closing(connect_as("postgres")) as administrator:
        (condition,) = administrator.execute(
            "SELECT with_check FROM pg_policies WHERE policyname = 'record'"
        ).fetchone() or (None,)
        shortened = str(condition).replace("600", "0.2")  # seconds
        administrator.execute(f"ALTER POLICY record ON {EVENTS} WITH CHECK ({shortened})".encode())
    append = f"INSERT INTO {EVENTS} VALUES (%s, 'event/x', 1, 'UsageRecorded', %s)".encode()
    with closing(connect_as("api")) as connection, connection.transaction(force_rollback=True):
        event = HEAD + 1, state().encode()
        connection.execute("INSERT INTO tallybook.append_lock SELECT WHERE false")
        connection.execute("SELECT pg_sleep(0.3)")
        with pytest.raises(DENIED):
            connection.execute(append, event)


def test_a_row_that_a_policy_rejects_differs_from_a_missing_privilege(attacked: None) -> None:
    """Other rows may be accepted: a server that records many together records each of them separately then."""
    with pytest.raises(RowRejected), translate_errors("here"):
        insert("api", "event/x", "UsageRecorded", state(recorded_ago=timedelta(hours=1)))
    with (
        closing(connect_as("api")) as connection,
        pytest.raises(DatabasePermissionDenied) as exc_info,
        translate_errors("here"),
    ):
        connection.execute(f"SELECT state FROM {EVENTS}".encode())
    assert not isinstance(exc_info.value, RowRejected)


@pytest.mark.parametrize("topic", ["Unknown", "AccessKeyCreated"])
def test_the_owner_can_not_append_unknown_events(attacked: None, topic: str) -> None:
    """The trigger applies to every user."""
    with pytest.raises(errors.IntegrityError):
        insert("billing", "event/x", topic, state())


USE_TRIGGER = (
    "CREATE TEMP TABLE mine (); CREATE TRIGGER mine BEFORE INSERT ON mine EXECUTE FUNCTION tallybook.lock_for_append()"
)
FORBIDDEN: dict[str, tuple[Sequence[str], str]] = {
    "read events": (["api"], f"SELECT state FROM {EVENTS}"),
    "read streams": (["api"], f"SELECT originator_id FROM {EVENTS}"),
    "read all columns": (["api"], f"SELECT * FROM {EVENTS}"),
    "copy events": (["api"], f"COPY {EVENTS} TO STDOUT"),
    "return events": (["api"], f"INSERT INTO {EVENTS} SELECT WHERE false RETURNING state"),
    "read key-value entries": (["api", "reports", "projector"], "SELECT * FROM tallybook.key_values"),
    "read read models": (["api"], "SELECT * FROM tallybook_read_models.generations"),
    "write read models": (["api", "reports", "server"], "DELETE FROM tallybook_read_models.generations"),
    "append": (["reports", "projector"], f"INSERT INTO {EVENTS} VALUES (5, 'event/x', 1, 'UsageRecorded', '')"),
    "take the append lock": (["reports", "projector"], "INSERT INTO tallybook.append_lock SELECT WHERE false"),
    "look up identifiers": (["projector", "reports"], "SELECT * FROM tallybook.recorded_streams('{event/request-1}')"),
    "clear the append lock": (["api", "server"], "DELETE FROM tallybook.append_lock"),
    "lift the policies": (["api", "server"], f"ALTER TABLE {EVENTS} DISABLE ROW LEVEL SECURITY"),
    "drop a policy": (["api", "server"], f"DROP POLICY record ON {EVENTS}"),
    "add a policy": (["api", "server"], f"CREATE POLICY mine ON {EVENTS} WITH CHECK (true)"),
    "become the owner": (["api", "reports", "projector", "server"], "SET ROLE billing"),
    "create in the schema": (["api", "reports", "projector", "server"], "CREATE TABLE tallybook.mine ()"),
    "use the lock's trigger": (["api"], USE_TRIGGER),
    "delete a stored version": (["api", "server"], "DELETE FROM tallybook.ledger"),
}  # fmt: skip


@pytest.mark.parametrize(("users", "statement"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_role_has_no_other_privilege(attacked: None, users: Sequence[str], statement: str) -> None:
    """Each is denied by the database."""
    for user in users:
        with closing(connect_as(user)) as connection, pytest.raises((DENIED, errors.DuplicateObject)) as exc_info:
            connection.execute(statement.encode())
        assert exc_info.type is DENIED, user


@pytest.mark.parametrize("mode", ["SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"])
@pytest.mark.parametrize("table", ["stored_events", "appending", "append_lock", "ledger"])
def test_no_role_makes_others_wait_with_lock_table(attacked: None, table: str, mode: str) -> None:
    """Recording takes its lock through a trigger, so no role needs a privilege for LOCK TABLE."""
    for user in ("api", "reports", "projector", "server"):
        with closing(connect_as(user)) as connection, connection.transaction(), pytest.raises(DENIED):
            connection.execute(f"LOCK TABLE tallybook.{table} IN {mode} MODE".encode())


def test_the_recorder_role_reads_only_meters_and_known_identifiers(attacked: None) -> None:
    """It can't list identifiers, and can't read access keys or closed periods even if it knows their streams."""
    with closing(connect_as("billing")) as owner:
        streams = [stream for (stream,) in owner.execute(f"SELECT DISTINCT originator_id FROM {EVENTS}".encode())]
    leak = "CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS"
    with closing(connect_as("api")) as connection:
        look_up = "SELECT DISTINCT originator_id FROM tallybook.recorded_streams(%s) ORDER BY 1"
        found = connection.execute(look_up, (streams,)).fetchall()
        assert found == [("event/of the owner",), ("event/request-1",), ("meter/tokens",)]
        assert len(streams) == len(found) + 1
        notices: list[str] = []
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        connection.execute(f"{leak} $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$".encode())
        connection.execute("SELECT FROM tallybook.meter_streams WHERE pg_temp.leak(originator_id)")
        assert set(notices) == {"meter/tokens"}


def test_the_append_lock_holds_no_rows(attacked: None) -> None:
    """A role that may insert into it can't fill it."""
    with closing(connect_as("api")) as connection, pytest.raises(errors.CheckViolation):
        connection.execute("INSERT INTO tallybook.append_lock DEFAULT VALUES")


def test_the_owner_has_the_rights_that_the_guide_lists(attacked: None) -> None:
    """The owner records, manages access keys and queries, but no longer writes the read models."""
    with run_projection(), open_as("billing") as owner:
        record(owner, "of the owner again")
        assert acme_total(owner) == 30
        assert owner.verify().is_equal
        key = owner.access_keys.create(["read"], "another")
        owner.access_keys.revoke(key.view.id)
        for operation in (owner.generations.rebuild, lambda: owner.generations.drop(1)):
            with pytest.raises(TallybookError) as exc_info:
                operation()
            assert exc_info.value.code == "database_permission_denied"
    with closing(connect_as("billing")) as connection:
        connection.execute(f"REVOKE INSERT ON {EVENTS} FROM tallybook_record")
    with open_as("api") as api, pytest.raises(TallybookError, match="permission denied"):
        record(api, "request-2")


TROJAN = """
    CREATE FUNCTION tallybook_read_models.trojan() RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        RAISE LOG 'trojan of %', current_user;
        IF current_user <> 'tallybook_rebuild' THEN
            PERFORM set_config('transaction_read_only', 'off', true);
            CREATE TABLE tallybook.stolen AS SELECT current_user;
        END IF;
        RETURN true;
    EXCEPTION WHEN OTHERS THEN
        RETURN true;
    END $$;
    ALTER TABLE tallybook_read_models.generations RENAME TO hidden;
    CREATE VIEW tallybook_read_models.generations AS
        SELECT * FROM tallybook_read_models.hidden WHERE tallybook_read_models.trojan();
    GRANT ALL ON ALL TABLES IN SCHEMA tallybook_read_models TO billing;
"""


@pytest.mark.parametrize("user", ["billing", "postgres"])
def test_read_models_do_not_act_with_the_rights_of_those_who_query(
    attacked: None, roles_server: Server, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    """A view of the rebuilder role calls a function in all queries of the owner; it can change nothing."""
    monkeypatch.setattr("tallybook.application.queries.freshness.PROJECTION_TIMEOUT_SECONDS", 0.5)
    with closing(connect_as("projector")) as connection:
        connection.execute(TROJAN.encode())
    with open_as(user) as metering:
        assert acme_total(metering) == 20
        metering.verify()
        record(metering, "request-2")
        for operation in (lambda: acme_total(metering), metering.catch_up, metering.generations.rebuild):
            with pytest.raises(TallybookError) as exc_info:
                operation()
            assert exc_info.value.code in ("ledger_unavailable", "database_permission_denied")
    assert f"trojan of {user}" in roles_server.log
    with closing(connect_as("postgres")) as connection:
        assert connection.execute("SELECT to_regclass('tallybook.stolen')").fetchone() == (None,)


def test_the_recorder_role_does_not_manage_access_keys(attacked: None) -> None:
    """It neither lists, creates nor revokes them."""
    with open_as("billing") as owner:
        (key_id,) = (key.id for key in owner.access_keys.list())
    with open_as("api") as metering:
        for operation in (
            metering.access_keys.list,
            lambda: metering.access_keys.create(["read"], "mine"),
            lambda: metering.access_keys.revoke(key_id),
        ):
            with pytest.raises(TallybookError) as exc_info:
                operation()
            assert exc_info.value.code == "database_permission_denied"


def test_the_recorder_role_resolves_a_lost_commit(attacked: None) -> None:
    """It looks the events up by their identifiers, because it may not read positions."""
    with open_as("api") as metering:
        recorder: Any = metering._ledger.ledger_recorder  # pyright: ignore[reportPrivateUsage]
        (row,) = [("event/x", 1, "UsageRecorded", state().encode())]
        positions = recorder.insert_rows([row])
        assert recorder._commit_took_effect([row], positions)
        assert not recorder._commit_took_effect([(*row[:3], b"{}")], positions)


def test_a_blocked_recorder_names_the_process(attacked: None) -> None:
    """The guide says what the database can't prevent: a transaction that stays open."""
    with closing(connect_as("api")) as hostile, hostile.transaction(), suppress(psycopg.Error):
        hostile.execute("INSERT INTO tallybook.append_lock SELECT WHERE false")
        with open_as("api", timeout_seconds=1) as metering, pytest.raises(TallybookError) as exc_info:
            record(metering, "request-2")
        assert f"Process {hostile.info.backend_pid} " in exc_info.value.message
