"""Every changed byte of an archive is found, and located by its file and positions."""

import json
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tallybook.application import Archive, ArchiveUnavailable, ArchiveVerification, InvalidCheckpointFile, Metering
from tallybook.application.archive.arrow import pa, parquet
from tallybook.application.archive.columns import SCHEMA
from tallybook.application.archive.layout import MANIFEST
from tallybook.application.archive.manifest import ManifestReader
from tallybook.application.checkpoints.signing_keys import PrivateKey

from ..checkpoints.ledgers import TRIGGERS
from .ledgers import copy_archive, digest, export, open_metering, record

BLOCK_SIZE = 16
NAMES = ["events/000000000001-000000000016.parquet", "events/000000000017-000000000021.parquet",
         "events/000000000022-000000000032.parquet", "events/000000000033-000000000041.parquet"]  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an archive of four segments, its ledger, and checkpoints of 10, 21 and 40 events."""
    folder = tmp_path_factory.mktemp("exported")
    url = f"sqlite:///{folder / 'usage.db'}"
    for first, last in ((1, 9), (10, 20), (21, 39), (40, 40)):
        record(url, first, last)
        with open_metering(url) as metering:
            if last != 40:
                metering.checkpoints.create(folder / "usage.checkpoints")
        if last in (20, 40):
            export(url, folder / "archive", BLOCK_SIZE)
    return folder


@pytest.fixture
def archive(exported: Path, tmp_path: Path) -> Path:
    """Return a copy of the archive."""
    return copy_archive(exported / "archive", tmp_path / "archive")


def verify(archive: Path, exported: Path, *, with_checkpoints: bool = False) -> ArchiveVerification:
    """Verify an archive."""
    return Archive.open(archive).verify(checkpoints=exported / "usage.checkpoints" if with_checkpoints else None)


def differences(verification: ArchiveVerification) -> list[tuple[str, int | None, int | None]]:
    """Return the files and positions of all differences."""
    return [(one.file, one.first_position, one.last_position) for one in verification.differences]


def change_byte(data: bytes, index: int) -> bytes:
    """Change one byte to another that is printable if it was."""
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]


def test_an_unchanged_archive_matches(exported: Path) -> None:
    """With its checkpoints, wherever they are, and with its ledger."""
    verification = verify(exported / "archive", exported, with_checkpoints=True)
    assert verification == ArchiveVerification(
        destination=str(exported / "archive"), segments=4, rows=41, last_position=41,
        root=Archive.open(exported / "archive").segments[-1].root, checkpoints=3, matching_checkpoints=3,
        checkpointed_rows=40, is_compared_with_ledger=False, differences=(), warnings=(),
    )  # fmt: skip
    with open_metering(f"sqlite:///{exported / 'usage.db'}") as metering:
        assert metering.archive.verify(exported / "archive").differences == ()


def test_each_byte_of_the_manifest_is_checked(exported: Path) -> None:
    """A changed byte is a problem of its line, or of the line after it if it has the same hashes in other words.

    Only the length and the SHA-256 are checked against the file instead.
    """
    manifest = (exported / "archive" / MANIFEST).read_bytes()
    original = [line.segment for line in ManifestReader().read(manifest)]
    against_file = 0
    for index in range(len(manifest)):
        number = manifest.count(b"\n", 0, index) + 1
        lines = ManifestReader().read(change_byte(manifest, index))
        problems = [line.number for line in lines if line.problem is not None]
        segment, before = lines[number - 1].segment, original[number - 1]
        if not problems and segment is not None and before is not None:
            assert (segment.bytes, segment.sha256) != (before.bytes, before.sha256)
            against_file += 1
        else:
            assert problems[0] == number, (index, problems)
    assert against_file == sum(len(f"{line.bytes}{line.sha256}") for line in original if line is not None)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (rb'"bytes":(\d)', "the length or the SHA-256 is not that of line 2, although all rows are"),
        (rb'"sha256":"\w{9}(\w)', "the length or the SHA-256 is not that of line 2, although all rows are"),
        (rb'"range":\[\[2,"\w{9}(\w)', "line 2: its root is not that of the hashes up to this line"),
        (rb'"root":"\w{9}(\w)', "line 2: its root is not that of the hashes up to this line"),
        (rb'"last":\d(\d)', "line 2: the file is"),
        (rb'"version":(\d)', "line 2: it has the version"),
        (rb"(\n)", "line 2: it can't be read"),
    ],
)
def test_a_changed_line_is_located(archive: Path, exported: Path, pattern: bytes, message: str) -> None:
    """By its number. The rows of the segment are correct."""
    manifest = (archive / MANIFEST).read_bytes()
    start = manifest.index(b"\n") + 1
    match = re.compile(pattern).search(manifest, start)
    assert match is not None
    (archive / MANIFEST).write_bytes(change_byte(manifest, match.start(1)))
    messages = [one.message for one in verify(archive, exported).differences]
    assert any(message in one for one in messages), messages
    assert not any("state" in one for one in messages)


def test_a_changed_byte_of_a_segment_is_located(archive: Path, exported: Path) -> None:
    """Anywhere in the file: at the rows whose page it is in, or between the rows."""
    file = archive / NAMES[1]
    data = file.read_bytes()
    for index in range(0, len(data), len(data) // 50):
        file.write_bytes(change_byte(data, index))
        found = differences(verify(archive, exported, with_checkpoints=index % 4 == 0))
        assert found, index
        for name, first, last in found:
            assert first is not None
            assert last is not None
            if name == MANIFEST:  # a checkpoint that covers these events
                assert last in (21, 40)
            else:
                assert (name, 17 <= first <= last <= 21) == (NAMES[1], True)


def rewrite(file: Path, column: str, index: int, value: object) -> None:
    """Change a value of a segment, as a program that writes Parquet does."""
    rows = parquet.read_table(file).to_pylist()
    rows[index][column] = value
    parquet.write_table(pa.Table.from_pylist(rows, SCHEMA), file)


def adjust_manifest(archive: Path, name: str) -> None:
    """Write the length and the SHA-256 of a changed segment to the manifest."""
    lines = [json.loads(line) for line in (archive / MANIFEST).read_text().splitlines()]
    for line in lines:
        if line["file"] == name:
            line.update(bytes=(archive / name).stat().st_size, sha256=digest(archive / name))
    text = "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines)
    (archive / MANIFEST).write_text(text)


@pytest.mark.parametrize("is_adjusted", [False, True])
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("payload", [("customer", "customer-5"), ("tokens", "99.5")], "the column payload is not what the state says"),
        ("occurred_at", None, "the column occurred_at is not what the state says"),
        ("event_name", "other", "the column event_name is not what the state says"),
        ("recorded_position", 3, "the column recorded_position is not what the state says"),
        ("position", 18, "there is position 18 in place of 20"),
        ("stream", "event/other", "the rows do not have the hash of line 2"),
        ("topic", "EventCancelled", "the rows do not have the hash of line 2"),
        ("state", b"{}", "the state at position 20 can't be read"),
    ],
)
def test_a_changed_value_is_located(
    archive: Path, exported: Path, column: str, value: object, message: str, is_adjusted: bool
) -> None:
    """At its position, also if the manifest was adjusted to it: by the state, the hashes and the checkpoints."""
    rewrite(archive / NAMES[1], column, 3, value)
    if is_adjusted:
        adjust_manifest(archive, NAMES[1])
    found = [one for one in verify(archive, exported).differences if message in one.message]
    assert found
    assert all(one.file == NAMES[1] for one in found)
    first, last = found[0].first_position, found[0].last_position
    assert (first, last) == ((17, 20) if "hash" in message else (20, 20))


def test_a_changed_event_is_found_by_the_checkpoints_and_the_ledger(archive: Path, exported: Path) -> None:
    """An archive of a changed ledger is consistent in itself."""
    url = f"sqlite:///{archive.parent / 'changed.db'}"
    (archive.parent / "changed.db").write_bytes((exported / "usage.db").read_bytes())
    with closing(sqlite3.connect(archive.parent / "changed.db", isolation_level=None)) as connection:
        for trigger in TRIGGERS:
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute("UPDATE stored_events SET state = replace(state, '.5', '.6') WHERE position = 19")
        connection.execute("UPDATE stored_events SET state = CAST(state AS BLOB) WHERE position = 19")
    other = archive.parent / "other"
    export(url, other, BLOCK_SIZE)
    assert verify(other, exported).differences == ()
    verification = verify(other, exported, with_checkpoints=True)
    assert (differences(verification), verification.matching_checkpoints) == ([(MANIFEST, 11, 21)], 1)
    with open_metering(f"sqlite:///{exported / 'usage.db'}") as metering:
        compared = metering.archive.verify(other)
    assert [(one.first_position, one.message) for one in compared.differences] == [
        (19, "the event is not that of the ledger")
    ]


def test_an_archive_that_is_longer_than_the_ledger(exported: Path, tmp_path: Path) -> None:
    """As after the ledger was restored from a backup."""
    url = f"sqlite:///{tmp_path / 'short.db'}"
    record(url, 1, 9)
    record(url, 10, 20)
    with open_metering(url) as metering:
        verification = metering.archive.verify(exported / "archive")
    assert [(one.first_position, one.last_position, one.message) for one in verification.differences] == [
        (22, 41, "the ledger ends at position 21")
    ]


def drop_line(archive: Path, number: int) -> None:
    """Remove a line of the manifest."""
    lines = (archive / MANIFEST).read_bytes().splitlines(keepends=True)
    (archive / MANIFEST).write_bytes(b"".join(lines[: number - 1] + lines[number:]))


def test_missing_and_additional_files(archive: Path, exported: Path) -> None:
    """A segment that an interrupted export has left is no difference: the next export adds or deletes it."""
    drop_line(archive, 4)
    (archive / "events" / "000000000001-000000000003.parquet").write_bytes(b"")
    verification = verify(archive, exported)
    assert verification.differences == ()
    assert verification.warnings == (
        "events/000000000001-000000000003.parquet was left by an interrupted export; the next export deletes it.",
        f"{NAMES[3]} was left by an interrupted export; the next export adds it.",
    )
    drop_line(archive, 3)
    assert differences(verify(archive, exported)) == [(NAMES[3], 33, 41)]
    (archive / NAMES[0]).unlink()
    assert differences(verify(archive, exported))[0] == (NAMES[0], 1, 16)


GAPS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "line 2: it starts at position 22: the positions from 17 to 21 are missing": lambda lines: [lines[0], *lines[2:]],
    "line 2: it starts at position 1: the positions up to 16 are in the line": lambda lines: [lines[0], *lines],
    "line 1: it starts at position 17: the positions from 1 to 16 are missing": lambda lines: lines[1:],
    "line 4: it has no newline at its end": lambda lines: [*lines[:3], lines[3][:-1]],
}


@pytest.mark.parametrize("message", GAPS)
def test_gaps_and_overlaps(archive: Path, exported: Path, message: str) -> None:
    """Each is found by the positions of the lines, and an export is rejected."""
    lines = (archive / MANIFEST).read_bytes().splitlines(keepends=True)
    (archive / MANIFEST).write_bytes(b"".join(GAPS[message](lines)))
    assert message in verify(archive, exported).differences[0].message
    with pytest.raises(Exception, match="'tallybook archive verify' checks the archive"):
        export(f"sqlite:///{exported / 'usage.db'}", archive)


@pytest.mark.parametrize("name", [MANIFEST, "segment"])
def test_a_pipe_in_place_of_a_file_is_not_read(archive: Path, name: str) -> None:
    """Reading it would never end, nor would reading a device that a link leads to."""
    path = archive / MANIFEST if name == MANIFEST else next(archive.glob("events/*.parquet"))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArchiveUnavailable, match="it is not a file"):
        Archive.open(archive).verify()


def test_checkpoints_must_be_signed_by_the_key(exported: Path, tmp_path: Path) -> None:
    """The signature is what an archive is trusted for."""
    checkpoints, key = tmp_path / "signed.checkpoints", PrivateKey.generate(tmp_path / "key.pem", "books")
    other_key = PrivateKey.generate(tmp_path / "other.pem", "books")
    with Metering.open(f"sqlite:///{exported / 'usage.db'}") as metering:
        metering.checkpoints.create(checkpoints, key=tmp_path / "key.pem", name="books")
    archive = Archive.open(exported / "archive")
    verification = archive.verify(checkpoints=checkpoints, key=str(key.public_key))
    assert (verification.differences, verification.matching_checkpoints) == ((), 1)
    with pytest.raises(InvalidCheckpointFile, match="is not signed by"):
        archive.verify(checkpoints=checkpoints, key=str(other_key.public_key))
