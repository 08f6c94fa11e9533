"""Files and folders that may only be read: what can be answered is, the rest is refused with what to do."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import Metering, TallybookError

from .forked import in_a_child
from .works import NOW, PERIOD, begin, use

NOBODY = 65_534

ASKED: dict[str, Callable[[Metering], Any]] = {
    "total": lambda metering: str(metering.total("tokens", "acme", *PERIOD).value),
    "explain": lambda metering: len(metering.explain("tokens", "acme", *PERIOD).events),
    "verify": lambda metering: metering.verify().is_equal,
    "record": lambda metering: str(metering.record_many([use(50, customer="beta")])[0].outcome),
    "total again": lambda metering: str(metering.total("tokens", "acme", *PERIOD).value),
    "rebuild": lambda metering: str(metering.rebuild().state),
}
ALL: dict[str, Any] = {
    "total": "131.0", "explain": 12, "verify": True, "record": "accepted", "total again": "131.0", "rebuild": "ready",
}  # fmt: skip
REFUSED = "ledger_unavailable: read-only"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a ledger whose read models are up to date; everybody may do everything in it."""
    folder = tmp_path / "ledger"
    folder.mkdir()
    with Metering.open(url_in(folder), clock=lambda: NOW) as metering:
        begin(metering)
        metering.catch_up()
    for parent in [folder, *folder.parents]:
        if parent.owner() == Path(tmp_path).owner() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o777)
    for file in folder.iterdir():
        file.chmod(0o666)
    return folder


@pytest.mark.parametrize(
    ("read_only", "refused"),
    [
        ([], []),
        (["usage.db"], ["record"]),
        (["usage.db.views"], ["total again", "rebuild"]),
        (["usage.db", "usage.db.views"], ["record", "rebuild"]),
    ],
)
def test_what_can_be_read_is_told_and_the_rest_refused(folder: Path, read_only: list[str], refused: list[str]) -> None:
    """Read models that can't be written answer for as long as nothing is recorded; a ledger that can't be, always."""
    for name in read_only:
        (folder / name).chmod(0o444)
    assert as_nobody(lambda: asked(folder)) == ALL | dict.fromkeys(refused, REFUSED)
    for file in folder.iterdir():  # SQLite gave the files that it keeps beside them the same rights
        file.chmod(0o666)
    assert as_nobody(lambda: asked(folder)) == ALL | ({} if "record" in refused else {"record": "duplicate"})


def test_a_folder_that_may_only_be_read_is_told_when_a_ledger_in_it_is_opened(folder: Path) -> None:
    """SQLite needs a file beside the ledger's, so it isn't opened at all."""
    folder.chmod(0o555)
    assert as_nobody(lambda: told(lambda: Metering.open(url_in(folder)))) == REFUSED
    folder.chmod(0o777)
    assert as_nobody(lambda: asked(folder)) == ALL


def test_a_folder_that_became_read_only_refuses_only_what_needs_another_file(folder: Path) -> None:
    """A ledger that is open goes on; a fresh fold, and who works on generations, need a file beside it."""

    def asked_later() -> dict[str, Any]:
        with Metering.open(url_in(folder), clock=lambda: NOW) as metering:
            metering.record_many([use(49, customer="beta")])
            metering.catch_up()
            folder.chmod(0o555)
            return {name: told(lambda ask=ask: ask(metering)) for name, ask in ASKED.items()}

    os.chown(folder, NOBODY if os.getuid() == 0 else -1, -1)
    needing = dict.fromkeys(["verify", "rebuild"], "ledger_unavailable: Permission denied")
    assert as_nobody(asked_later) == ALL | needing


def asked(folder: Path) -> dict[str, Any]:
    """What a ledger tells, and refuses."""
    with Metering.open(url_in(folder), clock=lambda: NOW) as metering:
        return {name: told(lambda ask=ask: ask(metering)) for name, ask in ASKED.items()}


def told(ask: Callable[[], Any]) -> Any:
    """An answer, or the code of the refusal and what it says of why."""
    try:
        return ask()
    except TallybookError as error:
        why = [words for words in ("read-only", "Permission denied") if words in str(error)]
        return f"{error.code}: {', '.join(why)}"


def as_nobody(do: Callable[[], Any]) -> Any:
    """Do something in a process that has no rights of its own: the administrator's ignore permissions."""

    def done() -> Any:
        if os.getuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        return do()

    status, answer = in_a_child(done)
    assert status == 0
    return answer


def url_in(folder: Path) -> str:
    """The ledger in a folder."""
    return f"sqlite:///{folder / 'usage.db'}"
