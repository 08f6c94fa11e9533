"""Programs that are killed: `python -m tests.outbox.killed_programs NAME …`. Each prints `ready`, and works until then.

A host commits some of its orders and rolls back the others. The orders that it committed are those in its table.
"""

import random
import sys
from collections.abc import Callable
from contextlib import contextmanager

from tallybook.application import Metering, Outbox

from .hosts import HostDatabase, open_psycopg, open_sqlite3


def sell(host_url: str, prefix: str, ledger_url: str, seed: str) -> None:
    """Commit orders with usage, roll back every third, and some to a savepoint."""
    database, decisions = HostDatabase(host_url, prefix), random.Random(seed)
    open_host = open_sqlite3 if database.is_sqlite else open_psycopg
    with Metering.open(ledger_url) as metering, contextmanager(open_host)(database) as host:
        outbox = Outbox(metering, table=database.table)
        report_ready()
        for number in range(1_000_000):
            for part in range(decisions.randrange(1, 4)):
                host.record(outbox, f"{seed}-{number}-{part}")
            if decisions.random() < 0.2:
                host.execute("SAVEPOINT before_more")
                host.record(outbox, f"{seed}-{number}-undone")
                host.execute("ROLLBACK TO SAVEPOINT before_more")
            if decisions.random() < 0.33:
                host.rollback()
            else:
                host.commit()


def relay(host_url: str, prefix: str, ledger_url: str, batch_size: str) -> None:
    """Relay small batches."""
    database = HostDatabase(host_url, prefix)
    with Metering.open(ledger_url) as metering, Outbox(metering, database.url, table=database.table) as outbox:
        report_ready()
        while True:
            outbox.relay(batch_size=int(batch_size))


def report_ready() -> None:
    """Let the process that started this one kill it."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()


PROGRAMS: dict[str, Callable[..., None]] = {"sell": sell, "relay": relay}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
