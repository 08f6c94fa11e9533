"""The tables of a ledger in a PostgreSQL schema."""

from typing import Any

from psycopg import Connection

from ....domain.errors import InvalidLedgerUrl
from .connection import PostgresDatastore
from .read_model_schema import READ_MODEL_SCHEMA
from .schema import OWNER_COMMENT, Schema, list_tables
from .settings import READ_MODELS_SUFFIX

KEY_VALUE_STATEMENTS = (
    """CREATE TABLE {schema}.key_values (
        kind TEXT COLLATE "C" NOT NULL,
        key TEXT COLLATE "C" NOT NULL,
        at BIGINT NOT NULL,
        body BYTEA NOT NULL,
        PRIMARY KEY (kind, key)
    )""",
    "CREATE INDEX key_values_by_time ON {schema}.key_values (kind, at, key)",
    f"COMMENT ON TABLE {{schema}}.key_values IS '{OWNER_COMMENT}'",
)
"""The table of the key-value store, which is created when a program first uses it."""


TOPICS = {
    "meter": ("Configured", "Renamed", "RulesChanged", "Deactivated", "Reactivated", "DerivedMeterAdded"),
    "event": ("UsageRecorded", "EventCancelled", "CancelRevoked"),
    "period": ("PeriodClosed", "PeriodReopened", "AdjustmentSettled"),
    "cancellation": (
        "EventsCancelled",
        "EventsCancelledPart",
        "EventsCancelRevoked",
        "EventsCancelRevokedPart",
    ),
    "import": ("ImportStarted", "ImportBatchRecorded", "ImportFinished"),
    "run": ("BillingRunStarted", "BillingRunClosed"),
    "key": ("AccessKeyCreated", "AccessKeyRevoked"),
    "history": ("HistoryPruned",),
    "approval": ("ApprovalPolicySet", "ApprovalPolicyChanged"),
    "proposal": ("ChangeProposed", "ProposalApproved", "ProposalRejected", "ProposalExpired"),
}
"""The topics of each kind of stream. A change needs a new version of the schema."""
_KINDS_AND_TOPICS = ", ".join(f"('{kind}', '{topic}')" for kind, topics in TOPICS.items() for topic in topics)
BEGINNING = """encode(substring(state FROM 1 FOR 43), 'escape') COLLATE "C\""""
"""The beginning of a state with its time of recording, as text: `encode` shows bytes that are no ASCII in a way."""
_TIME = """coalesce(substring({beginning} FROM '^\\{{{{"recorded_at":"([0-9T:.-]+)Z'), '')"""
"""The time in a beginning. A state that doesn't begin with its time is earlier than all others."""
# The fixed search_path keeps a role from replacing the operators that these functions use. They run with the rights of
# the owner, because they read the last event, also for a role that may record and not read the ledger. Positions
# continue without gaps, also for a client that does not take the lock: it cannot see uncommitted rows, so it cannot
# store rows after them, and no reader skips any. The rows of a batch mostly have one time, which is compared once.
_CHECK_FUNCTION = f"""
CREATE OR REPLACE FUNCTION {{schema}}.stored_events_are_only_appended() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
        first bigint; last bigint; many bigint; known bigint; goes_on boolean; decreases boolean;
        earliest text; latest text; previous text;
    BEGIN
        SELECT min(position), max(position), count(*), count(*) FILTER (
            WHERE (split_part(originator_id, '/', 1), topic) IN ({_KINDS_AND_TOPICS})
        ), min({BEGINNING}), max({BEGINNING}) INTO first, last, many, known, earliest, latest FROM appended;
        EXECUTE format(
            $query$SELECT true, {BEGINNING} FROM %I.stored_events WHERE position = $1$query$, TG_TABLE_SCHEMA
        )
            INTO goes_on, previous USING first - 1;
        IF last - first + 1 <> many OR first > 1 AND goes_on IS NULL THEN
            RAISE EXCEPTION 'stored events are only appended, each once'
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        IF known <> many THEN
            RAISE EXCEPTION 'stored events have known topics, each in the streams of its kind'
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        decreases := {_TIME.format(beginning="earliest")} < {_TIME.format(beginning="coalesce(previous, '')")};
        IF earliest <> latest AND NOT decreases THEN
            SELECT bool_or(time < earlier) INTO decreases FROM (
                SELECT time, lag(time) OVER (ORDER BY position) AS earlier
                FROM (SELECT position, {_TIME.format(beginning=BEGINNING)} AS time FROM appended) AS times
            ) AS ordered;
        END IF;
        IF decreases THEN
            RAISE EXCEPTION 'times of recording never decrease' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NULL;
    END $$"""
_LAST_BEGINNING_FUNCTION = f"""CREATE OR REPLACE FUNCTION {{schema}}.last_beginning() RETURNS text LANGUAGE sql STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp BEGIN ATOMIC
        SELECT {BEGINNING} FROM {{schema}}.stored_events ORDER BY position DESC LIMIT 1;
    END"""
