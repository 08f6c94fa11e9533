"""What a store failed at is over once it works again: nobody is told a wrong thing, and nobody is kept waiting."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tallybook.application import Metering, TallybookError
from tallybook.application.importing import UsageImport
from tallybook.application.stores.sqlite_ledger import SQLiteLedgerRecorder
from tallybook.application.usage_columns import Columns
from tallybook.application.usage_files import open_usage_file
from tallybook.domain.errors import LedgerUnavailable

from ..simulate.seams import short_patience
from .failing import FailingOnce
from .statements import watched
from .works import DAY, NOW, begin, use


@pytest.fixture
def failing() -> Iterator[FailingOnce]:
    """A fault to be met by the next statement that it is armed for."""
    fault = FailingOnce()
    with watched(fault), short_patience():
        yield fault


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Where a ledger with usage is."""
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    with Metering.open(url, clock=lambda: NOW) as metering:
        begin(metering)
    return url


@pytest.fixture
def metering(failing: FailingOnce, url: str) -> Iterator[Metering]:
    """That ledger, on a store that may fail."""
    with Metering.open(url, clock=lambda: NOW) as opened:
        yield opened


def test_no_report_is_rejected_because_the_store_fails(metering: Metering, failing: FailingOnce) -> None:
    """Whoever reads that a report was rejected won't send it again: a batch whose meter can't be read fails as one."""
    failing.at = "stored_events WHERE originator_id"
    with pytest.raises(TallybookError) as refused:
        metering.record_many([use(50), use(51, "seats")])
    assert refused.value.code == "ledger_unavailable"
    assert [receipt.outcome for receipt in metering.record_many([use(50), use(51, "seats")])] == ["accepted"] * 2


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "INSERT INTO stored_events", "COMMIT"])
def test_after_a_write_that_failed_everybody_writes_again(
    metering: Metering, url: str, failing: FailingOnce, statement: str
) -> None:
    """A commit that fails may leave its transaction open. It is given up, so that no process waits for it."""
    failing.at = statement
    with pytest.raises(TallybookError) as refused:
        metering.record_many([use(50)])
    assert refused.value.code == "ledger_unavailable"
    with Metering.open(url, clock=lambda: NOW) as other:
        assert [receipt.outcome for receipt in other.record_many([use(51)])] == ["accepted"]
    assert [receipt.outcome for receipt in metering.record_many([use(50), use(51)])] == ["accepted", "duplicate"]
    assert metering.verify().is_equal


def test_a_writer_that_got_no_connection_keeps_no_other_waiting(metering: Metering, failing: FailingOnce) -> None:
    """While threads read, a writer needs a connection of its own. Where none can be made, the next writer isn't in line
    behind one that is gone."""
    recorder = metering._ledger.ledger_recorder  # pyright: ignore[reportPrivateUsage]
    assert isinstance(recorder, SQLiteLedgerRecorder)
    datastore = recorder.datastore
    with datastore.transaction(commit=False):
        failing.at = "CONNECT"
        with pytest.raises(LedgerUnavailable), datastore.transaction(commit=True):
            pass
        with datastore.transaction(commit=True):
            pass
    assert [receipt.outcome for receipt in metering.record_many([use(50)])] == ["accepted"]


def test_no_row_of_a_file_is_rejected_because_the_store_fails(
    metering: Metering, failing: FailingOnce, tmp_path: Path
) -> None:
    """An import that can't read a meter ends there, and goes on where it was when it is started again."""
    file = tmp_path / "usage.csv"
    file.write_text(f"timestamp,event_name,units\n{DAY:%Y-%m-%dT%H:%M:%SZ},seats,7\n")
    columns = Columns(value="units", customer_name="acme")
    with open_usage_file(file) as usage:
        failing.at = "stored_events WHERE originator_id"
        with pytest.raises(LedgerUnavailable):
            UsageImport(metering, usage, columns).run()
    with open_usage_file(file) as usage:
        assert UsageImport(metering, usage, columns).run().accepted == 1
