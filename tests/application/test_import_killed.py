"""An import killed at any moment: the ledger opens, holds whole batches of the file's beginning, and can go on.

Twelve moments, spread over the file; TALLYBOOK_KILL_MOMENTS sets another number.
"""

import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path

import pytest
from tallybook.application import Metering
from tallybook.application.importing import BATCH_ROWS

from .command_line import CommandLine

MOMENTS = int(os.environ.get("TALLYBOOK_KILL_MOMENTS", "12"))
VALUES = range(1, 6_001)
SUMS = [0, *accumulate(VALUES)]
MONTH = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
HEADER = "timestamp,event_name,payload_stripe_customer_id,payload_value"


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    line = CommandLine(tmp_path)
    line.run("meter", "configure", "tokens")
    rows = (f"{1_704_067_200 + value},tokens,cus_{value % 7},{value}" for value in VALUES)
    line.write("usage.csv", "\n".join([HEADER, *rows]))
    return line


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_and_started_again_an_import_ends_the_same(tallybook: CommandLine, moment: int) -> None:
    """What another process saw recorded is still there, nothing is counted twice, and the second run adds the rest."""
    seen = killed_import(tallybook, len(VALUES) * moment // MOMENTS, random.Random(moment).random() * 0.03)
    count, total = figures(tallybook.url)
    assert count >= seen
    assert count % BATCH_ROWS == 0
    assert total == SUMS[count]

    again = tallybook.answer("import", tallybook.folder / "usage.csv", "--backfill")
    assert (again["accepted"], again["duplicate"]) == (len(VALUES) - count, count)
    assert figures(tallybook.url) == (len(VALUES), SUMS[-1])
    for views in tallybook.folder.glob("*.views*"):
        views.unlink()
    assert figures(tallybook.url) == (len(VALUES), SUMS[-1])


def killed_import(tallybook: CommandLine, rows: int, seconds: float) -> int:
    """Kill an import so long after so many rows are seen recorded; give how many that were."""
    program = Path(sys.executable).with_name("tallybook")
    words = ("import", "usage.csv", "--backfill", "--ledger", tallybook.url)
    process = subprocess.Popen([program, *words], cwd=tallybook.folder, stdout=subprocess.DEVNULL)
    with closing(sqlite3.connect(tallybook.ledger_file)) as ledger:
        seen = recorded(ledger)
        while seen < rows and process.poll() is None:
            seen = recorded(ledger)
        time.sleep(seconds)
        seen = recorded(ledger)
        process.kill()
    process.wait()
    return seen


def recorded(ledger: sqlite3.Connection) -> int:
    return ledger.execute("SELECT count(*) FROM stored_events").fetchone()[0] - 1  # the meter's own event


def figures(url: str) -> tuple[int, int]:
    with Metering.open(url) as metering:
        total = metering.total("tokens", None, *MONTH)
    return total.count, int(total.sum)
