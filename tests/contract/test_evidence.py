"""Evidence packs of each store: they are as of their checkpoint, and the program of a pack counts the same totals."""

import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tallybook.application import Metering

from ..evidence.packs import load_program

START, END = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)
COUNT = 1_200  # with more events of a customer than are read at once


def write_history(metering: Metering) -> None:
    """Record usage of two customers, some of it cancelled or superseded, and close a period."""
    metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
    metering.meters.configure("seats", formula="last", event_time_window="day", customer_key="customer")
    metering.record_many(
        {
            "event_name": "tokens",
            "payload": {"customer": "acme" if number % 10 else "zeta", "tokens": f"{number}.5"},
            "identifier": f"e{number}",
            "timestamp": START + timedelta(minutes=number),
        }
        for number in range(COUNT)
    )
    for number in (7, 9):
        metering.record("seats", {"customer": "acme", "value": f"{number}"}, timestamp=START + timedelta(hours=number))
    metering.periods.close("tokens", "acme", START, END)
    metering.cancel("tokens", "e7", reason="a test", by="ops")


def test_a_pack_is_as_of_its_checkpoint(metering: Metering, tmp_path: Path) -> None:
    """Whatever is recorded, cancelled or reopened later is not in it."""
    write_history(metering)
    checkpoints, file = tmp_path / "usage.checkpoints", tmp_path / "acme.zip"
    metering.checkpoints.create(checkpoints)
    first = metering.evidence.write(file, "acme", START, END, checkpoints=checkpoints)
    with zipfile.ZipFile(file) as archive:
        listed = archive.read("SHA256SUMS")
    metering.cancel("tokens", "e9")
    metering.record("tokens", {"customer": "acme", "tokens": "1000"}, timestamp=START)
    metering.periods.reopen("tokens", "acme", START, END, reason="later")
    again = metering.evidence.write(file, "acme", START, END, checkpoints=checkpoints, overwrite=True)
    assert (again.totals, again.events, again.sha256) == (first.totals, first.events, first.sha256)
    with zipfile.ZipFile(file) as archive:
        assert archive.read("SHA256SUMS") == listed
    usage = [number + 0.5 for number in range(COUNT) if number % 10]
    assert [(total.meter, str(total.kind), float(total.quantity), total.count) for total in first.totals] == [
        ("seats", "current", 9, 1),
        ("tokens", "current", sum(usage) - 7.5, len(usage) - 1),
        ("tokens", "closed", sum(usage), len(usage)),
        ("tokens", "adjusted", sum(usage) - 7.5, len(usage) - 1),
    ]
    assert first.events == len(usage) + 2 + 2 + 1 + 1  # usage of both meters, the meters, the closing, the cancellation
    program = load_program()
    assert "these totals follow" in "\n".join(program.check(program.Pack(file), "", checkpoints.read_text()))
