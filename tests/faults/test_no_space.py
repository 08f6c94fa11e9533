"""A disk that is full: it is told clearly, nothing that was accepted is lost, and once there is room it goes on."""

import resource
import signal
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import Metering, TallybookError

from .forked import in_a_child
from .statements import Statement, watched
from .works import DAY, NOW, begin, use

Shrink = Callable[[bool], None]
BATCH = 50
MOST = 200


class FewPages:
    """Databases that may hold no more pages than they do: SQLite itself tells then that they are full."""

    def __init__(self) -> None:
        self.connections: list[Any] = []

    def before(self, statement: Statement) -> None:
        """Nothing."""

    def after(self, statement: Statement) -> None:
        """Know each connection."""
        if statement.text == "CONNECT":
            self.connections.append(statement.connection)

    def shrink(self, is_full: bool) -> None:
        """Take the room away, or give it back."""
        for connection in self.connections:
            most = connection.execute("PRAGMA page_count").fetchone()[0] + 4 if is_full else 1_000_000
            connection.execute(f"PRAGMA max_page_count = {most}")


@contextmanager
def few_pages() -> Generator[Shrink]:
    """Room for a few pages more."""
    pages = FewPages()
    with watched(pages):
        yield pages.shrink


@contextmanager
def small_files() -> Generator[Shrink]:
    """No file may grow beyond a size: writing to it fails, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda is_full: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000 if is_full else most, most))


@pytest.mark.parametrize(
    ("room", "said"), [(few_pages, "full. Free some space"), (small_files, "error. The disk may be")]
)
def test_a_full_disk_loses_nothing_and_stops_nobody_for_good(
    room: Callable[[], AbstractContextManager[Shrink]], said: str, tmp_path: Path
) -> None:
    """Reports are refused with what to do; what was accepted can be read, at the latest when there is room."""
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    _, told = in_a_child(lambda: filled(url, room))
    assert told["refused"] == "ledger_unavailable"
    assert said in told["message"]
    assert 0 < told["accepted"] < MOST * BATCH
    assert told["read while full"] in {told["accepted"], "ledger_unavailable"}
    assert told["sent again"] == ["accepted"] * BATCH
    assert told["read"] == told["accepted"] + BATCH
    assert told["is verified"]
    with Metering.open(url, clock=lambda: NOW) as metering:
        assert count(metering) == told["read"]
        assert metering.verify().is_equal


def filled(url: str, room: Callable[[], AbstractContextManager[Shrink]]) -> dict[str, Any]:
    """Report until the disk is full, look, make room, and go on; give what was told."""
    told: dict[str, Any] = {"accepted": 0}
    with room() as shrink, Metering.open(url, clock=lambda: NOW) as metering:
        begin(metering)
        before = count(metering)
        shrink(True)
        number = 0
        try:
            for number in range(MOST):
                metering.record_many(batch(number))
                told["accepted"] += BATCH
        except TallybookError as error:
            told |= {"refused": error.code, "message": str(error)}
        told["read while full"] = tried(lambda: count(metering) - before)
        shrink(False)
        told["sent again"] = [str(receipt.outcome) for receipt in metering.record_many(batch(number))]
        told |= {"read": count(metering), "is verified": metering.verify().is_equal}
        told["accepted"] += before
        told["read while full"] = _plus(told["read while full"], before)
    return told


def tried(do: Callable[[], Any]) -> Any:
    """What something gives, or the code that it is refused with."""
    try:
        return do()
    except TallybookError as error:
        return error.code


def _plus(told: Any, before: int) -> Any:
    return told + before if isinstance(told, int) else told


def batch(number: int) -> list[dict[str, object]]:
    """Reports of some length."""
    reports = [use(9) | {"identifier": f"batch-{number}-{place}"} for place in range(BATCH)]
    return [one | {"payload": {**use(9)["payload"], "note": "x" * 100}} for one in reports]  # pyright: ignore[reportGeneralTypeIssues]


def count(metering: Metering) -> int:
    """How many uses count."""
    return metering.total("tokens", None, DAY, NOW).count
