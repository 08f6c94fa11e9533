"""Ways of tampering by a person with all rights on the database, and what a verification against checkpoints finds.

The auditor has copies of the checkpoint file and of the public key. docs/guides/prove-nothing-was-rewritten.md states
the limits.
"""

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from tallybook.application import Metering, TallybookError
from tallybook.application.checkpoints.service import CheckpointService
from tallybook.application.checkpoints.signing_keys import PrivateKey
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.storage.url import resolve_store

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
MONTH = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
SIZE, EARLIER_SIZE, HEAD = 14, 8, 17
"""The events of the newest checkpoint, of the one before it, and of the ledger."""
FILES = ("usage.db", "operator.checkpoints", "operator.checkpoints.leaves", "auditor.checkpoints", "key.pem", "key.pub")
SHIFT = "UPDATE stored_events SET position = -position WHERE position >= {0}"
SHIFT_BACK = "UPDATE stored_events SET position = -position + {1} WHERE position <= -{0}"
COLUMNS = "originator_id, originator_version, topic, state"
NEW_EVENT = (
    f"INSERT INTO stored_events (position, {COLUMNS}) SELECT {{}}, 'event/new', 1, topic, state FROM stored_events"
)
CUT = "DELETE FROM stored_events WHERE position > {}"


def write_history(metering: Metering) -> None:
    """Record events of each kind, up to the next checkpoint of SIZE events."""
    metering.cancel("tokens", "req-2", reason="twice", by="ops")
    metering.periods.close("tokens", "acme", *MONTH, allow_empty=True)
    metering.rules.change("tokens", {"multiplier": "2"}, reason="contract", by="sales")
    metering.access_keys.create(["read"], "reports", by="ops")
    record(metering, 8, 10)


def record(metering: Metering, first: int, last: int) -> None:
    """Record a meter event for each number."""
    metering.record_many(
        {"event_name": "tokens", "identifier": f"req-{n}", "payload": {"customer": "acme", "tokens": f"{n}"}}
        for n in range(first, last)
    )


class Tampered:
    """A copy of the ledger and of all files, for one way of tampering."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def url(self) -> str:
        """The URL of the ledger."""
        return f"sqlite:///{self.folder}/usage.db"

    def run(self, statements: Sequence[str], *, drop_triggers: bool = True) -> None:
        """Run statements as the owner of the database."""
        with closing(sqlite3.connect(self.folder / "usage.db")) as connection, connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            triggers = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            for (trigger,) in triggers if drop_triggers else ():
                connection.execute(f"DROP TRIGGER {trigger}")
            for statement in statements:
                connection.execute(statement)

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        """Change a file."""
        file = self.folder / name
        text = file.read_text()
        file.write_text(change(text))
        assert file.read_text() != text

    def remake_checkpoints(self, key: str) -> None:
        """Create a new checkpoint file for the ledger as it is now."""
        for file in self.folder.glob("operator.checkpoints*"):
            file.unlink()
        if not (self.folder / key).exists():
            PrivateKey.generate(self.folder / key, "tallybook")
        with closing(Ledger(resolve_store(self.url))) as ledger:
            service = CheckpointService(ledger, lambda: NOW)
            service.create(self.folder / "operator.checkpoints", key=self.folder / key)

    def finding(self, checkpoints: str = "auditor.checkpoints") -> str:
        """Return what the verification against checkpoints finds; "" if nothing."""
        try:
            with closing(Ledger(resolve_store(self.url))) as ledger:
                service = CheckpointService(ledger, lambda: NOW)
                result = service.verify(self.folder / checkpoints, key=self.folder / "key.pub")
        except TallybookError as error:
            return f"{error.code}: {error.message}"
        return "" if result.difference is None else result.difference.message


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a ledger, two signed checkpoints, and the copies of the auditor."""
    folder = tmp_path_factory.mktemp("original")
    key = PrivateKey.generate(folder / "key.pem", "tallybook")
    (folder / "key.pub").write_text(str(key.public_key))
    ledger = Tampered(folder)
    with Metering.open(ledger.url, clock=lambda: NOW) as metering:
        metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
        record(metering, 1, 8)
        metering.checkpoints.create(folder / "operator.checkpoints", key=folder / "key.pem")
        write_history(metering)
        for number in range(metering.catch_up(), SIZE):
            record(metering, number + 100, number + 101)
        metering.checkpoints.create(folder / "operator.checkpoints", key=folder / "key.pem")
        record(metering, 20, 20 + HEAD - SIZE)
        assert metering.catch_up() == HEAD
    for suffix in ("", ".leaves"):
        shutil.copy(folder / f"operator.checkpoints{suffix}", folder / f"auditor.checkpoints{suffix}")
    return folder


