"""Verification finds the first position of every change to checkpointed events in the ledger's file."""

import json
import sqlite3
from contextlib import closing

import pytest
from tallybook.application import CheckpointVerification, TallybookError
from tallybook.application.checkpoints.service import CheckpointService
from tallybook.application.interfaces.cli.app import app
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.storage.url import resolve_store
from typer.testing import CliRunner

from .ledgers import NOW, CheckpointedLedger

EVENTS = "stored_events"
SWAP_STATES = (
    "UPDATE stored_events SET state = CASE position WHEN 7 THEN (SELECT state FROM stored_events WHERE position = 12) "
    "ELSE (SELECT state FROM stored_events WHERE position = 7) END WHERE position IN (7, 12)"
)


def move_statement(position: int, to: int) -> str:
    return f"UPDATE stored_events SET position = {to} WHERE position = {position}"


def change_statement(column: str, value: str, position: int = 7) -> tuple[str, ...]:
    return (f"UPDATE stored_events SET {column} = {value} WHERE position = {position}",)


def insert_statement(position: int) -> str:
    return f"INSERT INTO stored_events VALUES ({position}, 'event/new', 1, 'UsageRecorded', CAST('{{}}' AS BLOB))"


# The statements of the intruder, the first position that no longer matches, and the kind of mismatch.
TAMPERINGS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "a byte of the state": (change_statement("state", "CAST(replace(state, 'acme', 'acmf') AS BLOB)"), 7, "changed"),
    "a byte of the first state": (
        change_statement("state", "CAST(replace(state, 'sum', 'Sum') AS BLOB)", 1), 1, "changed",
    ),
    "a byte of the last state": (
        change_statement("state", "CAST(replace(state, 'acme', 'acmf') AS BLOB)", 20), 20, "changed",
    ),
    "a byte of the stream": (change_statement("originator_id", "'event/req-X'"), 7, "changed"),
    "a byte of the topic": (change_statement("topic", "'UsageRecordeD'"), 7, "changed"),
    "the version": (change_statement("originator_version", "2"), 7, "changed"),
    "the state is destroyed": (change_statement("state", "x'ff00'"), 7, "changed"),
    "the state is empty": (change_statement("state", "x''"), 7, "changed"),
    "only the type of the state": (change_statement("state", "CAST(state AS TEXT)"), 7, "changed"),
    "only the type of the stream": (change_statement("originator_id", "CAST(originator_id AS BLOB)"), 7, "changed"),
    "only the type of the topic": (change_statement("topic", "CAST(topic AS BLOB)"), 7, "changed"),
    "only the type of the version": (change_statement("originator_version", "CAST('1' AS BLOB)"), 7, "changed"),
    "the version is not a number": (change_statement("originator_version", "'one'"), 7, "changed"),
    "the stream is not UTF-8": (change_statement("originator_id", "CAST(x'ff41' AS TEXT)"), 7, "changed"),
    "the topic is not UTF-8": (change_statement("topic", "CAST(x'ff41' AS TEXT)"), 7, "changed"),
    "a line end moved between topic and state": (
        change_statement("topic", "topic || x'0a', state = substr(state, 2)"), 7, "changed",
    ),
    "the first deleted": (("DELETE FROM stored_events WHERE position = 1",), 1, "missing"),
    "one deleted": (("DELETE FROM stored_events WHERE position = 7",), 7, "missing"),
    "the last checkpointed deleted": (("DELETE FROM stored_events WHERE position = 20",), 20, "missing"),
    "truncated": (("DELETE FROM stored_events WHERE position >= 17",), 17, "missing"),
    "all deleted": (("DELETE FROM stored_events",), 1, "missing"),
    "one deleted and all later ones moved down by 1": (
        ("DELETE FROM stored_events WHERE position = 7",
         "UPDATE stored_events SET position = position - 1 WHERE position > 7"), 7, "changed",
    ),
    "the last checkpointed deleted and all later ones moved down by 1": (
        ("DELETE FROM stored_events WHERE position = 20",
         "UPDATE stored_events SET position = position - 1 WHERE position > 20"), 20, "changed",
    ),
    "one inserted and all later ones moved up by 1": (
        ("UPDATE stored_events SET position = -position WHERE position >= 7",
         "UPDATE stored_events SET position = 1 - position WHERE position < 0", insert_statement(7)), 7, "changed",
    ),
    "one inserted before the first": ((insert_statement(0),), 0, "inserted"),
    "one inserted far before the first": ((insert_statement(-(2**63)),), -(2**63), "inserted"),
    "all moved below 1": (("UPDATE stored_events SET position = position - 100",), -99, "inserted"),
    "two states swapped": ((SWAP_STATES,), 7, "changed"),
    "two positions swapped": ((move_statement(7, 1000), move_statement(12, 7), move_statement(1000, 12)), 7, "changed"),
    "one moved to the end": ((move_statement(7, 26),), 7, "missing"),
    "all from position 7 on renumbered": (
        ("UPDATE stored_events SET position = position + 1000 WHERE position >= 7",), 7, "missing",
    ),
    "an earlier one changed and a later one deleted": (
        (*change_statement("topic", "'Other'", 3), "DELETE FROM stored_events WHERE position = 7"), 3, "changed",
    ),
    "an earlier one deleted and a later one changed": (
        (*change_statement("topic", "'Other'"), "DELETE FROM stored_events WHERE position = 3"), 3, "missing",
    ),
    "one in each checkpoint changed": (
        (*change_statement("topic", "'Other'", 15), *change_statement("topic", "'Other'", 8)), 8, "changed",
    ),
    "one after the checkpoints deleted": (("DELETE FROM stored_events WHERE position = 22",), 22, "missing"),
    "a gap after the checkpoints": ((insert_statement(2**62),), 26, "missing"),
    "two at one position": (
        ("CREATE TABLE other AS SELECT * FROM stored_events", "DROP TABLE stored_events",
         "ALTER TABLE other RENAME TO stored_events", insert_statement(7)), 7, "inserted",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("statements", "position", "problem"), TAMPERINGS.values(), ids=TAMPERINGS)
