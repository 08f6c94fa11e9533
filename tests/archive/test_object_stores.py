"""Archives in object stores: one that speaks the protocol of S3, and others of obstore."""

import io
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore, S3Store
from tallybook.application import Archive, ArchiveUnavailable, InvalidArchive
from tallybook.application.archive.archived_events import ArchivedEvents
from tallybook.application.archive.destinations import ConcurrentExport
from tallybook.application.archive.locations import resolve_destination
from tallybook.application.archive.object_store import ObjectStoreDestination
from tallybook.application.checkpoints.leaves import event_leaf_data
from tallybook.application.checkpoints.merkle import leaf_hash
from tallybook.application.checkpoints.signing_keys import PrivateKey

from ..object_server import new_bucket, object_server
from .ledgers import NOW, archived_rows, export, open_metering, record, stored_rows


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Start a server that speaks the protocol of S3, and return its URL."""
    with object_server() as url:
        yield url


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a new bucket, which the environment gives access to."""
    return f"s3://{new_bucket(endpoint, monkeypatch)}/usage"


def test_an_archive_in_s3(url: str, bucket: str) -> None:
    """Exported again and again, read by its manifest, and verified."""
    for first, last in ((1, 9), (10, 20), (21, 21)):
        record(url, first, last)
        assert export(url, bucket, 8).last_position == last + 1
    assert archived_rows(bucket) == stored_rows(url)
    archive = Archive.open(bucket)
    assert archive.files[0] == f"{bucket}/events/000000000001-000000000008.parquet"
    assert archive.verify().differences == ()


def test_usage_is_pruned_to_s3(url: str, bucket: str, tmp_path: Path) -> None:
    """Events of many segments are read from there; the ledger stores the URL, without credentials."""
    record(url, 1, 40)
    key = PrivateKey.generate(tmp_path / "key", "tallybook")
    export(url, bucket, 8)
    with open_metering(url) as metering:
        metering.checkpoints.create(tmp_path / "checkpoints", key=tmp_path / "key")
        expected = metering.explain("tokens", None, NOW - timedelta(days=1), NOW).events
        arguments = {"checkpoints": tmp_path / "checkpoints", "key": str(key.public_key), "keep": timedelta(0)}
        with pytest.raises(InvalidArchive, match="name the archive by a URL"):
            metering.archive.prune(S3Store.from_url(bucket), **arguments)  # pyright: ignore[reportArgumentType]
        assert metering.archive.prune(bucket, **arguments).events == 40  # pyright: ignore[reportArgumentType]
    with open_metering(url) as metering:
        pruned = metering.archive.pruned()
        assert pruned is not None
        assert (pruned.archive, pruned.position) == (bucket, 41)
        assert metering.explain("tokens", None, NOW - timedelta(days=1), NOW).events == expected
        obstore.delete(S3Store.from_url(bucket), Archive.open(bucket).segments[0].file)
    with open_metering(url) as metering:
        assert metering.event("req-40").value == expected[0].value
        with pytest.raises(ArchiveUnavailable, match=f"event at position 2 is in the archive {bucket}, which can't be"):
            metering.event("req-1")


def test_few_events_are_read_without_loading_their_segment(
    url: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many are read from the whole segment, also if a part of it was read before. An error of the store is reported."""
    record(url, 1, 40)
    export(url, bucket)
    rows = {row[0]: row for row in archived_rows(bucket)}
    leaf_hashes = {position: leaf_hash(event_leaf_data(row)) for position, row in rows.items()}
    few = {position: leaf_hashes[position] for position in (2, 40)}
    loaded: list[str] = []
    get, get_range = obstore.get, obstore.get_range

    def record_whole(store: Any, name: str) -> Any:
        loaded.append(f"all of {name.partition('/')[0]}")
        return get(store, name)

    def record_part(store: Any, name: str, **part: int) -> Any:
        loaded.append("a part")
        return get_range(store, name, **part)

    def lost(*_: object, **__: object) -> None:
        raise OSError("connection lost")

    monkeypatch.setattr(obstore, "get", record_whole)
    monkeypatch.setattr(obstore, "get_range", record_part)
    events = ArchivedEvents(max_cached_bytes=1)
    assert events.read(bucket, few) == {position: rows[position] for position in few}
    assert {*loaded} == {"all of manifest.jsonl", "a part"}
    loaded.clear()
    assert events.read(bucket, leaf_hashes) == rows
    assert loaded == ["all of events"]
    monkeypatch.setattr(obstore, "get_range", lost)
    with pytest.raises(ArchiveUnavailable, match=f"read: {bucket} can't be used: connection lost"):
        ArchivedEvents().read(bucket, few)


def test_parts_of_an_object_are_those_of_the_whole() -> None:
    """Whatever is read of it, from any position, and with what follows it in one request."""
    rng = random.Random(1)
    data = rng.randbytes(3 << 18)
    store = MemoryStore()
    obstore.put(store, "file", data)
    whole, parts = io.BytesIO(data), ObjectStoreDestination(store).open_parts("file")
    for _ in range(200):
        offset, whence = rng.choice([(rng.randrange(len(data) + 9), 0), (-rng.randrange(len(data)), 2), (3, 1)])
        assert parts.seek(offset, whence) == whole.seek(offset, whence)
        length = rng.choice([0, 1, 100, 1 << 17, 1 << 19])
        assert parts.read(length) == whole.read(length)


def write_something(file: BinaryIO) -> None:
    """Write the content of a segment of another export."""
    file.write(b"something")


def test_writes_to_s3_are_conditional(url: str, bucket: str) -> None:
    """A segment is created once, and a manifest that another export has replaced is not replaced."""
    record(url, 1, 9)
    export(url, bucket)
    destination = resolve_destination(bucket)
    stored = destination.read_manifest()
    with pytest.raises(ConcurrentExport):
        destination.add_segment("events/000000000001-000000000010.parquet", write_something)
    destination.replace_manifest(stored.data + b"\n", stored)
    with pytest.raises(ConcurrentExport):
        destination.replace_manifest(stored.data, stored)
    assert destination.read_manifest().data == stored.data + b"\n"


def test_errors_of_a_store_are_reported(url: str, bucket: str) -> None:
    """They can be temporary; the message is that of the store."""
    record(url, 1, 1)
    with pytest.raises(ArchiveUnavailable, match="s3://no-such-bucket/usage can't be used: "):
        export(url, "s3://no-such-bucket/usage")
    with pytest.raises(InvalidArchive, match="There is no archive at s3://"):
        Archive.open(bucket)


def test_a_store_without_conditional_writes_is_rejected(url: str, tmp_path: Path) -> None:
    """Two exports could overwrite each other's manifest in it. As a folder, the same place has a lock."""
    record(url, 1, 1)
    store = LocalStore(str(tmp_path / "archive"), mkdir=True)
    export(url, store)
    record(url, 2, 2)
    with pytest.raises(InvalidArchive, match="has no conditional writes, which an export needs"):
        export(url, store)


def test_a_store_with_other_options(url: str, endpoint: str, bucket: str) -> None:
    """Credentials and options that a URL doesn't have are given by a store of obstore."""
    record(url, 1, 1)
    name = bucket.removeprefix("s3://").partition("/")[0]
    store = S3Store(
        name, prefix="other", endpoint=endpoint, client_options={"allow_http": True}, region="us-east-1",
        access_key_id="test", secret_access_key="test",
    )  # fmt: skip
    export(url, store)
    assert obstore.head(store, "manifest.jsonl")["size"] > 0
    assert archived_rows(store) == stored_rows(url)
