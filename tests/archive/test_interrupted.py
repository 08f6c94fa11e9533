"""An export that is killed at any step leaves a correct archive, and the next one continues: no row missing or double.

A step is a call that changes files or objects. A killed process does nothing afterwards, not even clean up.
"""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import MemoryStore
from tallybook.application import Archive, ArchiveInUse, ArchiveUnavailable
from tallybook.application.archive import folder as folder_module
from tallybook.application.archive.object_store import ObjectStoreDestination
from tallybook.application.archive.segment_file import HashingFile

from ..faults.forked import run_in_child
from .ledgers import archived_rows, copy_archive, export, record, rows_of_all_files, stored_rows

BLOCK_SIZE = 8
FIRST_HEAD = 11
WRITES_PER_STEP = 24
"""Parquet files are written in many small parts."""


class Killed(BaseException):
    """The process was killed."""


class Steps:
    """Calls `on_step` before and after each step of an export, with the number of the moment."""

    def __init__(self, on_step: Callable[[int], None]) -> None:
        self.on_step = on_step
        self.moment = 0

    def wrap(self, function: Callable[..., Any], calls_per_step: int = 1) -> Callable[..., Any]:
        """Return a function of which every so many calls are a step."""
        calls = count()

        def step(*args: Any, **kwargs: Any) -> Any:
            is_step = next(calls) % calls_per_step == 0
            if is_step:
                self._next()
            result = function(*args, **kwargs)
            if is_step:
                self._next()
            return result

        return step

    def _next(self) -> None:
        self.moment += 1
        self.on_step(self.moment)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Count the steps of folders and of object stores."""
        for owner, name in (
            (folder_module.os, "fsync"), (Path, "rename"), (Path, "chmod"), (Path, "unlink"), (obstore, "put"),
            (obstore, "delete"),
        ):  # fmt: skip
            monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name)))
        monkeypatch.setattr(HashingFile, "write", self.wrap(HashingFile.write, WRITES_PER_STEP))


def kill_at(moment: int) -> Steps:
    """Return the steps of a process that is killed at a moment."""

    def kill(current: int) -> None:
        if current >= moment:
            raise Killed

    return Steps(kill)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of a ledger of two blocks and a rest."""
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'usage.db'}"
    record(url, 1, 20)
    return url


def folders(ledger: str, tmp_path: Path) -> Iterator[Path]:
    """Yield any number of folders with an archive of the first events."""
    first = tmp_path / "first"
    export(ledger, first, BLOCK_SIZE, head=FIRST_HEAD)
    for number in count():
        yield copy_archive(first, tmp_path / f"{number}")


def memory_stores(ledger: str, _tmp_path: Path) -> Iterator[MemoryStore]:
    """Yield any number of object stores with an archive of the first events."""
    while True:
        store = MemoryStore()
        export(ledger, store, BLOCK_SIZE, head=FIRST_HEAD)
        yield store


def check_complete(ledger: str, destination: Any) -> None:
    """Check that an archive has each row of the ledger once, for readers of the manifest and of all files."""
    rows = stored_rows(ledger)
    assert archived_rows(destination) == rows
    verification = Archive.open(destination).verify()
    assert (verification.differences, verification.warnings) == ((), ())
    if isinstance(destination, Path):
        assert rows_of_all_files(destination) == rows
        assert not list(destination.glob("events/*.unfinished"))


@pytest.mark.parametrize("destinations", [folders, memory_stores])
def test_an_export_can_be_killed_at_each_step(
    ledger: str, tmp_path: Path, destinations: Callable[[str, Path], Iterator[Any]]
) -> None:
    """What the manifest names is correct at any time. The next export is killed at another moment; then one is not."""
    rows = stored_rows(ledger)
    moments = 0
    for moment, destination in enumerate(destinations(ledger, tmp_path), 1):
        with pytest.MonkeyPatch.context() as monkeypatch:
            steps = kill_at(moment)
            steps.install(monkeypatch)
            with suppress(Killed):
                export(ledger, destination, BLOCK_SIZE)
        archived = archived_rows(destination)
        assert archived == rows[: len(archived)]
        assert len(archived) >= FIRST_HEAD
        assert Archive.open(destination).verify().differences == ()
        if steps.moment < moment:
            break
        moments += 1
        with pytest.MonkeyPatch.context() as monkeypatch:
            kill_at(moment * 7 % 23 + 1).install(monkeypatch)
            with suppress(Killed):
                export(ledger, destination, BLOCK_SIZE)
        export(ledger, destination, BLOCK_SIZE)
        check_complete(ledger, destination)
    assert moments >= (38 if destinations is folders else 14)


