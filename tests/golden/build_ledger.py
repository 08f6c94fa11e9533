"""Write `ledger-N.sqlite`, a small ledger of this code's schema version N, for test_schema_migrations.py.

Run `python -m tests.golden.build_ledger` once, at the last commit before the schema gets a new version. Never replace a
file that exists: it stands for the ledgers that a release has written.
"""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tallybook.application import AcceptancePolicy, Metering
from tallybook.application.storage.key_value import KeyValueEntry

START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=2)
NOW = START + timedelta(days=3)


def record_usage(metering: Metering) -> None:
    """Record two meters, 40 meter events, a cancellation, a closed period and two key-value entries."""
    metering.meters.configure("tokens", customer_key="customer", dimension_keys=["region"])
    metering.meters.configure("seats", formula="last", event_time_window="hour", customer_key="customer")
    metering.record_many(
        [
            {
                "event_name": ("tokens", "seats")[number % 2],
                "identifier": f"event-{number}",
                "timestamp": START + timedelta(hours=number),
                "payload": {
                    "customer": ("acme", "beta")[number % 3 == 0],
                    "value": f"{number}.25",
                    "region": "eu" if number % 5 else "us",
                },
            }
            for number in range(40)
        ]
    )
    metering.cancel("tokens", "event-2", reason="a duplicate")
    metering.periods.close("tokens", "acme", START, START + timedelta(days=1))
    metering.key_value_store().apply(
        insert=[KeyValueEntry("golden", key, number, key.encode()) for number, key in enumerate(("first", "second"))]
    )


def main() -> None:
    """Write the ledger next to this file."""
    folder = Path(__file__).parent
    new_file = folder / "ledger-new.sqlite"
    policy = AcceptancePolicy(max_age=None)
    with Metering.open(f"sqlite:///{new_file}", policy=policy, clock=lambda: NOW) as metering:
        record_usage(metering)
    with closing(sqlite3.connect(new_file)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("VACUUM")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    for leftover in folder.glob("ledger-new.sqlite.*"):
        leftover.unlink()
    golden_file = folder / f"ledger-{version}.sqlite"
    if golden_file.exists():
        new_file.unlink()
        raise SystemExit(f"{golden_file} exists, and golden files are never replaced.")
    new_file.rename(golden_file)


if __name__ == "__main__":
    main()