_LAST_PRUNING_FUNCTION = """CREATE FUNCTION {schema}.last_pruning() RETURNS bytea LANGUAGE sql STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp BEGIN ATOMIC
        SELECT state FROM {schema}.stored_events
        WHERE originator_id >= 'history/' AND originator_id < 'history0' ORDER BY originator_id DESC LIMIT 1;
    END"""
"""Also a role that may not read the ledger has to know where the content of a duplicate is."""
# The one change that is allowed, see docs/decisions/0057: the state of recorded usage becomes its leaf hash, up to the
# position of the last pruning, which is read once for each statement. A condition that is NULL allows nothing.
_CHANGE_STATEMENTS = (
    """CREATE OR REPLACE FUNCTION {schema}.stored_events_are_never_changed() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            RAISE EXCEPTION 'stored events are never %', CASE TG_OP WHEN 'UPDATE' THEN 'changed' ELSE 'deleted' END
                USING ERRCODE = 'integrity_constraint_violation';
        END $$""",
    """CREATE TRIGGER stored_events_are_never_deleted BEFORE DELETE OR TRUNCATE ON {schema}.stored_events
        FOR EACH STATEMENT EXECUTE FUNCTION {schema}.stored_events_are_never_changed()""",
    """CREATE TRIGGER stored_events_are_never_changed BEFORE UPDATE ON {schema}.stored_events
        FOR EACH ROW WHEN (NOT coalesce(
            NEW.position = OLD.position AND NEW.originator_id = OLD.originator_id
            AND NEW.originator_version = OLD.originator_version AND NEW.topic = OLD.topic
            AND OLD.topic = 'UsageRecorded' AND length(NEW.state) = 32 AND length(OLD.state) > 32,
            false
        )) EXECUTE FUNCTION {schema}.stored_events_are_never_changed()""",
    """CREATE FUNCTION {schema}.stored_events_are_pruned_by_record() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        DECLARE pruned bigint;
        BEGIN
            EXECUTE format(
                $query$SELECT (convert_from(%I.last_pruning(), 'UTF8')::json ->> 'position')::bigint$query$,
                TG_TABLE_SCHEMA
            ) INTO pruned;
            IF (SELECT max(position) FROM replacing) > coalesce(pruned, 0) THEN
                RAISE EXCEPTION 'stored events are never changed' USING ERRCODE = 'integrity_constraint_violation';
            END IF;
            RETURN NULL;
        END $$""",
    """CREATE TRIGGER stored_events_are_pruned_by_record AFTER UPDATE ON {schema}.stored_events
        REFERENCING NEW TABLE AS replacing
        FOR EACH STATEMENT EXECUTE FUNCTION {schema}.stored_events_are_pruned_by_record()""",
)
_RECORDING_STATEMENTS = (
    # To append, a transaction locks the empty table `appending`, see docs/decisions/0009. It does so by inserting
    # nothing into `append_lock`, because LOCK TABLE needs a privilege that also allows stronger locks.
    "CREATE TABLE {schema}.append_lock (CHECK (false))",
    """CREATE FUNCTION {schema}.lock_for_append() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            EXECUTE format('LOCK TABLE %I.appending IN EXCLUSIVE MODE', TG_TABLE_SCHEMA);
            RETURN NULL;
        END $$""",
    """CREATE TRIGGER lock_for_append BEFORE INSERT ON {schema}.append_lock
        FOR EACH STATEMENT EXECUTE FUNCTION {schema}.lock_for_append()""",
    # What a role reads that may record and not read the ledger, see docs/decisions/0023.
    """CREATE VIEW {schema}.meter_streams WITH (security_barrier) AS
        SELECT position, originator_id, originator_version, topic, state FROM {schema}.stored_events
        WHERE originator_id >= 'meter/' AND originator_id < 'meter0'""",
    """CREATE FUNCTION {schema}.recorded_streams(streams text[]) RETURNS SETOF {schema}.stored_events
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp BEGIN ATOMIC
            SELECT position, originator_id, originator_version, topic, state FROM {schema}.stored_events
            WHERE originator_id = ANY (streams) AND split_part(originator_id, '/', 1) IN ('event', 'meter');
        END""",
    "REVOKE ALL ON FUNCTION {schema}.lock_for_append, {schema}.recorded_streams FROM PUBLIC",
)


def _rename_key_value_table(connection: Connection[Any], datastore: PostgresDatastore) -> None:
    """Upgrade version 1 to 2: the table `kept` is called `key_values`."""
    if list_tables(connection, datastore).get("kept") == OWNER_COMMENT:
        for statement in (
            "ALTER TABLE {schema}.kept RENAME TO key_values",
            "ALTER INDEX {schema}.kept_pkey RENAME TO key_values_pkey",
            "ALTER INDEX {schema}.kept_by_time RENAME TO key_values_by_time",
        ):
            connection.execute(datastore.format_sql(statement))


