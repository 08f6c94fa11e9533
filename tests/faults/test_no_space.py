"""A full disk is reported, loses no accepted event, and recording continues once there is space."""

import resource
import signal
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import Metering, TallybookError

from .forked import run_in_child
from .operations import DAY, NOW, meter_event, set_up_ledger
from .statements import Statement, observe_statements

LimitSpace = Callable[[bool], None]
BATCH_SIZE = 50
MAX_BATCHES = 200


class PageLimit:
    """Limits the number of pages of databases: SQLite itself then reports that they are full."""

    def __init__(self) -> None:
        self.connections: list[Any] = []

    def before(self, statement: Statement) -> None:
        """Do nothing."""

    def after(self, statement: Statement) -> None:
        """Remember each connection."""
        if statement.text == "CONNECT":
            self.connections.append(statement.connection)

    def limit(self, is_full: bool) -> None:
        """Set or remove the limit."""
        for connection in self.connections:
            max_pages = connection.execute("PRAGMA page_count").fetchone()[0] + 4 if is_full else 1_000_000
            connection.execute(f"PRAGMA max_page_count = {max_pages}")


@contextmanager
def page_limit() -> Generator[LimitSpace]:
    """Yield a function that limits databases to a few more pages."""
    pages = PageLimit()
    with observe_statements(pages):
        yield pages.limit


@contextmanager
def file_size_limit() -> Generator[LimitSpace]:
    """Yield a function that limits the size of files: further writes fail, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, max_bytes = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda is_full: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000 if is_full else max_bytes, max_bytes))


@pytest.mark.parametrize(
    ("limit_space", "message"), [(page_limit, "full. Free some space"), (file_size_limit, "error. The disk may be")]
)
def test_a_full_disk_loses_nothing_and_is_recoverable(
    limit_space: Callable[[], AbstractContextManager[LimitSpace]], message: str, tmp_path: Path
) -> None:
    """The error says what to do. Accepted events can be read, at the latest once there is space."""
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    _, report = run_in_child(lambda: fill_disk(url, limit_space))
    assert report["error"] == "ledger_unavailable"
    assert message in report["message"]
    assert 0 < report["accepted"] < MAX_BATCHES * BATCH_SIZE
    assert report["read while full"] in {report["accepted"], "ledger_unavailable"}
    assert report["sent again"] == ["accepted"] * BATCH_SIZE
    assert report["read"] == report["accepted"] + BATCH_SIZE
    assert report["is verified"]
    with Metering.open(url, clock=lambda: NOW) as metering:
        assert count_events(metering) == report["read"]
        assert metering.verify().is_equal


def fill_disk(url: str, limit_space: Callable[[], AbstractContextManager[LimitSpace]]) -> dict[str, Any]:
    """Record until the disk is full, query, free space, and record again; return all results."""
    report: dict[str, Any] = {"accepted": 0}
    with limit_space() as shrink, Metering.open(url, clock=lambda: NOW) as metering:
        set_up_ledger(metering)
        before = count_events(metering)
        shrink(True)
        number = 0
        try:
            for number in range(MAX_BATCHES):
                metering.record_many(batch(number))
                report["accepted"] += BATCH_SIZE
        except TallybookError as error:
            report |= {"error": error.code, "message": str(error)}
        report["read while full"] = try_call(lambda: count_events(metering) - before)
        shrink(False)
        report["sent again"] = [str(receipt.outcome) for receipt in metering.record_many(batch(number))]
        report |= {"read": count_events(metering), "is verified": metering.verify().is_equal}
        report["accepted"] += before
        report["read while full"] = _add_count(report["read while full"], before)
    return report


def try_call(call: Callable[[], Any]) -> Any:
    """Return the result of a call, or the code of its error."""
    try:
        return call()
    except TallybookError as error:
        return error.code


def _add_count(report: Any, before: int) -> Any:
    return report + before if isinstance(report, int) else report


def batch(number: int) -> list[dict[str, object]]:
    """Return a batch of meter events with long payloads."""
    events = [meter_event(9) | {"identifier": f"batch-{number}-{index}"} for index in range(BATCH_SIZE)]
    return [event | {"payload": {**meter_event(9)["payload"], "note": "x" * 100}} for event in events]  # pyright: ignore[reportGeneralTypeIssues]


def count_events(metering: Metering) -> int:
    """Return the number of meter events that count."""
    return metering.total("tokens", None, DAY, NOW).count