@pytest.fixture
def tampered(original: Path, tmp_path: Path) -> Tampered:
    """Return a copy. Nothing was changed in it yet."""
    for file in original.iterdir():
        if file.is_file() and "read-models" not in file.name:
            shutil.copy(file, tmp_path / file.name)
    return Tampered(tmp_path)


def replaced(old: str, new: str, topic: str) -> str:
    """Return a statement that replaces text in the first state of a topic, in which it must be."""
    text = "CAST(state AS TEXT)"
    first = f"SELECT min(position) FROM stored_events WHERE topic = '{topic}' AND instr({text}, '{old}') > 0"
    return (
        f"UPDATE stored_events SET state = CAST(replace({text}, '{old}', '{new}') AS BLOB) WHERE position = ({first})"
    )


def in_row(position: int, change: str) -> str:
    """Return a statement that changes columns of a row."""
    return f"UPDATE stored_events SET {change} WHERE position = {position}"


class Way(NamedTuple):
    """A way of tampering with stored events: the statements, and a part of what is found."""

    statements: Sequence[str]
    finding: str


CHANGED, MISSING, INSERTED = (
    "position {} was changed",
    "position {} is missing",
    "event at position {} that no ledger wrote",
)
WAYS = {
    "a value": Way([replaced('"tokens":"3"', '"tokens":"30"', "UsageRecorded")], CHANGED.format(4)),
    "a customer": Way([replaced('"acme"', '"zeta"', "UsageRecorded")], CHANGED.format(2)),
    "a time of usage": Way(
        [replaced('"occurred_at":"2026-11', '"occurred_at":"2026-10', "UsageRecorded")], CHANGED.format(2)
    ),
    "a time of recording": Way(
        [replaced('"recorded_at":"2026-11', '"recorded_at":"2026-10', "UsageRecorded")], CHANGED.format(2)
    ),
    "a space in the JSON": Way(
        [in_row(3, "state = CAST(replace(CAST(state AS TEXT), ':', ': ') AS BLOB)")], CHANGED.format(3)
    ),
    "a byte after the JSON": Way([in_row(3, "state = CAST(CAST(state AS TEXT) || ' ' AS BLOB)")], CHANGED.format(3)),
    "an empty state": Way([in_row(3, "state = x''")], CHANGED.format(3)),
    "invalid UTF-8": Way([in_row(3, "state = x'ff'")], CHANGED.format(3)),
    "text in place of bytes": Way([in_row(3, "state = CAST(state AS TEXT)")], CHANGED.format(3)),
    "an identifier": Way([in_row(3, "originator_id = 'event/other'")], CHANGED.format(3)),
    "bytes in place of an identifier": Way(
        [in_row(3, "originator_id = CAST(originator_id AS BLOB)")], CHANGED.format(3)
    ),
    "a version": Way([in_row(3, "originator_version = 7")], CHANGED.format(3)),
    "a topic": Way([in_row(3, "topic = 'EventCancelled'")], CHANGED.format(3)),
    "the reason of a cancellation": Way([replaced("twice", "never", "EventCancelled")], "was changed"),
    "the author of a cancellation": Way([replaced('"by":"ops"', '"by":"you"', "EventCancelled")], "was changed"),
    "the formula": Way([replaced('"formula":"sum"', '"formula":"max"', "Configured")], CHANGED.format(1)),
    "the multiplier": Way([replaced('"multiplier":"2"', '"multiplier":"3"', "RulesChanged")], "was changed"),
    "the reason of a rule change": Way([replaced("contract", "mistakes", "RulesChanged")], "was changed"),
    "an invoiced quantity": Way([replaced('"quantity":"0"', '"quantity":"9"', "PeriodClosed")], "was changed"),
    "the scope of a key": Way([replaced('"read"', '"admin"', "AccessKeyCreated")], "was changed"),
    "the hash of a key": Way([replaced('"hash":"', '"hash":"0', "AccessKeyCreated")], "was changed"),
    "a cancellation deleted": Way(["DELETE FROM stored_events WHERE topic = 'EventCancelled'"], "is missing"),
    "the first event deleted": Way(["DELETE FROM stored_events WHERE position = 1"], MISSING.format(1)),
    "the last checkpointed event deleted": Way(
        [f"DELETE FROM stored_events WHERE position = {SIZE}"], MISSING.format(SIZE)
    ),
    "the tail cut": Way([CUT.format(10)], MISSING.format(11)),
    "the tail cut to a checkpoint": Way([CUT.format(EARLIER_SIZE)], MISSING.format(9)),
    "everything deleted": Way(["DELETE FROM stored_events"], MISSING.format(1)),
    "a gap closed": Way(
        ["DELETE FROM stored_events WHERE position = 5", SHIFT.format(6), SHIFT_BACK.format(6, -1)], CHANGED.format(5)
    ),
    "an event inserted": Way(
        [SHIFT.format(5), SHIFT_BACK.format(5, 1), NEW_EVENT.format(5) + " WHERE position = 4"],
        CHANGED.format(5),
    ),
    "two events swapped": Way(
        [in_row(4, "position = -4"), in_row(5, "position = 4"), in_row(-4, "position = 5")], CHANGED.format(4)
    ),
    "an event at position 0": Way(
        [NEW_EVENT.format(0) + " LIMIT 1"],
        INSERTED.format(0),
    ),
    "an event at a negative position": Way(
        [NEW_EVENT.format(-7) + " LIMIT 1"],
        INSERTED.format(-7),
    ),
    "a gap after the checkpoint": Way(["DELETE FROM stored_events WHERE position = 16"], MISSING.format(16)),
    "the table replaced by an empty one": Way(
        [
            "CREATE TABLE copy AS SELECT * FROM stored_events",
            "DELETE FROM stored_events",
            f"INSERT INTO stored_events (position, {COLUMNS}) SELECT position, {COLUMNS} FROM copy WHERE position <> 9",
        ],
        MISSING.format(9),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_changed_events_are_found(tampered: Tampered, way: str) -> None:
    """With the position, whatever was changed up to the newest checkpoint; also without the file of leaf hashes."""
    tampered.run(WAYS[way].statements)
    assert WAYS[way].finding in tampered.finding()
    (tampered.folder / "auditor.checkpoints.leaves").unlink()
    assert tampered.finding() != ""


@pytest.mark.parametrize(
    "way", ["a value", "the reason of a cancellation", "an invoiced quantity", "two events swapped"]
)
def test_remade_checkpoints_do_not_hide_a_change(tampered: Tampered, way: str) -> None:
    """The copies of the auditor differ, even if the person who changed the events has the private key."""
    tampered.run(WAYS[way].statements)
    tampered.remake_checkpoints("key.pem")
    assert tampered.finding("operator.checkpoints") == ""
    assert WAYS[way].finding in tampered.finding()


def test_nothing_is_found_in_an_unchanged_ledger(tampered: Tampered) -> None:
    """Neither against the copies of the auditor nor against the files of the operator."""
    assert tampered.finding() == tampered.finding("operator.checkpoints") == ""


CHECKPOINT_FORGERIES: dict[str, Callable[[str], str]] = {
    "the root": lambda text: text.replace("\n14\n", "\n14\nA", 1),
    "the number of events": lambda text: text.replace("\n14\n", "\n13\n"),
    "the time": lambda text: text.replace("time 2026", "time 2025"),
    "the name": lambda text: text.replace("tallybook\n", "tallyboor\n"),
    "a signature": lambda text: text.replace("— tallybook ", "— tallybook A"),
    "the signatures removed": lambda text: "".join(line for line in text.splitlines(True) if not line.startswith("—")),
    "the order": lambda text: "tallybook".join(["", *reversed(text.split("tallybook\n")[1:])]),
}


@pytest.mark.parametrize("forgery", CHECKPOINT_FORGERIES)
def test_changed_checkpoints_are_found(tampered: Tampered, forgery: str) -> None:
    """By their signatures, also if the auditor has the key alone."""
    tampered.edit("auditor.checkpoints", CHECKPOINT_FORGERIES[forgery])
    assert tampered.finding().startswith("invalid_checkpoint_file")


def test_checkpoints_of_another_key_are_found(tampered: Tampered) -> None:
    """A person without the private key can't remake checkpoints."""
    tampered.run(WAYS["a value"].statements)
    tampered.remake_checkpoints("forged.pem")
    assert "is not signed by" in tampered.finding("operator.checkpoints")


def test_changed_leaf_hashes_do_not_hide_a_change(tampered: Tampered) -> None:
    """They only help to locate it."""
    tampered.run(WAYS["a value"].statements)
    tampered.remake_checkpoints("key.pem")
    shutil.copy(tampered.folder / "operator.checkpoints.leaves", tampered.folder / "auditor.checkpoints.leaves")
    assert "from 1 to 8" in tampered.finding()


def test_changed_read_models_are_found(tampered: Tampered) -> None:
    """By the comparison of all totals with the ledger."""
    with Metering.open(tampered.url, clock=lambda: NOW) as metering:
        assert metering.verify().is_equal
        with closing(sqlite3.connect(tampered.folder / "usage.db.read-models")) as connection, connection:
            assert connection.execute("UPDATE totals_1 SET sum = '1000000'").rowcount
        assert not metering.verify().is_equal


PREVENTED = {
    "an update": in_row(3, "state = x''"),
    "a deletion": "DELETE FROM stored_events WHERE position = 3",
    "a gap": NEW_EVENT.format(99) + " LIMIT 1",
    "a replacement": NEW_EVENT.format(3).replace("INSERT", "REPLACE") + " LIMIT 1",
    "an identifier a second time": f"INSERT INTO stored_events ({COLUMNS}) SELECT {COLUMNS} FROM stored_events LIMIT 1",
}


@pytest.mark.parametrize("way", PREVENTED)
def test_triggers_prevent_changes_by_mistake(tampered: Tampered, way: str) -> None:
    """As long as they are there."""
    with pytest.raises(sqlite3.IntegrityError):
        tampered.run([PREVENTED[way]], drop_triggers=False)
    assert tampered.finding() == ""


def put_clock_back(tampered: Tampered) -> None:
    """Cut the tail, and record again with an earlier clock, so that as many events follow."""
    tampered.run([CUT.format(EARLIER_SIZE)])
    with Metering.open(tampered.url, clock=lambda: NOW - timedelta(minutes=1)) as metering:
        record(metering, 50, 50 + HEAD - EARLIER_SIZE)


def test_a_tail_recorded_again_is_found(tampered: Tampered) -> None:
    """Also with other usage at earlier times, and a new checkpoint that follows an honest one."""
    put_clock_back(tampered)
    assert CHANGED.format(9) in tampered.finding()


LIMITS: dict[str, Callable[[Tampered], object]] = {
    "an event after the newest checkpoint": lambda tampered: tampered.run([in_row(16, "topic = topic || ''")]),
    "the tail after the newest checkpoint": lambda tampered: tampered.run([CUT.format(SIZE)]),
    "the triggers": lambda tampered: tampered.run([]),
}


@pytest.mark.parametrize("way", LIMITS)
def test_the_limits_are_those_of_the_guide(tampered: Tampered, way: str) -> None:
    """Nothing is found of what happened after the newest checkpoint, or of removed triggers alone."""
    LIMITS[way](tampered)
    assert tampered.finding() == ""


def test_without_a_copy_the_holder_of_the_private_key_can_rewrite_everything(tampered: Tampered) -> None:
    """Therefore the newest checkpoint belongs into the hands of somebody else."""
    put_clock_back(tampered)
    tampered.remake_checkpoints("key.pem")
    assert tampered.finding("operator.checkpoints") == ""
    assert tampered.finding("auditor.checkpoints") != ""


def test_an_operator_can_withhold_the_newest_checkpoint(tampered: Tampered) -> None:
    """The file of the operator then ends with an honest earlier one; only a copy of the newest one shows it."""
    put_clock_back(tampered)
    tampered.edit("operator.checkpoints", lambda text: text[: text.index("\n\ntallybook") + 2])
    assert tampered.finding("operator.checkpoints") == ""
    assert CHANGED.format(9) in tampered.finding()