def _check_topics_and_restrict_recording(connection: Connection[Any], datastore: PostgresDatastore) -> None:
    """Upgrade version 2 to 3: topics are checked, and a role can record that may not read the ledger."""
    for statement in (_CHECK_FUNCTION, *_RECORDING_STATEMENTS):
        connection.execute(datastore.format_sql(statement))


def _check_present_topics(connection: Connection[Any], datastore: PostgresDatastore) -> None:
    """Upgrade version 3 to 4, or 4 to 5: topics that were added since are accepted."""
    connection.execute(datastore.format_sql(_CHECK_FUNCTION))


def _check_times(connection: Connection[Any], datastore: PostgresDatastore) -> None:
    """Upgrade version 5 to 6: what is stored from now on is never earlier than the event before it."""
    for statement in (_CHECK_FUNCTION, _LAST_BEGINNING_FUNCTION):
        connection.execute(datastore.format_sql(statement))


def _allow_pruning(connection: Connection[Any], datastore: PostgresDatastore) -> None:
    """Upgrade version 6 to 7: the states of old usage can be replaced by their leaf hashes, and topics were added."""
    for statement in (
        _CHECK_FUNCTION,
        _LAST_PRUNING_FUNCTION,
        "DROP TRIGGER IF EXISTS stored_events_are_never_changed ON {schema}.stored_events",
        *_CHANGE_STATEMENTS,
    ):
        connection.execute(datastore.format_sql(statement))


LEDGER_SCHEMA = Schema(
    kind="ledger",
    version=7,
    migrations=(
        _rename_key_value_table,
        _check_topics_and_restrict_recording,
        _check_present_topics,
        _check_present_topics,
        _check_times,
        _allow_pruning,
    ),
    statements=(
        """CREATE TABLE {schema}.stored_events (
            position BIGINT PRIMARY KEY CHECK (position > 0),
            originator_id TEXT COLLATE "C" NOT NULL,
            originator_version BIGINT NOT NULL,
            topic TEXT NOT NULL,
            state BYTEA NOT NULL,
            UNIQUE (originator_id, originator_version)
        )""",
        _LAST_PRUNING_FUNCTION,
        *_CHANGE_STATEMENTS,
        _CHECK_FUNCTION,
        """CREATE TRIGGER stored_events_are_only_appended AFTER INSERT ON {schema}.stored_events
            REFERENCING NEW TABLE AS appended
            FOR EACH STATEMENT EXECUTE FUNCTION {schema}.stored_events_are_only_appended()""",
        "CREATE TABLE {schema}.appending ()",
        _LAST_BEGINNING_FUNCTION,
        *_RECORDING_STATEMENTS,
    ),
)


def reject_read_models_of_another_ledger(datastore: PostgresDatastore) -> None:
    """Raise InvalidLedgerUrl if one schema would hold a ledger and the read models of another one.

    Read models are disposable, so dropping their schema would delete that ledger.
    """
    schema = datastore.schema
    read_models_schema, other_ledger = f"{schema}{READ_MODELS_SUFFIX}", schema.removesuffix(READ_MODELS_SUFFIX)
    schemas = [schema, read_models_schema, other_ledger]
    tables = datastore.run_in_transaction("statement", lambda connection: list_kinds(connection, schemas))
    is_ledger = (schema, LEDGER_SCHEMA.kind) in tables
    is_other_ledger = other_ledger != schema and (other_ledger, LEDGER_SCHEMA.kind) in tables
    if is_other_ledger or ((schema, READ_MODEL_SCHEMA.kind) in tables and not is_ledger):
        raise InvalidLedgerUrl(
            f"PostgreSQL on {datastore.location}: this is the schema of the read models of the ledger in the schema "
            f"{other_ledger!r}. Use another schema for this ledger.",
            field="url",
        )
    if (read_models_schema, LEDGER_SCHEMA.kind) in tables:
        raise InvalidLedgerUrl(
            f"PostgreSQL on {datastore.location}: the read models of this ledger belong in the schema "
            f"{read_models_schema!r}, which holds another ledger. Use another schema for this ledger, or rename that "
            "schema with ALTER SCHEMA … RENAME TO ….",
            field="url",
        )


def list_kinds(connection: Connection[Any], schemas: list[str]) -> set[tuple[str, str]]:
    """Return each of these schemas that holds a ledger or read models, with the kind."""
    kinds = [LEDGER_SCHEMA.kind, READ_MODEL_SCHEMA.kind]
    return set(connection.execute(_SELECT_KINDS, (kinds, schemas, OWNER_COMMENT)).fetchall())


# The subquery finds one table by index. A join would read the tables of all ledgers of the database.
_SELECT_KINDS = (
    "SELECT nspname, kind FROM pg_namespace CROSS JOIN unnest(%s::name[]) AS kind WHERE nspname = ANY(%s)"
    " AND obj_description("
    "(SELECT oid FROM pg_class WHERE relname = kind AND relnamespace = pg_namespace.oid), 'pg_class') = %s"
)
