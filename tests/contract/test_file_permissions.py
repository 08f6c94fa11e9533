"""Files next to a SQLite ledger: only their owner can read them, and none is reached through a symbolic link."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tallybook.application import Metering, TallybookError
from tallybook.application.checkpoints.signing_keys import PrivateKey
from typer.testing import CliRunner

from .histories import query_results, record_history
from .persistent_stores import SQLiteFile

Use = Callable[[Metering, Path], object]


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set each umask in turn, also one that removes permissions of the owner."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def permissions(folder: Path) -> dict[str, str]:
    """Return the permissions of everything in a folder."""
    return {str(path.relative_to(folder)): oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.rglob("*")}


def use_everything(file_store: SQLiteFile, folder: Path) -> dict[str, str]:
    """Use all functions that create files, and return the permissions of the files while they exist."""
    from tallybook.application.interfaces.cli.app import app  # noqa: PLC0415

    found: dict[str, str] = {}
    with Metering.open(file_store.url) as metering:
        metering.meters.configure("tokens", customer_key="customer")
        metering.record("tokens", {"customer": "acme", "value": "1"}, identifier="first")
        metering.verify(lambda _: found.update(permissions(folder)))
        metering.generations.rebuild()
        with metering.key_value_store().try_lock("a job"):
            found.update(permissions(folder))
        PrivateKey.generate(folder / "key.pem", "ledger")
        metering.checkpoints.create(folder / "checkpoints", key=folder / "key.pem", name="ledger")
        found.update(permissions(folder))
    (folder / "usage.csv").write_text("identifier,timestamp,event_name\nx,y,z\n")
    for arguments in (
        ["import", str(folder / "usage.csv"), "--errors", str(folder / "errors.csv")],
        ["checkpoint", "prove", "first", "--checkpoints", str(folder / "checkpoints"), "--folder", str(folder)],
    ):
        CliRunner().invoke(app, [*arguments, "--ledger", file_store.url])
    (folder / "usage.csv").unlink()
    return found | permissions(folder)


def test_every_new_file_is_private_with_any_umask(file_store: SQLiteFile, umask: int) -> None:
    """Ledger, read models, their logs, locks, temporary files, checkpoints, proofs, keys and rejected rows."""
    assert os.umask(umask) == umask
    found = use_everything(file_store, file_store.file.parent)
    scratch = next(name for name in found if name.rpartition("scratch-")[1] and "/" not in name)
    assert found.pop(scratch) == "0o700"
    names = {name.replace(scratch, "usage.db.read-models.scratch-x") for name in found}
    assert names >= {
        "usage.db", "usage.db-wal", "usage.db-shm", "usage.db.read-models", "usage.db.read-models-wal",
        "usage.db.read-models-shm", "usage.db.read-models.lock", "usage.db.alone-a%20job.lock",
        "usage.db.read-models.scratch.lock", "usage.db.read-models.scratch-x/scratch.lock",
        "usage.db.read-models.scratch-x/scratch.read-models", "key.pem", "checkpoints", "checkpoints.leaves",
        "errors.csv", "position-2.event", "position-2.tlog-proof",
    }  # fmt: skip
    assert {name: mode for name, mode in found.items() if mode != "0o600"} == {}


def test_an_existing_file_keeps_its_permissions_and_its_neighbours_get_them(file_store: SQLiteFile) -> None:
    """A group that may use the ledger may use the read models and locks that are created later."""
    with file_store.metering() as metering:
        record_history(metering, 20)
    file_store.delete_read_models()
    file_store.file.chmod(0o660)
    found = use_everything(file_store, file_store.file.parent)
    ledger_files = {
        name: mode for name, mode in found.items() if name.startswith("usage.db") and "scratch-" not in name
    }
    assert len(ledger_files) == 9
    assert set(ledger_files.values()) == {"0o660"}


def rebuild(metering: Metering, _: Path) -> None:
    """Build read models."""
    metering.generations.rebuild()


def verify(metering: Metering, _: Path) -> None:
    """Verify the ledger."""
    metering.verify()


def take_lock(metering: Metering, _: Path) -> None:
    """Take a lock of the key-value store."""
    metering.key_value_store().try_lock("a job").__enter__()


def create_checkpoint(metering: Metering, folder: Path) -> None:
    """Create a checkpoint."""
    metering.checkpoints.create(folder / "checkpoints")


LINKS: list[tuple[str, Use]] = [
    ("usage.db.read-models.lock", rebuild),
    ("usage.db.read-models.scratch.lock", verify),
    ("usage.db.alone-a%20job.lock", take_lock),
    ("checkpoints.leaves", create_checkpoint),
]


@pytest.mark.parametrize("is_dangling", [False, True])
@pytest.mark.parametrize(("name", "use"), LINKS)
def test_a_symbolic_link_is_not_followed(file_store: SQLiteFile, name: str, use: Use, is_dangling: bool) -> None:
    """Another user of a shared folder could make us change or create a file of ours."""
    folder = file_store.file.parent
    victim = folder / "victim"
    if not is_dangling:
        victim.write_text("precious")
    with file_store.metering() as metering:
        record_history(metering, 20)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(victim)
        with pytest.raises(TallybookError, match="symbolic link") as exc_info:
            use(metering, folder)
    assert name in exc_info.value.message
    assert (victim.exists(), victim.exists() and victim.read_text()) == (
        not is_dangling,
        not is_dangling and "precious",
    )


@pytest.mark.parametrize("is_dangling", [False, True])
def test_read_models_are_not_opened_through_a_symbolic_link(file_store: SQLiteFile, is_dangling: bool) -> None:
    """The ledger itself may be a link, because its name is given by the caller."""
    folder, victim = file_store.file.parent, file_store.file.parent / "victim"
    with file_store.metering() as metering:
        record_history(metering, 20)
        before = query_results(metering)
    file_store.read_models_file.rename(victim)
    contents = victim.read_bytes()
    if is_dangling:
        victim.unlink()
    file_store.read_models_file.symlink_to(victim)
    with pytest.raises(TallybookError, match="symbolic link"):
        file_store.open()
    assert not victim.exists() if is_dangling else victim.read_bytes() == contents
    link = folder / "link.db"
    link.symlink_to(file_store.file)
    with Metering.open(f"sqlite:///{link}") as metering:
        assert query_results(metering) == before


def test_links_under_the_name_of_a_temporary_directory_are_left_alone(file_store: SQLiteFile) -> None:
    """Nothing is created or removed in the directory that they lead to."""
    other = file_store.file.parent / "other"
    other.mkdir()
    (other / "precious").touch()
    Path(f"{file_store.read_models_file}.scratch-evil").symlink_to(other)
    with file_store.metering() as metering:
        record_history(metering, 20)
        assert metering.verify().is_equal
    assert [path.name for path in other.iterdir()] == ["precious"]
    shutil.rmtree(other)
