"""Whatever is done to sealed events by somebody who has the ledger's file, the first position is named."""

import json
import sqlite3
from contextlib import closing

import pytest
from tallybook.application import SealVerification, TallybookError
from tallybook.application.cli.commands import app
from tallybook.application.ledger import Ledger
from tallybook.application.ledger_url import locate
from tallybook.application.seals.sealing import Sealer
from typer.testing import CliRunner

from .ledgers import NOW, Sealed

EVENTS = "stored_events"
SWAP_STATES = (
    "UPDATE stored_events SET state = CASE position WHEN 7 THEN (SELECT state FROM stored_events WHERE position = 12) "
    "ELSE (SELECT state FROM stored_events WHERE position = 7) END WHERE position IN (7, 12)"
)


def moved(position: int, to: int) -> str:
    return f"UPDATE stored_events SET position = {to} WHERE position = {position}"


def changed(column: str, value: str, position: int = 7) -> tuple[str, ...]:
    return (f"UPDATE stored_events SET {column} = {value} WHERE position = {position}",)


def inserted(position: int) -> str:
    return f"INSERT INTO stored_events VALUES ({position}, 'event/new', 1, 'UsageRecorded', CAST('{{}}' AS BLOB))"


# What is done, the first position that no longer matches, and what is wrong with it.
TAMPERED: dict[str, tuple[tuple[str, ...], int, str]] = {
    "a byte of the state": (changed("state", "CAST(replace(state, 'acme', 'acmf') AS BLOB)"), 7, "changed"),
    "a byte of the first state": (changed("state", "CAST(replace(state, 'sum', 'Sum') AS BLOB)", 1), 1, "changed"),
    "a byte of the last state": (changed("state", "CAST(replace(state, 'acme', 'acmf') AS BLOB)", 20), 20, "changed"),
    "a byte of the stream": (changed("originator_id", "'event/req-X'"), 7, "changed"),
    "a byte of the topic": (changed("topic", "'UsageRecordeD'"), 7, "changed"),
    "the version": (changed("originator_version", "2"), 7, "changed"),
    "the state is destroyed": (changed("state", "x'ff00'"), 7, "changed"),
    "the state is empty": (changed("state", "x''"), 7, "changed"),
    "the state's type alone": (changed("state", "CAST(state AS TEXT)"), 7, "changed"),
    "the stream's type alone": (changed("originator_id", "CAST(originator_id AS BLOB)"), 7, "changed"),
    "the topic's type alone": (changed("topic", "CAST(topic AS BLOB)"), 7, "changed"),
    "the version's type alone": (changed("originator_version", "CAST('1' AS BLOB)"), 7, "changed"),
    "the version is no number": (changed("originator_version", "'one'"), 7, "changed"),
    "the stream is no UTF-8": (changed("originator_id", "CAST(x'ff41' AS TEXT)"), 7, "changed"),
    "the topic is no UTF-8": (changed("topic", "CAST(x'ff41' AS TEXT)"), 7, "changed"),
    "a line end moved between topic and state": (
        changed("topic", "topic || x'0a', state = substr(state, 2)"), 7, "changed",
    ),
    "the first deleted": (("DELETE FROM stored_events WHERE position = 1",), 1, "missing"),
    "one deleted": (("DELETE FROM stored_events WHERE position = 7",), 7, "missing"),
    "the last sealed deleted": (("DELETE FROM stored_events WHERE position = 20",), 20, "missing"),
    "cut off at the end": (("DELETE FROM stored_events WHERE position >= 17",), 17, "missing"),
    "all deleted": (("DELETE FROM stored_events",), 1, "missing"),
    "one deleted and all after it moved up": (
        ("DELETE FROM stored_events WHERE position = 7",
         "UPDATE stored_events SET position = position - 1 WHERE position > 7"), 7, "changed",
    ),
    "the last sealed deleted and all after it moved up": (
        ("DELETE FROM stored_events WHERE position = 20",
         "UPDATE stored_events SET position = position - 1 WHERE position > 20"), 20, "changed",
    ),
    "one inserted and all after it moved down": (
        ("UPDATE stored_events SET position = -position WHERE position >= 7",
         "UPDATE stored_events SET position = 1 - position WHERE position < 0", inserted(7)), 7, "changed",
    ),
    "one inserted before the first": ((inserted(0),), 0, "inserted"),
    "one inserted far before the first": ((inserted(-(2**63)),), -(2**63), "inserted"),
    "all moved below 1": (("UPDATE stored_events SET position = position - 100",), -99, "inserted"),
    "two states swapped": ((SWAP_STATES,), 7, "changed"),
    "two positions swapped": ((moved(7, 1000), moved(12, 7), moved(1000, 12)), 7, "changed"),
    "one moved to the end": ((moved(7, 26),), 7, "missing"),
    "all from one on renumbered": (
        ("UPDATE stored_events SET position = position + 1000 WHERE position >= 7",), 7, "missing",
    ),
    "an earlier one changed and a later one deleted": (
        (*changed("topic", "'Other'", 3), "DELETE FROM stored_events WHERE position = 7"), 3, "changed",
    ),
    "an earlier one deleted and a later one changed": (
        (*changed("topic", "'Other'"), "DELETE FROM stored_events WHERE position = 3"), 3, "missing",
    ),
    "one under each seal changed": ((*changed("topic", "'Other'", 15), *changed("topic", "'Other'", 8)), 8, "changed"),
    "one after the seals deleted": (("DELETE FROM stored_events WHERE position = 22",), 22, "missing"),
    "a gap after the seals": ((inserted(2**62),), 26, "missing"),
    "two at one position": (
        ("CREATE TABLE other AS SELECT * FROM stored_events", "DROP TABLE stored_events",
         "ALTER TABLE other RENAME TO stored_events", inserted(7)), 7, "inserted",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("statements", "position", "wrong"), TAMPERED.values(), ids=TAMPERED)
def test_the_first_position_that_no_longer_matches_is_found(
    sealed: Sealed, statements: tuple[str, ...], position: int, wrong: str
) -> None:
    """By the command, with status 1, exactly; and such a ledger isn't sealed again."""
    sealed.tamper(*statements)
    before = sealed.seals.read_bytes(), sealed.leaves.read_bytes()[: 32 * 20]
    words = ["--seals", str(sealed.seals), "--ledger", sealed.url]
    result = CliRunner().invoke(app, ["verify", *words, "--json"])
    assert result.exit_code == 1, result.output
    difference = json.loads(result.stdout)["seals"]["difference"]
    assert (difference["first"], difference["last"]) == (position, position)
    assert {"changed": "was changed", "missing": "is missing", "inserted": "no ledger wrote"}[wrong] in (
        difference["message"]
    )
    refused = CliRunner().invoke(app, ["seal", *words])
    assert refused.exit_code == 1
    assert refused.stderr.startswith("tallybook: ledger_differs_from_seals: ")
    assert (sealed.seals.read_bytes(), sealed.leaves.read_bytes()[: 32 * 20]) == before


def verified(sealed: Sealed) -> SealVerification:
    with sealed.metering() as metering:
        return metering.verify_seals(sealed.seals)


def test_a_ledger_that_nobody_touched_matches(sealed: Sealed) -> None:
    """With both seals; what was recorded since is told to be unsealed."""
    found = verified(sealed)
    assert (found.events, found.sealed, found.agreeing, found.difference, found.notes) == (25, 20, 2, None, ())


@pytest.mark.parametrize("position", range(1, 21))
def test_a_changed_bit_of_any_sealed_event_is_found(sealed: Sealed, position: int) -> None:
    """The seals before it still match."""
    sealed.tamper(
        "UPDATE stored_events SET state = CAST(x'7c' || substr(state, 2) AS BLOB) WHERE position = ?",
        with_values=[position],
    )
    found = verified(sealed)
    assert found.difference is not None
    assert (found.difference.first, found.difference.last) == (position, position)
    assert found.agreeing == (1 if position > 10 else 0)


def test_a_changed_byte_in_the_file_itself_is_found(sealed: Sealed) -> None:
    """Below SQLite, as a disk or an editor of bytes would change it."""
    with closing(sqlite3.connect(sealed.ledger)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = sealed.ledger.read_bytes()
    assert data.count(b'"tokens":"13"') == 1
    sealed.ledger.write_bytes(data.replace(b'"tokens":"13"', b'"tokens":"12"'))
    found = verified(sealed)
    assert found.difference is not None
    assert (found.difference.first, found.difference.last) == (13, 13)


def test_what_was_recorded_after_the_last_seal_is_not_held_by_it(sealed: Sealed) -> None:
    """A change there is found only by a later seal's absence: it is why ledgers are sealed often."""
    sealed.tamper("UPDATE stored_events SET topic = 'Other' WHERE position = 22")
    assert verified(sealed).difference is None


@pytest.mark.parametrize("damage", ["missing", "shorter", "changed", "changed with the ledger"])
def test_without_the_leaf_hashes_the_positions_between_two_seals_are_named(sealed: Sealed, damage: str) -> None:
    """They lie between the last seal that matches and the first that doesn't: a forged file of hashes tells nothing."""
    sealed.tamper("UPDATE stored_events SET topic = 'Other' WHERE position = 17")
    hashes = sealed.leaves.read_bytes()
    match damage:
        case "missing":
            sealed.leaves.unlink()
        case "shorter":
            sealed.leaves.write_bytes(hashes[: 32 * 12])
        case "changed":
            sealed.leaves.write_bytes(hashes[: 32 * 13] + bytes(32) + hashes[32 * 14 :])
        case _:
            forged = sealed.seals.with_name("forged")
            with sealed.metering() as metering:
                metering.seal(forged)
            sealed.leaves.write_bytes(forged.with_name("forged.leaves").read_bytes())
    found = verified(sealed)
    assert found.difference is not None
    assert (found.difference.first, found.difference.last, found.agreeing) == (11, 20, 1)
    assert "11 to 20" in found.difference.message


def test_without_the_leaf_hashes_a_gap_bounds_where_the_first_change_is(sealed: Sealed) -> None:
    """What is missing is surely wrong; something before it may be too."""
    sealed.tamper("DELETE FROM stored_events WHERE position = 17")
    sealed.leaves.unlink()
    found = verified(sealed)
    assert found.difference is not None
    assert (found.difference.first, found.difference.last) == (11, 17)


@pytest.mark.parametrize("damage", [b"", b"x" * 640, None])
def test_leaf_hashes_that_are_damaged_are_told_and_made_again(sealed: Sealed, damage: bytes | None) -> None:
    """A ledger that matches its seals needs no hashes to be verified; the next seal makes them again."""
    whole = sealed.leaves.read_bytes()
    sealed.leaves.unlink() if damage is None else sealed.leaves.write_bytes(damage)
    found = verified(sealed)
    assert found.difference is None
    assert [note.split(" is ")[1] for note in found.notes] == ["missing or changed; the next seal makes it again."]
    sealed.seal()
    assert sealed.leaves.read_bytes()[:640] == whole
    assert verified(sealed).notes == ()


def test_nothing_is_read_for_what_it_says(sealed: Sealed) -> None:
    """A ledger in which no state can be decoded any more is verified to the end all the same."""
    sealed.tamper("UPDATE stored_events SET state = x'00', topic = 'Nothing' WHERE position > 15")
    found = verified(sealed)
    assert found.difference is not None
    assert found.difference.first == 16


def test_seals_are_verified_before_read_models_are_opened(sealed: Sealed) -> None:
    """A ledger that was rewritten is told as such, also where its read models can't be opened."""
    sealed.tamper("DELETE FROM stored_events WHERE position = 5")
    views = sealed.ledger.with_name("usage.db.views")
    views.write_bytes(b"not a database" * 1000)
    result = CliRunner().invoke(app, ["verify", "--seals", str(sealed.seals), "--ledger", sealed.url])
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.endswith("differs: The event at position 5 is missing.\n")


def test_a_first_seal_is_not_made_over_a_gap(unsealed: Sealed) -> None:
    """Positions have to be 1, 2, 3 and so on also where there is no earlier seal."""
    unsealed.record(2, 9)
    unsealed.tamper("DELETE FROM stored_events WHERE position = 5")
    with pytest.raises(TallybookError) as refused:
        unsealed.seal()
    assert (refused.value.code, refused.value.value) == ("ledger_differs_from_seals", 5)
    assert list(unsealed.seals.parent.iterdir()) == []


def test_a_ledger_that_grows_while_it_is_sealed_is_sealed_as_it_was_at_the_start(sealed: Sealed) -> None:
    """Recording goes on between the pages; what comes later is left to the next seal."""
    with sealed.metering() as metering, closing(Ledger(locate(f"sqlite:///{sealed.ledger}"))) as ledger:
        sealer = Sealer(ledger, lambda: NOW)
        grown: list[int] = []

        def advance(done: int, total: int) -> None:
            grown.append(total)
            metering.record("tokens", {"customer": "acme", "tokens": "1"}, identifier=f"late-{len(grown)}")

        assert sealer.seal(sealed.seals, advance=advance).size == 25
        assert len(grown) == 3
        assert metering.verify_seals(sealed.seals).events == 28
        assert metering.seal(sealed.seals).size == 28
        assert metering.verify_seals(sealed.seals).difference is None
