"""The checkpoint file: appending to it, corruption, and recovery from crashes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from threading import Event
from time import sleep
from typing import Any, cast

import pytest
from tallybook.application import Metering, TallybookError
from tallybook.application.checkpoints import checkpoint_file
from tallybook.application.checkpoints.checkpoint_file import CheckpointFile
from tallybook.application.checkpoints.signing_keys import PrivateKey

from .ledgers import CheckpointedLedger

GOLDEN = """\
tallybook
10
Urs9GDtb4519Qj//hPOrZ8nRgUpP06pErjIcNz8dH6A=
time 2026-11-22T10:00:00Z


tallybook
20
2ckI8yXVmVh/Q5OgvM5S+8j1Vlgdk9Tc62uSR3v+vdw=
time 2026-11-22T10:00:00Z


"""


def error_of(checkpointed_ledger: CheckpointedLedger) -> tuple[str, str | None]:
    with checkpointed_ledger.metering() as metering, pytest.raises(TallybookError) as exc_info:
        metering.checkpoints.verify(checkpointed_ledger.checkpoints)
    return exc_info.value.code, exc_info.value.field


def test_a_checkpoint_contains_size_root_and_time(checkpointed_ledger: CheckpointedLedger) -> None:
    """The file holds one checkpoint after another, each terminated by a blank line."""
    first, second, rest = checkpointed_ledger.checkpoints.read_text().split("\n\n\n")
    assert first.split("\n")[::3] == ["tallybook", "time 2026-11-22T10:00:00Z"]
    assert [text.split("\n")[1] for text in (first, second)] == ["10", "20"]
    assert rest == ""


@pytest.mark.parametrize("is_signed", [False, True])
def test_an_incomplete_checkpoint_is_reported_and_replaced(
    checkpointed_ledger: CheckpointedLedger, tmp_path: Path, is_signed: bool
) -> None:
    """Wherever the last checkpoint is truncated, the ones before it are valid; the next checkpoint replaces it."""
    key = tmp_path / "checkpoint.pem" if is_signed else None
    checkpoints_file = checkpointed_ledger.checkpoints.with_name("cut.checkpoints")
    with checkpointed_ledger.metering() as metering:
        if key is not None:
            PrivateKey.generate(key, "tallybook")
        for _ in range(2):
            metering.checkpoints.create(checkpoints_file, key=key)
        complete = checkpoints_file.read_bytes()
        start = len(complete) // 2
        for cut in range(start + 1, len(complete)):
            checkpoints_file.write_bytes(complete[:cut])
            verification = metering.checkpoints.verify(checkpoints_file)
            assert (len(verification.checkpoints), verification.difference) == (1, None)
            assert "incomplete" in verification.warnings[0]
            if cut % 16 == 0:
                metering.checkpoints.create(checkpoints_file, key=key)
                assert checkpoints_file.read_bytes() == complete


@pytest.mark.parametrize(
    ("old", "new"),
    [("\n20\n", "\n0x14\n"), ("\n20\n", "\n9\n"), ("\n10\n", "\n21\n"), ("tallybook\n20", "other\n20"),
     ("Z\n\n\ntally", "Z\n\ntally"), ("Z\n\n\ntally", "Z\n\n\n\ntally"), ("Z\n\n\ntally", "Z\ntally"), ("=\n", "\n"),
     ("tallybook\n10", "\ntallybook\n10"), ("Z\n\n\ntally", "Z\n\n\n# a comment\n\n\ntally"), ("time", "\xe9")],
)  # fmt: skip
def test_a_corrupted_checkpoint_file_is_rejected(checkpointed_ledger: CheckpointedLedger, old: str, new: str) -> None:
    """Only the last checkpoint can be incomplete; a corrupted file is never appended to."""
    text = checkpointed_ledger.checkpoints.read_text()
    assert old in text
    corrupted = text.replace(old, new).encode("latin-1")
    checkpointed_ledger.checkpoints.write_bytes(corrupted)
    assert error_of(checkpointed_ledger) == ("invalid_checkpoint_file", "file")
    with pytest.raises(TallybookError):
        checkpointed_ledger.create_checkpoint()
    assert checkpointed_ledger.checkpoints.read_bytes() == corrupted


@pytest.mark.parametrize("content", [b"hello\n", b"hello", b"\0" * 4096, b"\n\n\n", b"# checkpoints\n\n\n\n"])
def test_another_file_is_never_written_to(checkpointed_ledger: CheckpointedLedger, content: bytes) -> None:
    """A wrong file name must not destroy another file."""
    checkpointed_ledger.checkpoints.write_bytes(content)
    assert error_of(checkpointed_ledger) == ("invalid_checkpoint_file", "file")
    with pytest.raises(TallybookError):
        checkpointed_ledger.create_checkpoint()
    assert checkpointed_ledger.checkpoints.read_bytes() == content


def test_the_ledger_is_never_accepted_as_a_checkpoint_file(checkpointed_ledger: CheckpointedLedger) -> None:
    """The file of the ledger itself is not a checkpoint file."""
    with checkpointed_ledger.metering() as metering, pytest.raises(TallybookError) as exc_info:
        metering.checkpoints.create(checkpointed_ledger.ledger)
    assert exc_info.value.code == "invalid_checkpoint_file"


def test_a_missing_or_empty_checkpoint_file_is_rejected(checkpointed_ledger: CheckpointedLedger) -> None:
    """Verification needs a checkpoint; creating one creates the file, but not its folder."""
    checkpointed_ledger.checkpoints.write_bytes(b"")
    assert error_of(checkpointed_ledger) == ("invalid_checkpoint_file", "file")
    checkpointed_ledger.checkpoints.unlink()
    assert error_of(checkpointed_ledger) == ("invalid_checkpoint_file", "file")
    checkpointed_ledger.checkpoints = checkpointed_ledger.checkpoints.parent / "no" / "folder"
    assert error_of(checkpointed_ledger) == ("invalid_checkpoint_file", "file")
    with pytest.raises(TallybookError):
        checkpointed_ledger.create_checkpoint()


def test_a_changed_root_is_distinguished_from_a_changed_ledger(checkpointed_ledger: CheckpointedLedger) -> None:
    """If a later checkpoint matches, the ledger is unchanged; if none does, the checkpoint may have been changed."""
    text = checkpointed_ledger.checkpoints.read_text()
    roots = text.split("\n")[2::6]
    forged = text.replace(roots[0], f"{'A' * 43}=")
    checkpointed_ledger.checkpoints.write_text(forged)
    assert error_of(checkpointed_ledger) == ("invalid_checkpoint_file", "file")
    for old, new, last in ((roots[1], f"{'A' * 43}=", 20), ("\n20\n", "\n18\n", 18)):
        checkpointed_ledger.checkpoints.write_text(text.replace(old, new))
        with checkpointed_ledger.metering() as metering:
            difference = metering.checkpoints.verify(checkpointed_ledger.checkpoints).difference
        assert difference is not None
        assert (difference.first_position, difference.last_position) == (11, last)
        assert f"The checkpoint of {last} events doesn't match, but the ledger agrees with" in difference.message
        assert "missing" not in difference.message
    checkpointed_ledger.leaves.unlink()
    with checkpointed_ledger.metering() as metering:
        difference = metering.checkpoints.verify(checkpointed_ledger.checkpoints).difference
    assert difference is not None
    assert "unless the checkpoint of 18 events was changed" in difference.message


def test_a_checkpoint_without_new_events_confirms_that_nothing_changed(checkpointed_ledger: CheckpointedLedger) -> None:
    """Each call appends a checkpoint with the same number of events."""
    for _ in range(2):
        checkpointed_ledger.create_checkpoint()
    sizes = [checkpoint.checkpoint.size for checkpoint in CheckpointFile(checkpointed_ledger.checkpoints).read().all]
    assert sizes == [10, 20, 25, 25]


def test_an_empty_ledger_can_be_checkpointed(empty_ledger: CheckpointedLedger) -> None:
    """The checkpoint covers no event, so the verification finds a later event below position 1."""
    with empty_ledger.metering() as metering:
        empty = empty_ledger.checkpoints.with_name("empty.checkpoints")
        empty_ledger.tamper("DELETE FROM stored_events")
        assert metering.checkpoints.create(empty).size == 0
        assert metering.checkpoints.verify(empty).difference is None
        empty_ledger.tamper("INSERT INTO stored_events VALUES (0, 'event/new', 1, 'UsageRecorded', x'00')")
        difference = metering.checkpoints.verify(empty).difference
        assert difference is not None
        assert difference.first_position == 0


def test_all_checkpoints_of_a_file_have_one_signing_key_or_none(
    checkpointed_ledger: CheckpointedLedger, tmp_path: Path
) -> None:
    """With a key, verification rejects an unsigned checkpoint and one that another key signed."""
    ours, theirs = tmp_path / "ours.pem", tmp_path / "theirs.pem"
    public = str(PrivateKey.generate(ours, "tallybook").public_key)
    PrivateKey.generate(theirs, "tallybook")
    signed = checkpointed_ledger.checkpoints.with_name("signed.checkpoints")
    with checkpointed_ledger.metering() as metering:
        assert metering.checkpoints.create(signed, key=ours).signed_by == ("tallybook",)
        assert metering.checkpoints.verify(signed, key=public).difference is None
        for call in (
            lambda: metering.checkpoints.create(signed),
            lambda: metering.checkpoints.create(signed, key=theirs),
            lambda: metering.checkpoints.create(checkpointed_ledger.checkpoints, key=ours),
            lambda: metering.checkpoints.verify(checkpointed_ledger.checkpoints, key=public),
            lambda: metering.checkpoints.create(signed, key=ours, name="other"),
            lambda: metering.checkpoints.create(checkpointed_ledger.checkpoints.with_name("new"), name="two words"),
        ):
            with pytest.raises(TallybookError):
                call()
        unsigned = metering.checkpoints.create(checkpointed_ledger.checkpoints)
        assert unsigned.signed_by == ()
        text = signed.read_text()
        signed.write_text(text + checkpointed_ledger.checkpoints.read_text().split("\n\n\n")[2] + "\n\n\n")
        with pytest.raises(TallybookError, match="checkpoint 2 is not signed by"):
            metering.checkpoints.verify(signed, key=public)
        signed.write_text(text.replace("10:00:00Z", "10:00:01Z"))
        with pytest.raises(TallybookError, match="checkpoint 1 is not signed by"):
            metering.checkpoints.verify(signed, key=public)


@pytest.mark.parametrize("file", [None, 3, b"usage.checkpoints", "a\0b", "\ud800"])
def test_an_invalid_path_is_rejected(empty_ledger: CheckpointedLedger, file: object) -> None:
    """The error names the argument, as for every invalid argument, and no file is created."""
    path, key = cast(Any, file), cast(Any, 3 if file is None else file)
    with empty_ledger.metering() as metering:
        for call in (
            lambda: metering.checkpoints.create(path),
            lambda: metering.checkpoints.verify(path),
            lambda: metering.checkpoints.prove_inclusion("req-2", path),
            lambda: metering.checkpoints.prove_consistency(path, 1),
        ):
            with pytest.raises(TallybookError) as exc_info:
                call()
            assert (exc_info.value.code, exc_info.value.field) == ("parameter_invalid", "file")
        with pytest.raises(TallybookError) as exc_info:
            metering.checkpoints.create(empty_ledger.checkpoints, key=key)
        assert (exc_info.value.code, exc_info.value.field) == ("parameter_invalid", "key")
        assert list(empty_ledger.checkpoints.parent.iterdir()) == []
        empty_ledger.create_checkpoint()
        with pytest.raises(TallybookError) as exc_info:
            metering.checkpoints.verify(empty_ledger.checkpoints, key=key)
        assert (exc_info.value.code, exc_info.value.field) == ("invalid_signing_key", "key")


@pytest.mark.parametrize(
    "invalid_arguments",
    [{"key": "missing.pem"}, {"key": ""}, {"name": "two words"}, {"name": ""}, {"name": 3}, {"name": []}],
)
def test_a_rejected_first_checkpoint_leaves_no_file(
    empty_ledger: CheckpointedLedger, invalid_arguments: dict[str, Any]
) -> None:
    """Otherwise verification would report a file without a checkpoint. An existing file is not removed."""
    for before in ([], [empty_ledger.checkpoints]):
        for file in before:
            file.touch()
        with empty_ledger.metering() as metering, pytest.raises(TallybookError):
            metering.checkpoints.create(empty_ledger.checkpoints, **invalid_arguments)
        assert list(empty_ledger.checkpoints.parent.iterdir()) == before


def test_a_writer_waiting_for_a_rejected_first_checkpoint_creates_the_file(empty_ledger: CheckpointedLedger) -> None:
    """The file that the writer waited for was removed, and a checkpoint appended to it would be lost."""
    waiting = Event()

    def clock() -> datetime:
        waiting.wait(10)
        sleep(0.1)  # so that the second writer waits for the lock; nothing shows that it does
        raise OverflowError

    with Metering.open(empty_ledger.url, clock=clock) as rejected_metering, empty_ledger.metering() as metering:
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(rejected_metering.checkpoints.create, empty_ledger.checkpoints)
            while not empty_ledger.checkpoints.exists():
                sleep(0.001)
            second = pool.submit(metering.checkpoints.create, empty_ledger.checkpoints)
            waiting.set()
            assert isinstance(first.exception(), OverflowError)
            assert second.result().size == 1
        assert metering.checkpoints.verify(empty_ledger.checkpoints).matching_checkpoints == 1


def test_a_file_created_first_by_another_ledger_is_not_changed(
    empty_ledger: CheckpointedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process locks the new file first: its checkpoint stays when this call is rejected."""
    sync_folder = checkpoint_file.sync_folder

    def create_before(folder: Path) -> None:
        monkeypatch.setattr(checkpoint_file, "sync_folder", sync_folder)
        empty_ledger.create_checkpoint()

    monkeypatch.setattr(checkpoint_file, "sync_folder", create_before)
    with Metering.open(empty_ledger.url) as metering, pytest.raises(TallybookError):
        metering.checkpoints.create(empty_ledger.checkpoints, name="another name")
    with empty_ledger.metering() as metering:
        assert metering.checkpoints.verify(empty_ledger.checkpoints).matching_checkpoints == 1