def test_the_first_mismatching_position_is_found(
    checkpointed_ledger: CheckpointedLedger, statements: tuple[str, ...], position: int, problem: str
) -> None:
    """`tallybook verify` reports the position and exits with status 1; no new checkpoint can be created."""
    checkpointed_ledger.tamper(*statements)
    before = checkpointed_ledger.checkpoints.read_bytes(), checkpointed_ledger.leaves.read_bytes()[: 32 * 20]
    arguments = ["--checkpoints", str(checkpointed_ledger.checkpoints), "--ledger", checkpointed_ledger.url]
    result = CliRunner().invoke(app, ["verify", *arguments, "--json"])
    assert result.exit_code == 1, result.output
    difference = json.loads(result.stdout)["checkpoints"]["difference"]
    assert (difference["first_position"], difference["last_position"]) == (position, position)
    assert {"changed": "was changed", "missing": "is missing", "inserted": "no ledger wrote"}[problem] in (
        difference["message"]
    )
    completed = CliRunner().invoke(app, ["checkpoint", "create", *arguments])
    assert completed.exit_code == 1
    assert completed.stderr.startswith("tallybook: checkpoint_mismatch: ")
    assert (checkpointed_ledger.checkpoints.read_bytes(), checkpointed_ledger.leaves.read_bytes()[: 32 * 20]) == before


def verify_checkpoints(checkpointed_ledger: CheckpointedLedger) -> CheckpointVerification:
    with checkpointed_ledger.metering() as metering:
        return metering.checkpoints.verify(checkpointed_ledger.checkpoints)


@pytest.mark.parametrize(
    ("time", "finding"),
    [
        ("2026-11-22T09:58:59Z", "earlier than the checkpoint before it"),
        ("2026-10-25T10:00:00.123456Z", "earlier than the checkpoint before it"),
        ("2026-11-22T09:59:01Z", None),
        ("2027-01-01T00:00:00Z", None),
    ],
)
def test_an_event_that_is_earlier_than_a_checkpoint_before_it_is_found(
    checkpointed_ledger: CheckpointedLedger, time: str, finding: str | None
) -> None:
    """A program put its clock back, and the triggers were removed. Clocks may differ by a minute."""
    state = f'{{"recorded_at":"{time}","display_name":"x"}}'
    checkpointed_ledger.tamper(
        "INSERT INTO stored_events VALUES (26, 'meter/tokens', 2, 'Renamed', ?)", with_values=(state.encode(),)
    )
    difference = verify_checkpoints(checkpointed_ledger).difference
    if finding is None:
        assert difference is None
    else:
        assert difference is not None
        assert (difference.first_position, difference.last_position) == (26, 26)
        assert finding in difference.message


