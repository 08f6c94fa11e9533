"""Published checkpoints cover what is new, are stored in the ledger and outside, and reveal changed events."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from tallybook.application import (
    CheckpointDestinationUnavailable,
    CheckpointInProgress,
    CheckpointMismatch,
    InvalidCheckpointFile,
    InvalidSigningKey,
    KeyValueEntry,
    MeterEventNotFound,
    Metering,
    NotCheckpointed,
    verify_inclusion,
)
from tallybook.application.checkpoints.leaves import hash_pages
from tallybook.application.checkpoints.merkle import Tree
from tallybook.application.checkpoints.signing_keys import PrivateKey
from tallybook.application.checkpoints.stored_tree import StoredTree
from tallybook.application.ledger.ledger import Ledger

from .histories import START
from .persistent_stores import PersistentStore, Step
from .stores import ANY_TIME


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a private key."""
    path = tmp_path_factory.mktemp("key") / "key.pem"
    PrivateKey.generate(path, "tallybook")
    return path


def record(metering: Metering, *identifiers: str) -> None:
    """Record meter events."""
    payload = {"customer": "acme", "value": "1"}
    metering.record_many(
        [
            {"event_name": "tokens", "identifier": identifier, "timestamp": START, "payload": payload}
            for identifier in identifiers
        ],
        strict=True,
    )


def configure(metering: Metering) -> None:
    """Configure the meter."""
    metering.meters.configure("tokens", customer_key="customer", value_key="value")


@pytest.fixture
def published(persistent_store: PersistentStore, key: Path, tmp_path: Path) -> PersistentStore:
    """A ledger of 5 events with two checkpoints, the last of them in a file too."""
    with persistent_store.open() as metering:
        configure(metering)
        record(metering, "a", "b")
        metering.checkpoints.publish(key)
        record(metering, "c", "d")
        metering.checkpoints.publish(key, [tmp_path / "outside"])
    return persistent_store


def test_a_checkpoint_of_what_is_new(metering: Metering, key: Path, tmp_path: Path) -> None:
    """It is stored in the ledger and in a file, which the file's own commands verify and extend."""
    file = tmp_path / "outside"
    configure(metering)
    assert metering.checkpoints.list() == []
    record(metering, "a")
    with pytest.raises(NotCheckpointed, match="no checkpoint yet"):
        metering.checkpoints.prove("a")
    first = metering.checkpoints.publish(key, [file])
    assert (first.new_events, first.signed_checkpoint.checkpoint.size) == (2, 2)
    assert metering.checkpoints.publish(key, [file]).new_events == 0
    record(metering, "b", "c")
    with pytest.raises(NotCheckpointed, match="has 2 events"):
        metering.checkpoints.prove("b")
    second = metering.checkpoints.publish(key, [file])
    assert (second.new_events, second.signed_checkpoint.checkpoint.size) == (2, 4)
    assert metering.checkpoints.list() == [second.signed_checkpoint, first.signed_checkpoint]
    assert metering.checkpoints.list(limit=1, before=4) == [first.signed_checkpoint]
    public_key = str(PrivateKey.load(key, "tallybook").public_key)
    verification = metering.checkpoints.verify(file, key=public_key)
    assert (verification.matching_checkpoints, verification.difference, verification.warnings) == (2, None, ())
    (proof,) = metering.checkpoints.prove("b")
    assert verify_inclusion(proof.event, str(proof), key=public_key).position == 3
    assert metering.checkpoints.create(file, key=key).size == 4
    assert metering.checkpoints.verify_published(key, [file]).checkpointed_events == 4
    with pytest.raises(MeterEventNotFound):
        metering.checkpoints.prove("z")


def test_one_process_publishes_at_a_time(metering: Metering, key: Path) -> None:
    """Another one is told to retry later."""
    configure(metering)
    with metering.key_value_store().try_lock("publishing a checkpoint") as is_locked:
        assert is_locked
        with pytest.raises(CheckpointInProgress):
            metering.checkpoints.publish(key)
    assert metering.checkpoints.publish(key).new_events == 1


def test_another_key_is_rejected(metering: Metering, key: Path, tmp_path: Path) -> None:
    """So are checkpoints that somebody else has put into the ledger."""
    configure(metering)
    metering.checkpoints.publish(key)
    PrivateKey.generate(tmp_path / "other.pem", "tallybook")
    for call in (metering.checkpoints.publish, metering.checkpoints.verify_published):
        with pytest.raises(InvalidSigningKey, match="isn't signed by"):
            call(tmp_path / "other.pem")
        with pytest.raises(InvalidSigningKey, match="isn't signed by"):
            call(key, name="other-ledger")


