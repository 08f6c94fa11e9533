"""After a failure, a store works again: no caller receives a wrong result, and none has to wait for a lock."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tallybook.application import Metering, TallybookError
from tallybook.application.storage.sqlite.event_recorder import SQLiteEventRecorder
from tallybook.application.usage_import.columns import ColumnMapping
from tallybook.application.usage_import.files import open_usage_file
from tallybook.application.usage_import.importer import UsageImporter
from tallybook.application.usage_import.row_mapper import RowFormat
from tallybook.domain.errors import LedgerUnavailable

from ..simulate.patches import short_lock_timeout
from .fault_injector import SingleFault
from .operations import DAY, NOW, meter_event, set_up_ledger
from .statements import observe_statements


@pytest.fixture
def fault() -> Iterator[SingleFault]:
    """Yield a fault for the next statement that contains `fault.fail_at`."""
    fault = SingleFault()
    with observe_statements(fault), short_lock_timeout():
        yield fault


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of a ledger with usage."""
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    with Metering.open(url, clock=lambda: NOW) as metering:
        set_up_ledger(metering)
    return url


@pytest.fixture
def metering(fault: SingleFault, url: str) -> Iterator[Metering]:
    """Yield that ledger, on a store that can fail."""
    with Metering.open(url, clock=lambda: NOW) as opened:
        yield opened


def test_no_meter_event_is_rejected_because_the_store_fails(metering: Metering, fault: SingleFault) -> None:
    """A client does not retry a rejected event, so if a meter can't be read the whole batch fails."""
    fault.fail_at = "stored_events WHERE originator_id"
    with pytest.raises(TallybookError) as exc_info:
        metering.record_many([meter_event(50), meter_event(51, "seats")])
    assert exc_info.value.code == "ledger_unavailable"
    assert [receipt.outcome for receipt in metering.record_many([meter_event(50), meter_event(51, "seats")])] == [
        "accepted"
    ] * 2


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "INSERT INTO stored_events", "COMMIT"])
def test_after_a_failed_write_all_clients_can_write_again(
    metering: Metering, url: str, fault: SingleFault, statement: str
) -> None:
    """A failed commit may leave its transaction open. The store rolls it back, so that no process waits for it."""
    fault.fail_at = statement
    with pytest.raises(TallybookError) as exc_info:
        metering.record_many([meter_event(50)])
    assert exc_info.value.code == "ledger_unavailable"
    with Metering.open(url, clock=lambda: NOW) as other:
        assert [receipt.outcome for receipt in other.record_many([meter_event(51)])] == ["accepted"]
    assert [receipt.outcome for receipt in metering.record_many([meter_event(50), meter_event(51)])] == [
        "accepted",
        "duplicate",
    ]
    assert metering.verify().is_equal


def test_a_writer_without_a_connection_blocks_no_other(metering: Metering, fault: SingleFault) -> None:
    """While threads read, a writer needs its own connection. If it can't connect, it releases its place in the queue of
    writers."""
    recorder = metering._ledger.ledger_recorder  # pyright: ignore[reportPrivateUsage]
    assert isinstance(recorder, SQLiteEventRecorder)
    datastore = recorder.datastore
    with datastore.transaction(commit=False):
        fault.fail_at = "CONNECT"
        with pytest.raises(LedgerUnavailable), datastore.transaction(commit=True):
            pass
        with datastore.transaction(commit=True):
            pass
    assert [receipt.outcome for receipt in metering.record_many([meter_event(50)])] == ["accepted"]


def test_no_imported_row_is_rejected_because_the_store_fails(
    metering: Metering, fault: SingleFault, tmp_path: Path
) -> None:
    """An import that can't read a meter stops, and a second import records the remaining rows."""
    file = tmp_path / "usage.csv"
    file.write_text(f"timestamp,event_name,units\n{DAY:%Y-%m-%dT%H:%M:%SZ},seats,7\n")
    row_format = RowFormat(ColumnMapping(value="units", customer_name="acme"))
    with open_usage_file(file) as usage:
        fault.fail_at = "stored_events WHERE originator_id"
        with pytest.raises(LedgerUnavailable):
            UsageImporter(metering, usage, row_format).run()
    with open_usage_file(file) as usage:
        assert UsageImporter(metering, usage, row_format).run().accepted == 1
