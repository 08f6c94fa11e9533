"""The ledger that the tests of the console look at, and a console of it."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import PIPE
from typing import NamedTuple

from tallybook.application import AcceptancePolicy

from tallybook import Metering
from tests.http.running_server import TIMEOUT_SECONDS
from tests.preloaded.program import Program

START, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
SCRIPT = "<script>alert(1)</script>"
MARKUP = "[red]bold[/red] & 'quoted'"
CUSTOMERS = ("acme", SCRIPT, MARKUP)
MODELS = ("small", "large")
MONTH = "period=2026-10"


class Clock:
    """A clock that the history sets."""

    at = START

    def __call__(self) -> datetime:
        return self.at


def create_ledger(file: Path) -> str:
    """Create a ledger with three customers, corrections, a change of rules, a closed period and late usage."""
    url, clock = f"sqlite:///{file}", Clock()
    with Metering.open(url, clock=clock, policy=AcceptancePolicy(cancel_window=None, max_age=None)) as metering:
        metering.meters.configure("tokens", display_name="Tokens", customer_key="customer", dimension_keys=["model"])
        metering.meters.configure(
            "storage", formula="last", event_time_window="day", customer_key="customer", value_key="gb"
        )
        for day in range(12):
            clock.at = START + timedelta(days=day, hours=3)
            for number, customer in enumerate(CUSTOMERS):
                payload = {
                    "customer": customer,
                    "value": f"{1000 * (day + 1)}.{number}5",
                    "model": ("small", "large")[day % 2],
                }
                metering.record("tokens", payload, identifier=f"t-{day}-{number}", timestamp=clock.at)
                for hour in (0, 1):
                    stored = {"customer": customer, "gb": f"{day * 10 + hour}.5"}
                    at = clock.at + timedelta(hours=hour - 2)
                    metering.record("storage", stored, identifier=f"s-{day}-{number}-{hour}", timestamp=at)
        metering.cancel("tokens", "t-3-0", reason=f"wrong unit {SCRIPT}", by="ops@example.com")
        clock.at = END + timedelta(days=1)
        metering.periods.run(START, END, meters=["tokens"], by="finance")
        late = {"customer": "acme", "value": "77", "model": "small"}
        metering.record("tokens", late, identifier="late", timestamp=END - timedelta(days=3))
        metering.rules.change("storage", {"rounding": {"mode": "up"}}, reason="whole gigabytes", by="ada")
    return url


class LocalConsole(NamedTuple):
    """A running console: its address without a path, the one with a token that it has printed, and its process."""

    url: str
    start_url: str
    process: Program


@contextmanager
def local_console(ledger_url: str, *options: str) -> Generator[LocalConsole]:
    """Run `tallybook console` on a free port, and stop it at the end."""
    environment = {**os.environ, "TALLYBOOK_POLICY__CANCEL_WINDOW": "none", "LOGNAME": "somebody else"}
    process = Program(
        "tallybook", "console", "--ledger", ledger_url, "--no-browser", *options,
        stdout=PIPE, environment=environment, new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("The console is at http://127.0.0.1:"), line
        start_url = line.split()[4]
        yield LocalConsole(start_url.partition("/console")[0], start_url, process)
    finally:
        process.terminate()
        process.wait(TIMEOUT_SECONDS)
        process.stdout.close()