def test_leaf_hashes_from_a_crash_before_the_checkpoint_are_harmless(checkpointed_ledger: CheckpointedLedger) -> None:
    """Hashes without a checkpoint, and an incomplete hash, are replaced."""
    complete = checkpointed_ledger.leaves.read_bytes()
    checkpointed_ledger.leaves.write_bytes(complete + b"half of one")
    checkpointed_ledger.create_checkpoint()
    with checkpointed_ledger.metering() as metering:
        assert metering.checkpoints.verify(checkpointed_ledger.checkpoints).warnings == ()
        assert len(checkpointed_ledger.leaves.read_bytes()) == 25 * 32
    checkpointed_ledger.tamper("UPDATE stored_events SET topic = 'Other' WHERE position = 24")
    with checkpointed_ledger.metering() as metering:
        verification = metering.checkpoints.verify(checkpointed_ledger.checkpoints)
    assert verification.difference is not None
    assert verification.difference.first_position == verification.difference.last_position == 24


def test_the_root_of_a_ledger_never_changes(checkpointed_ledger: CheckpointedLedger) -> None:
    """Leaf bytes and checkpoints are a storage format: old checkpoints must still match."""
    assert checkpointed_ledger.checkpoints.read_text() == GOLDEN


@pytest.mark.parametrize(
    ("byte_order_mark", "line_end", "message"),
    [(b"", b"\r\n", "carriage return"), (b"\xef\xbb\xbf", b"\n", "byte order mark"),
     (b"\xef\xbb\xbf", b"\r\n", "byte order mark at its start and a carriage return")],
)  # fmt: skip
def test_bytes_added_by_an_editor_are_described_in_the_error(
    checkpointed_ledger: CheckpointedLedger, byte_order_mark: bytes, line_end: bytes, message: str
) -> None:
    """A checkpoint has one valid encoding, so the file is rejected and not appended to. The error names the bytes."""
    edited = byte_order_mark + checkpointed_ledger.checkpoints.read_bytes().replace(b"\n", line_end)
    checkpoint = edited.split(line_end * 3)[0] + line_end * 2
    checkpointed_ledger.checkpoints.write_bytes(edited)
    with checkpointed_ledger.metering() as metering:
        for call in (
            lambda: metering.checkpoints.verify(checkpointed_ledger.checkpoints),
            lambda: metering.checkpoints.create(checkpointed_ledger.checkpoints),
        ):
            with pytest.raises(TallybookError, match=message) as exc_info:
                call()
            assert exc_info.value.code == "invalid_checkpoint_file"
    assert checkpointed_ledger.checkpoints.read_bytes() == edited
    checkpointed_ledger.checkpoints.write_bytes(checkpoint)
    with pytest.raises(TallybookError, match=message):
        CheckpointFile(checkpointed_ledger.checkpoints).read_trusted()


def test_concurrent_checkpoints_are_created_one_after_the_other(checkpointed_ledger: CheckpointedLedger) -> None:
    """No checkpoint is lost, and none overwrites another."""
    with checkpointed_ledger.metering() as metering, ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(metering.checkpoints.create, checkpointed_ledger.checkpoints) for _ in range(12)]
        sizes = [future.result().size for future in futures]
        verification = metering.checkpoints.verify(checkpointed_ledger.checkpoints)
    assert sizes == [25] * 12
    assert (len(verification.checkpoints), verification.matching_checkpoints, verification.warnings) == (14, 14, ())