@pytest.mark.parametrize(("heads"), [(14, 21), (21, 14), (21, 21)])
def test_two_exports_to_an_object_store_at_once(ledger: str, tmp_path: Path, heads: tuple[int, int]) -> None:
    """The second one runs at any step of the first one. Neither writes a row that the other has written."""
    own_head, other_head = heads
    for moment, store in enumerate(memory_stores(ledger, tmp_path), 1):

        def run_other(current: int, moment: int = moment, store: MemoryStore = store) -> None:
            if current == moment:
                export(ledger, store, BLOCK_SIZE, head=other_head)

        with pytest.MonkeyPatch.context() as monkeypatch:
            steps = Steps(run_other)
            steps.install(monkeypatch)
            export(ledger, store, BLOCK_SIZE, head=own_head)
        export(ledger, store, BLOCK_SIZE)
        check_complete(ledger, store)
        names = {entry["path"] for entries in obstore.list(store, "events/") for entry in entries}  # pyright: ignore[reportUnknownMemberType]
        assert names == {segment.file for segment in Archive.open(store).segments}
        if steps.moment < moment:
            break


def test_an_export_ends_if_others_are_always_first(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that is stored but never listed, for example."""
    store = MemoryStore()
    obstore.put(store, "events/000000000001-000000000008.parquet", b"")

    def list_nothing(_destination: ObjectStoreDestination) -> list[str]:
        return []

    monkeypatch.setattr(ObjectStoreDestination, "file_names", list_nothing)
    with pytest.raises(ArchiveInUse, match="Other processes are exporting"):
        export(ledger, store, BLOCK_SIZE)


def test_a_stored_segment_with_other_events_is_not_added(ledger: str, tmp_path: Path) -> None:
    """It has the name of the next segment, but was not exported from this ledger, or was changed."""
    folder, other = tmp_path / "archive", tmp_path / "other"
    other_url = f"sqlite:///{tmp_path / 'other.db'}"
    record(other_url, 101, 120)
    export(ledger, folder, BLOCK_SIZE, head=8)
    export(other_url, other, BLOCK_SIZE, head=16)
    name = "events/000000000009-000000000016.parquet"
    (folder / name).write_bytes((other / name).read_bytes())
    with pytest.raises(Exception, match=r"can't be added to it: it has other events than the ledger\. Delete"):
        export(ledger, folder, BLOCK_SIZE)
    (folder / name).write_bytes((other / name).read_bytes()[:-100])
    with pytest.raises(Exception, match="can't be added to it: the file can't be read here"):
        export(ledger, folder, BLOCK_SIZE)
    (folder / name).unlink()
    export(ledger, folder, BLOCK_SIZE)
    check_complete(ledger, folder)


@pytest.mark.parametrize("write_number", [1, 5, 30])
def test_a_full_disk_leaves_the_archive_as_it_was(
    ledger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_number: int
) -> None:
    """The error names the file. With free space, the next export continues."""
    folder = next(folders(ledger, tmp_path))
    files = {file: file.read_bytes() for file in folder.rglob("[!.]*.*")}

    def fail(current: int) -> None:
        if current == 2 * write_number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(HashingFile, "write", Steps(fail).wrap(HashingFile.write))
        with pytest.raises(ArchiveUnavailable, match=r"events/000000000012-.*: No space left on device\."):
            export(ledger, folder, BLOCK_SIZE)
    assert {file: file.read_bytes() for file in folder.rglob("[!.]*.*")} == files
    export(ledger, folder, BLOCK_SIZE)
    check_complete(ledger, folder)


def test_a_limit_of_the_size_of_files_is_reported(tmp_path: Path) -> None:
    """A real error of the operating system, and the exit status of the command line."""
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    record(url, 1, 5_000)
    command = f"ulimit -f 36; exec {sys.executable} -m tallybook archive export {tmp_path}/archive --ledger {url}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.startswith("tallybook: archive_unavailable: ")
    assert "File too large" in ran.stderr
    assert list((tmp_path / "archive" / "events").iterdir()) == []


def test_a_read_only_folder_is_reported(ledger: str, tmp_path: Path) -> None:
    """An archive in it can be verified."""
    folder = next(folders(ledger, tmp_path))
    for path in [folder / "events", folder]:
        path.chmod(0o555)
    for parent in folder.parents:
        if parent.owner() == tmp_path.owner() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o555)
    for file in folder.rglob("*.*"):
        file.chmod(0o444)

    def use_read_only() -> tuple[str, int]:
        if os.getuid() == 0:
            os.setuid(65_534)
        with pytest.raises(ArchiveUnavailable) as raised:
            export(ledger, folder, BLOCK_SIZE)
        return raised.value.message, len(Archive.open(folder).verify().differences)

    for file in Path(ledger.removeprefix("sqlite:///")).parent.iterdir():
        file.chmod(0o666)
    Path(ledger.removeprefix("sqlite:///")).parent.chmod(0o777)
    _, (message, differences) = run_in_child(use_read_only)
    assert "Permission denied" in message
    assert differences == 0
    folder.chmod(0o755)
    (folder / "events").chmod(0o755)
