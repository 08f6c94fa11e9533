"""The roles of docs/guides/postgresql.md: its SQL is executed as it stands, and the program runs as each user."""

import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import errors
from tallybook.application import AlreadyKept, KeptRow, Metering, PostgresSettings, TallybookError

from tests.docs.documents import ON_POSTGRES, section
from tests.postgres import Server

DAY = timedelta(days=1)
TOKENS = {"customer_key": "customer", "value_key": "tokens"}


def opened(user: str, timeout_seconds: float = 10) -> Metering:
    """The ledger, opened as one of the page's users."""
    parameters = {"dbname": "billing", "user": user}
    return Metering.open(PostgresSettings(parameters=parameters, timeout_seconds=timeout_seconds))


def value(metering: Metering) -> int:
    """The figure of acme."""
    now = datetime.now(UTC)
    return int(metering.total("tokens", "acme", now - DAY, now + DAY).value)


def record(metering: Metering, identifier: str) -> None:
    """Ten more tokens."""
    metering.record("tokens", {"customer": "acme", "tokens": "10"}, identifier=identifier)


@contextmanager
def projecting() -> Generator[None]:
    """A projection beside, run by the user whom the page has for it."""
    stop = threading.Event()
    with opened("projector") as metering:
        projection = threading.Thread(target=metering.run_projection, args=(stop,))
        projection.start()
        try:
            yield
        finally:
            stop.set()
            projection.join()


@contextmanager
def refused(code: str = "not_permitted") -> Generator[None]:
    """What is refused with this code."""
    with pytest.raises(TallybookError) as refusal:
        yield
    assert refusal.value.code == code, refusal.value


@pytest.fixture
def roles(billing: Server) -> None:
    """The page's SQL, executed by an administrator once the owner has begun a ledger with 10 tokens in it."""
    with opened("billing") as metering:
        metering.configure_meter("tokens", **TOKENS)
        record(metering, "of the owner")
        assert value(metering) == 10
    (block,) = (block for block in section(ON_POSTGRES, "Roles") if block.language == "sql")
    with psycopg.connect("postgresql:///billing") as administrator:
        administrator.execute(block.text.encode())


def test_who_may_only_record_records(roles: None) -> None:
    """Meters and cancels too, as each is an event."""
    with opened("api") as metering:
        metering.configure_meter("tokens", **TOKENS)
        metering.configure_meter("seats", formula="last", customer_key="customer", value_key="seats")
        record(metering, "req-1")
        many = [{"event_name": "tokens", "payload": {"customer": "acme", "tokens": "1"}} for _ in range(3)]
        assert {str(receipt.outcome) for receipt in metering.record_many(many)} == {"accepted"}
        assert metering.cancel("tokens", "req-1", reason="a test").identifier == "req-1"
        metering.rename_meter("seats", "Seats")
        assert [meter.event_name for meter in metering.meters()] == ["seats", "tokens"]


QUESTIONS: dict[str, Callable[[Metering], object]] = {
    "total": value,
    "totals": lambda metering: metering.totals("tokens", datetime.now(UTC) - DAY, datetime.now(UTC) + DAY),
    "explain": lambda metering: metering.explain("tokens", "acme", datetime.now(UTC) - DAY, datetime.now(UTC) + DAY),
    "events": lambda metering: metering.events("tokens"),
    "verify": lambda metering: metering.verify(),
    "generations": lambda metering: metering.generations(),
}
REBUILDING: dict[str, Callable[[Metering], object]] = {
    "rebuild": lambda metering: metering.rebuild(),
    "candidate": lambda metering: metering.candidate("tokens", {"formula": "count"}),
    "promote": lambda metering: metering.promote(1),
    "drop": lambda metering: metering.drop_generation(1),
}
RECORDING: dict[str, Callable[[Metering], object]] = {
    "record": lambda metering: record(metering, "req-1"),
    "record_many": lambda metering: metering.record_many(
        [{"event_name": "tokens", "payload": {"customer": "acme", "tokens": "1"}}]
    ),
    "configure_meter": lambda metering: metering.configure_meter("seats"),
    "rename_meter": lambda metering: metering.rename_meter("tokens", "Tokens"),
    "cancel": lambda metering: metering.cancel("tokens", "of the owner"),
}