def test_an_event_that_is_later_than_a_checkpoint_that_has_it_is_found(empty_ledger: CheckpointedLedger) -> None:
    """Its time can't be true: the checkpoint was made before."""
    state = b'{"recorded_at":"2026-11-22T10:01:01Z","display_name":"x"}'
    empty_ledger.tamper("INSERT INTO stored_events VALUES (2, 'meter/tokens', 2, 'Renamed', ?)", with_values=(state,))
    empty_ledger.create_checkpoint()
    difference = verify_checkpoints(empty_ledger).difference
    assert difference is not None
    assert (difference.first_position, "later than a checkpoint that has it" in difference.message) == (2, True)


def test_an_unchanged_ledger_matches(checkpointed_ledger: CheckpointedLedger) -> None:
    """Both checkpoints match; the result also counts the events after the last checkpoint."""
    verification = verify_checkpoints(checkpointed_ledger)
    assert (
        verification.events,
        verification.checkpointed_events,
        verification.matching_checkpoints,
        verification.difference,
        verification.warnings,
    ) == (25, 20, 2, None, ())


@pytest.mark.parametrize("position", range(1, 21))
def test_a_changed_bit_of_any_checkpointed_event_is_detected(
    checkpointed_ledger: CheckpointedLedger, position: int
) -> None:
    """Earlier checkpoints still match."""
    checkpointed_ledger.tamper(
        "UPDATE stored_events SET state = CAST(x'7c' || substr(state, 2) AS BLOB) WHERE position = ?",
        with_values=[position],
    )
    verification = verify_checkpoints(checkpointed_ledger)
    assert verification.difference is not None
    assert (verification.difference.first_position, verification.difference.last_position) == (position, position)
    assert verification.matching_checkpoints == (1 if position > 10 else 0)


