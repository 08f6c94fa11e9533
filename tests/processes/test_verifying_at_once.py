"""Several processes verify one ledger at the same time, and killed processes have left folders behind."""

from pathlib import Path

from .conftest import Start, start_together
from .ledgers import read_numbers
from .usage import batch, open_ledger

PROCESSES, VERIFICATIONS = 4, 25


def test_processes_verify_a_ledger_concurrently(start: Start, url: str, tmp_path: Path) -> None:
    """No process removes the folder of another one, and all folders are removed at the end."""
    with open_ledger(url) as metering:
        metering.record_many(batch("parent", 0))
    verifying = [start("verify", url, VERIFICATIONS) for _ in range(PROCESSES)]
    start_together(*verifying)
    assert [read_numbers(process) for process in verifying] == [[[1]] * VERIFICATIONS] * PROCESSES
    assert list(tmp_path.glob("*scratch-*")) == []
