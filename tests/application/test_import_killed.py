"""An import killed at any moment: the ledger opens, contains whole batches of the first rows, and can be resumed.

It is killed at six moments spread over the file; TALLYBOOK_TEST_KILL_MOMENTS sets another number.
"""

import os
import random
import sqlite3
import subprocess
import time
from contextlib import closing
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path

import pytest
from tallybook.application import Metering
from tallybook.application.usage_import.formats import BATCH_ROWS

from ..cli.command_line import CommandLine
from ..preloaded.program import Program

KILL_COUNT = int(os.environ.get("TALLYBOOK_TEST_KILL_MOMENTS", "6"))
VALUES = range(1, 3 * BATCH_ROWS + 1)
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


@pytest.mark.parametrize("moment", range(KILL_COUNT))
def test_a_killed_import_resumes_with_the_same_result(tallybook: CommandLine, moment: int) -> None:
    """Rows that another process saw are still recorded, none is counted twice, and the second run adds the others."""
    recorded_rows = kill_import(tallybook, len(VALUES) * moment // KILL_COUNT, random.Random(moment).random() * 0.03)
    count, total = count_and_total(tallybook.url)
    assert count >= recorded_rows
    assert count % BATCH_ROWS == 0 or count == len(VALUES)
    assert total == SUMS[count]

    resumed = tallybook.run_json("import", tallybook.folder / "usage.csv", "--backfill")
    assert (resumed["accepted"], resumed["duplicate"]) == (len(VALUES) - count, count)
    assert count_and_total(tallybook.url) == (len(VALUES), SUMS[-1])
    for read_models_file in tallybook.folder.glob("*.read-models*"):
        read_models_file.unlink()
    assert count_and_total(tallybook.url) == (len(VALUES), SUMS[-1])


def kill_import(tallybook: CommandLine, rows: int, seconds: float) -> int:
    """Kill an import `seconds` after `rows` rows are recorded; return the number of rows seen."""
    arguments = ("import", "usage.csv", "--backfill", "--ledger", tallybook.url)
    process = Program("tallybook", *arguments, folder=tallybook.folder, stdout=subprocess.DEVNULL)
    with closing(sqlite3.connect(tallybook.ledger_file)) as ledger:
        recorded_rows = count_recorded(ledger)
        while recorded_rows < rows and process.poll() is None:
            recorded_rows = count_recorded(ledger)
        time.sleep(seconds)
        recorded_rows = count_recorded(ledger)
        process.kill()
    process.wait()
    return recorded_rows


def count_recorded(ledger: sqlite3.Connection) -> int:
    return ledger.execute("SELECT count(*) FROM stored_events WHERE topic = 'UsageRecorded'").fetchone()[0]


def count_and_total(url: str) -> tuple[int, int]:
    with Metering.open(url) as metering:
        total = metering.total("tokens", None, *MONTH)
    return total.count, int(total.sum)