def test_stored_roots_are_those_of_all_leaves(metering: Metering) -> None:
    """Of each number of events and each subtree, in blocks of 4 events, also when they were stored before."""
    configure(metering)
    record(metering, *(str(number) for number in range(20)))
    ledger: Ledger = metering._ledger  # pyright: ignore[reportPrivateUsage]
    leaves = [leaf for page in hash_pages(ledger, 1, 21) for leaf in page]

    def naive(start: int, end: int) -> bytes:
        tree = Tree()
        tree.extend(leaves[start:end])
        return tree.root()

    for size in (3, 4, 13, 21):
        tree = StoredTree(ledger, metering.key_value_store(), block_size=4)
        first = tree.size
        assert b"".join(tree.new_leaves(size, lambda _done, _total: None)) == b"".join(leaves[first:size])
        leaves[first:size]
        reopened = StoredTree(ledger, metering.key_value_store(), block_size=4)
        assert reopened.size == size // 4 * 4
        for end in range(size + 1):
            assert reopened.root(end) == naive(0, end)
        for width in (1, 2, 4, 8, 16):
            for start in range(0, size, width):
                end = min(start + width, size)
                assert reopened.subtree_root(start, end) == naive(start, end)


TAMPERINGS = {
    "an event is changed": ("UPDATE stored_events SET state = ? WHERE position = 2", (b"{}",)),
    "the last events are cut off": ("DELETE FROM stored_events WHERE position > 3", ()),
    "an event is moved": ("UPDATE stored_events SET originator_id = 'event/x' WHERE position = 5", ()),
}


def test_the_key_is_changed(metering: Metering, key: Path, tmp_path: Path) -> None:
    """The old public key is named, so that its checkpoints are accepted."""
    configure(metering)
    metering.checkpoints.publish(key)
    record(metering, "a")
    other = tmp_path / "other.pem"
    PrivateKey.generate(other, "tallybook")
    previous = [str(PrivateKey.load(key, "tallybook").public_key)]
    assert metering.checkpoints.publish(other, [tmp_path / "new"], previous_keys=previous).new_events == 1
    assert metering.checkpoints.verify_published(other, [tmp_path / "new"], previous_keys=previous).checkpoints == 3
    metering.key_value_store().apply(upsert=[KeyValueEntry("checkpoint", f"{2:019}", 0, b"no checkpoint")])
    with pytest.raises(InvalidCheckpointFile, match="of 2 events in the ledger is corrupted"):
        metering.checkpoints.publish(other, previous_keys=previous)


@pytest.mark.parametrize("tampering", TAMPERINGS)
@pytest.mark.parametrize("covering", ["nothing", "checkpoints", "all"])
def test_tampering_is_found(
    published: PersistentStore, key: Path, tmp_path: Path, tampering: str, covering: str
) -> None:
    """Also if the roots or the checkpoints in the ledger are deleted, since a copy is outside."""
    kinds = {"nothing": (), "checkpoints": ("checkpoint",)}
    with published.open() as metering:
        for kind in kinds.get(covering, ("checkpoint_tree", "checkpoint")):
            metering.key_value_store().delete_due_before(kind, 2**62, 100)
    statement, parameters = TAMPERINGS[tampering]
    published.execute("ledger", *published.without_triggers(Step(statement, parameters)))
    with published.open() as metering:
        with pytest.raises(CheckpointMismatch):
            metering.checkpoints.verify_published(key, [tmp_path / "outside"])
        with pytest.raises(CheckpointMismatch):
            metering.checkpoints.publish(key, [tmp_path / "outside"])


def test_missing_triggers_are_reported(persistent_store: PersistentStore, caplog: pytest.LogCaptureFixture) -> None:
    """A warning when the ledger is opened, and a finding of its verification."""
    with persistent_store.open() as metering:
        configure(metering)
        assert metering.verify().missing_triggers == ()
    assert not caplog.records
    table = " ON stored_events" if persistent_store.url.startswith("postgresql") else ""
    persistent_store.execute("ledger", Step(f"DROP TRIGGER stored_events_are_never_changed{table}"))
    with persistent_store.open() as metering:
        assert "stored_events_are_never_changed" in caplog.text
        verification = metering.verify()
        assert (verification.missing_triggers, verification.is_equal) == (("stored_events_are_never_changed",), False)


class _Receiver(HTTPServer):
    """An HTTP server that stores the bodies of requests, and answers with a status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[str] = []
        self.status = 201


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, _Receiver)
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - of the base class
        pass


def test_copies_in_an_object_store_and_at_a_url(key: Path, tmp_path: Path) -> None:
    """Each checkpoint is an object that is never replaced. A place that was unavailable gets it the next time."""
    (tmp_path / "bucket").mkdir()
    with Metering.open("sqlite://", policy=ANY_TIME) as metering, _Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        places = [f"file://{tmp_path}/bucket", f"http://127.0.0.1:{receiver.server_port}/checkpoints"]
        configure(metering)
        for receiver.status in (302, 500):
            with pytest.raises(CheckpointDestinationUnavailable, match=str(receiver.status)):
                metering.checkpoints.publish(key, places)
        assert metering.checkpoints.list() == []
        receiver.status = 200
        first = metering.checkpoints.publish(key, places)
        record(metering, "a")
        second = metering.checkpoints.publish(key, places)
        receiver.shutdown()
        thread.join()
        with pytest.raises(CheckpointDestinationUnavailable, match="sent to http"):
            metering.checkpoints.publish(key, ["http://127.0.0.1:1/x?token=secret"])
        objects = sorted((tmp_path / "bucket").glob("*.checkpoint"))
        notes = [str(published.signed_checkpoint.note) for published in (first, second)]
        assert [path.read_text() for path in objects] == notes
        assert receiver.bodies == [notes[0], notes[0], notes[0], notes[1]]