@pytest.mark.parametrize("asked", [*QUESTIONS, *REBUILDING])
def test_who_may_only_record_may_nothing_else(roles: None, asked: str) -> None:
    """Neither ask nor build."""
    with opened("api") as metering, refused():
        {**QUESTIONS, **REBUILDING}[asked](metering)


@pytest.mark.parametrize("asked", [*RECORDING, *REBUILDING])
def test_who_may_only_ask_may_nothing_else(roles: None, asked: str) -> None:
    """Neither record nor build, whether or not there is something to answer from."""
    with projecting(), opened("reports") as metering:
        assert value(metering) == 10
        with refused():
            {**RECORDING, **REBUILDING}[asked](metering)


@pytest.mark.parametrize("asked", RECORDING)
def test_who_may_rebuild_may_not_record(roles: None, asked: str) -> None:
    """Nor change rules, which is to record; the candidate stays."""
    with opened("projector") as metering, refused():
        RECORDING[asked](metering)


def test_who_may_only_ask_is_answered_from_what_is_projected(roles: None) -> None:
    """Up to the last record of others, from this generation and from those to come."""
    with projecting(), opened("api") as api, opened("reports") as reports:
        record(api, "req-1")
        assert value(reports) == 20
        for asked in QUESTIONS.values():
            asked(reports)
        assert reports.verify().is_equal
        with opened("projector") as projector:
            assert projector.promote(projector.rebuild().number).state == "live"
        record(api, "req-2")
        assert value(reports) == 30
        assert [str(one.state) for one in reports.generations()] == ["retired", "live"]


def test_without_a_projection_who_may_only_ask_waits_in_vain(roles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is told what is missing; what was projected before is answered."""
    monkeypatch.setattr("tallybook.application.reading.WAITING_SECONDS", 0.5)
    with opened("projector") as projector:
        projector.catch_up()
    with opened("reports") as reports, opened("api") as api:
        assert value(reports) == 10
        record(api, "req-1")
        with pytest.raises(TallybookError, match="tallybook projection run") as waited:
            value(reports)
        assert waited.value.code == "ledger_unavailable"


def test_who_may_only_ask_waits_for_the_first_projection(roles: None) -> None:
    """Also where there are no read models yet, nor tables for them."""
    answers: list[int] = []
    with opened("reports") as reports:
        asking = threading.Thread(target=lambda: answers.append(value(reports)))
        asking.start()
        asking.join(0.5)
        assert asking.is_alive()
        with projecting():
            asking.join()
    assert answers == [10]


def test_who_may_rebuild_builds_promotes_and_drops(roles: None) -> None:
    """All but a change of rules, for which the page has another grant."""
    with opened("projector") as metering:
        assert value(metering) == 10
        second = metering.rebuild()
        metering.promote(second.number)
        metering.drop_generation(1)
        assert metering.verify().is_equal
        candidate = metering.candidate("tokens", {"formula": "count"})
        assert [(one.before, one.after) for one in metering.diff(candidate.number).differences] == [(10, 1)]
        with refused():
            metering.promote(candidate.number, reason="a test")
        assert value(metering) == 10
        with psycopg.connect("postgresql:///billing") as administrator:
            administrator.execute("GRANT tallybook_record TO tallybook_rebuild")
        metering.promote(candidate.number, reason="a test")
        assert value(metering) == 1


def test_periods_are_closed_by_who_may_ask_and_record(roles: None) -> None:
    """As the page says: a user in both roles."""
    with psycopg.connect("postgresql:///billing") as administrator:
        administrator.execute("CREATE ROLE closer LOGIN IN ROLE tallybook_record, tallybook_read")
    start = datetime.now(UTC) - 3 * DAY
    with projecting(), opened("closer") as metering:
        closed = metering.close_period("tokens", "acme", start, start + DAY)
        assert metering.closed_periods("tokens", "acme") == [closed]


@pytest.fixture
def server(roles: None) -> None:
    """The page's role for a server, once the owner has made the table for it."""
    with opened("billing") as metering:
        metering.keeper()
    (block,) = (block for block in section(ON_POSTGRES, "A role for a server") if block.language == "sql")
    with psycopg.connect("postgresql:///billing") as administrator:
        administrator.execute(block.text.encode())


def test_who_serves_keeps_something_beside_what_is_recorded(server: None) -> None:
    """And changes it, and asks; which nobody else may."""
    report = {"event_name": "tokens", "payload": {"customer": "acme", "tokens": "1"}}
    row = KeptRow("answer", "key", 1, b"")
    with projecting(), opened("server") as metering:
        metering.record_beside([report], lambda receipts, now: [row])
        with pytest.raises(AlreadyKept):
            metering.record_beside([report], lambda receipts, now: [row])
        keeper = metering.keeper()
        assert keeper.get("answer", ["key"]) == {"key": row}
        keeper.change(put=[row], add=[row._replace(key="other")], remove=[("answer", "never there")])
        assert keeper.remove_until("answer", 1, 10) == 2
        with keeper.alone("sweeping") as held:
            assert held
        assert value(metering) == 11
    with closing(connected("server")) as connection:  # as is done after a connection was lost
        connection.execute("BEGIN; LOCK TABLE tallybook.kept IN SHARE MODE")
    for user in ("api", "reports", "projector"):
        with opened(user) as metering, refused():
            metering.keeper().select("answer", limit=1)


def test_where_nothing_is_kept_yet_a_user_is_told_what_to_do(roles: None) -> None:
    """The owner has to make the table. To record without it, nothing is missing."""
    with opened("api") as metering:
        with pytest.raises(TallybookError, match=r"owner call Metering\.keeper\(\) once, and grant") as told:
            metering.keeper()
        assert told.value.code == "not_permitted"
        record(metering, "req-1")


NEW = "INSERT INTO tallybook.stored_events VALUES (3, 'meter/a', 1, 'Renamed', '{}')"
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
def test_nobody_rewrites_stored_events(server: None, user: str, statement: str) -> None:
    """The database refuses it, past the program too."""
    with closing(connected(user)) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement.encode())


