"""A bulk cancellation killed at any moment, or its revocation: whole parts are stored, and `resume` does the others."""

import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ..cli.command_line import CommandLine

KILL_COUNT = int(os.environ.get("TALLYBOOK_TEST_KILL_MOMENTS", "2"))
EVENTS = 5_000
HEADER = "identifier,timestamp,event_name,payload_stripe_customer_id,payload_value"


@pytest.mark.parametrize("moment", range(KILL_COUNT))
def test_a_killed_bulk_cancellation_is_resumed(tmp_path: Path, moment: int) -> None:
    """Nothing is cancelled or counted again twice, and none is left out."""
    tallybook = CommandLine(tmp_path)
    tallybook.run("meter", "configure", "tokens")
    rows = (f"r-{number},2024-01-02,tokens,cus_{number % 7},1" for number in range(EVENTS))
    tallybook.run("import", tallybook.write("usage.csv", "\n".join([HEADER, *rows])), "--backfill")
    count = EVENTS * (moment + 1) // (KILL_COUNT + 1)

    kill(tallybook, "EventCancelled", count, "cancel-many", "tokens", "--identifier-prefix", "r-", "--yes",
         "--reason", "a test")  # fmt: skip
    assert resume(tallybook, "cancelled")["cancelled"] == EVENTS
    assert total(tallybook) == "0"

    (bulk,) = tallybook.run_json("cancellation", "list")
    kill(tallybook, "CancelRevoked", count, "cancellation", "revoke", bulk["cancellation_id"], "--reason", "a test")
    assert resume(tallybook, "revoked")["revoked"] == EVENTS
    assert total(tallybook) == str(EVENTS)
    assert tallybook.run_json("verify")["is_equal"]


def kill(tallybook: CommandLine, topic: str, count: int, *arguments: str) -> None:
    """Kill a command a little after it has stored as many events of a topic."""
    program = Path(sys.executable).with_name("tallybook")
    process = subprocess.Popen(
        [program, *arguments, "--ledger", tallybook.url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with closing(sqlite3.connect(tallybook.ledger_file)) as ledger:
        while process.poll() is None and stored(ledger, topic) < count:
            pass
        time.sleep(random.Random(count).random() * 0.02)
        process.kill()
    process.wait()


def stored(ledger: sqlite3.Connection, topic: str) -> int:
    """Return the number of stored events of a topic."""
    return ledger.execute("SELECT count(*) FROM stored_events WHERE topic = ?", (topic,)).fetchone()[0]


def resume(tallybook: CommandLine, status: str) -> Any:
    """Finish the bulk cancellation, which has whole parts, and return it."""
    (bulk,) = tallybook.run_json("cancellation", "list")
    done = bulk["revoked"] if status == "revoked" else bulk["cancelled"]
    assert done % 1_000 == 0
    finished = tallybook.run_json("cancellation", "resume", bulk["cancellation_id"])
    assert finished["status"] == status
    return finished


def total(tallybook: CommandLine) -> str:
    """Return the total of all customers."""
    return tallybook.run_json("total", "tokens", "--period", "2024")["value"]