def test_a_changed_byte_in_the_database_file_is_detected(checkpointed_ledger: CheckpointedLedger) -> None:
    """The file is changed without SQLite, as by a faulty disk or a hex editor."""
    with closing(sqlite3.connect(checkpointed_ledger.ledger)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = checkpointed_ledger.ledger.read_bytes()
    assert data.count(b'"tokens":"13"') == 1
    checkpointed_ledger.ledger.write_bytes(data.replace(b'"tokens":"13"', b'"tokens":"12"'))
    verification = verify_checkpoints(checkpointed_ledger)
    assert verification.difference is not None
    assert (verification.difference.first_position, verification.difference.last_position) == (13, 13)


def test_events_after_the_last_checkpoint_are_not_covered(checkpointed_ledger: CheckpointedLedger) -> None:
    """A change of such an event is not detected, which is why checkpoints must be created often."""
    checkpointed_ledger.tamper("UPDATE stored_events SET topic = 'Other' WHERE position = 22")
    assert verify_checkpoints(checkpointed_ledger).difference is None


@pytest.mark.parametrize("corruption", ["missing", "shorter", "changed", "changed with the ledger"])
def test_without_leaf_hashes_the_positions_between_two_checkpoints_are_named(
    checkpointed_ledger: CheckpointedLedger, corruption: str
) -> None:
    """The range is between the last matching checkpoint and the first mismatch; forged hashes don't narrow it."""
    checkpointed_ledger.tamper("UPDATE stored_events SET topic = 'Other' WHERE position = 17")
    hashes = checkpointed_ledger.leaves.read_bytes()
    match corruption:
        case "missing":
            checkpointed_ledger.leaves.unlink()
        case "shorter":
            checkpointed_ledger.leaves.write_bytes(hashes[: 32 * 12])
        case "changed":
            checkpointed_ledger.leaves.write_bytes(hashes[: 32 * 13] + bytes(32) + hashes[32 * 14 :])
        case _:
            forged = checkpointed_ledger.checkpoints.with_name("forged")
            with checkpointed_ledger.metering() as metering:
                metering.checkpoints.create(forged)
            checkpointed_ledger.leaves.write_bytes(forged.with_name("forged.leaves").read_bytes())
    verification = verify_checkpoints(checkpointed_ledger)
    assert verification.difference is not None
    assert (
        verification.difference.first_position,
        verification.difference.last_position,
        verification.matching_checkpoints,
    ) == (11, 20, 1)
    assert "11 to 20" in verification.difference.message


def test_without_leaf_hashes_a_gap_bounds_the_first_change(checkpointed_ledger: CheckpointedLedger) -> None:
    """The missing event is the last candidate; an earlier event may have changed too."""
    checkpointed_ledger.tamper("DELETE FROM stored_events WHERE position = 17")
    checkpointed_ledger.leaves.unlink()
    verification = verify_checkpoints(checkpointed_ledger)
    assert verification.difference is not None
    assert (verification.difference.first_position, verification.difference.last_position) == (11, 17)


@pytest.mark.parametrize("corruption", [b"", b"x" * 640, None])
def test_corrupted_leaf_hashes_are_reported_and_rebuilt(
    checkpointed_ledger: CheckpointedLedger, corruption: bytes | None
) -> None:
    """Verification of a matching ledger needs no leaf hashes; the next checkpoint rebuilds them."""
    complete = checkpointed_ledger.leaves.read_bytes()
    checkpointed_ledger.leaves.unlink() if corruption is None else checkpointed_ledger.leaves.write_bytes(corruption)
    verification = verify_checkpoints(checkpointed_ledger)
    assert verification.difference is None
    assert [message.split(" is ")[1] for message in verification.warnings] == [
        "missing or changed; the next checkpoint writes it again."
    ]
    checkpointed_ledger.create_checkpoint()
    assert checkpointed_ledger.leaves.read_bytes()[:640] == complete
    assert verify_checkpoints(checkpointed_ledger).warnings == ()


def test_verification_does_not_decode_events(checkpointed_ledger: CheckpointedLedger) -> None:
    """Verification completes on a ledger whose states cannot be decoded."""
    checkpointed_ledger.tamper("UPDATE stored_events SET state = x'00', topic = 'Nothing' WHERE position > 15")
    verification = verify_checkpoints(checkpointed_ledger)
    assert verification.difference is not None
    assert verification.difference.first_position == 16


def test_checkpoints_are_verified_before_read_models_are_opened(checkpointed_ledger: CheckpointedLedger) -> None:
    """A changed ledger is reported even if its read models can't be opened."""
    checkpointed_ledger.tamper("DELETE FROM stored_events WHERE position = 5")
    read_models_file = checkpointed_ledger.ledger.with_name("usage.db.read-models")
    read_models_file.write_bytes(b"not a database" * 1000)
    result = CliRunner().invoke(
        app, ["verify", "--checkpoints", str(checkpointed_ledger.checkpoints), "--ledger", checkpointed_ledger.url]
    )
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.endswith("differs: The event at position 5 is missing.\n")


def test_a_first_checkpoint_is_not_created_over_a_gap(empty_ledger: CheckpointedLedger) -> None:
    """Positions must be 1, 2, 3 and so on, even without an earlier checkpoint."""
    empty_ledger.record(2, 9)
    empty_ledger.tamper("DELETE FROM stored_events WHERE position = 5")
    with pytest.raises(TallybookError) as completed:
        empty_ledger.create_checkpoint()
    assert (completed.value.code, completed.value.value) == ("checkpoint_mismatch", 5)
    assert list(empty_ledger.checkpoints.parent.iterdir()) == []


def test_a_growing_ledger_is_checkpointed_as_of_the_start(checkpointed_ledger: CheckpointedLedger) -> None:
    """Recording continues between the pages; the next checkpoint covers the later events."""
    with (
        checkpointed_ledger.metering() as metering,
        closing(Ledger(resolve_store(f"sqlite:///{checkpointed_ledger.ledger}"))) as ledger,
    ):
        service = CheckpointService(ledger, lambda: NOW)
        sizes: list[int] = []

        def advance(done: int, total: int) -> None:
            sizes.append(total)
            metering.record("tokens", {"customer": "acme", "tokens": "1"}, identifier=f"late-{len(sizes)}")

        assert service.create(checkpointed_ledger.checkpoints, progress=advance).size == 25
        assert len(sizes) == 3
        assert metering.checkpoints.verify(checkpointed_ledger.checkpoints).events == 28
        assert metering.checkpoints.create(checkpointed_ledger.checkpoints).size == 28
        assert metering.checkpoints.verify(checkpointed_ledger.checkpoints).difference is None