@pytest.mark.parametrize("user", ["reports", "projector"])
def test_who_may_not_record_inserts_nothing(roles: None, user: str) -> None:
    """Nor may they take the lock that who appends takes."""
    for statement in (NEW, "LOCK TABLE tallybook.appending IN EXCLUSIVE MODE"):
        with closing(connected(user)) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute(f"BEGIN; {statement}".encode())


@pytest.mark.parametrize("position", [1, 2, 4, 0])
def test_who_may_record_inserts_at_the_end_only(roles: None, position: int) -> None:
    """A trigger holds that; the next position is 3."""
    with closing(connected("api")) as connection, pytest.raises(errors.IntegrityError):
        connection.execute(NEW.replace("(3", f"({position}").encode())


def test_a_trigger_is_not_fooled_by_functions_of_the_user(roles: None) -> None:
    """A program often has a schema of its own, in which it may make operators that are called like a trigger's."""
    with psycopg.connect("postgresql:///billing") as administrator:
        administrator.execute("CREATE SCHEMA mine AUTHORIZATION api")
    with closing(connected("api")) as connection:
        for left, operator, right in (("bigint", "<>", "bigint"), ("bigint", ">", "integer")):
            never = f"FUNCTION mine.never(a {left}, b {right}) RETURNS boolean LANGUAGE sql AS 'SELECT false'"
            takes = f"FUNCTION = mine.never, LEFTARG = {left}, RIGHTARG = {right}"
            connection.execute(f"CREATE {never}; CREATE OPERATOR mine.{operator} ({takes})".encode())
        connection.execute("SET search_path = mine, pg_catalog")
        with pytest.raises(errors.IntegrityError):
            connection.execute(NEW.replace("(3", "(9").encode())


def test_who_may_only_record_does_not_see_the_read_models(roles: None) -> None:
    """Not even their schema's tables."""
    with opened("projector") as projector:
        projector.catch_up()
    with closing(connected("api")) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute("SELECT FROM tallybook_views.generations")


def test_all_that_is_projected_belongs_to_the_role(roles: None) -> None:
    """So that whoever else comes to have the role can drop it."""
    with opened("projector") as projector:
        projector.rebuild()
    with closing(connected("reports")) as connection:
        owners = connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'tallybook_views'")
        assert owners.fetchall() == [("tallybook_rebuild",)]


def connected(user: str) -> "psycopg.Connection[tuple[object, ...]]":
    """A connection past the program."""
    return psycopg.connect(f"postgresql://{user}@/billing", autocommit=True)
