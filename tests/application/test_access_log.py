"""The access log of the library: which queries are logged, with whom, and for which customer."""

import inspect
import json
import logging
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import Metering, TallybookError
from tallybook.application.access_log import LOGGED_QUERIES, LoggedCustomers

from ..notation import Clock, Ledger, moment

HISTORY = """
    meter   tokens  sum
    10:05   acme tokens 25  id=a
    10:10   zeta tokens 7   id=z
    close   acme tokens 10 11  at=11T02:00
    cancel  a  at=11T03:00
"""
DAY = (moment("10"), moment("11"))
RANGE = {"start": DAY[0], "end": DAY[1]}
OF_ACME: dict[str, dict[str, Any]] = {
    "total": {"customer": "acme", **RANGE},
    "summaries": {"customer": "acme", **RANGE, "window": "day"},
    "events": {"customer": "acme"},
    "event": {"event_name": None, "identifier": "a"},
    "explain": {"customer": "acme", **RANGE},
    "open_explanation": {"customer": "acme", **RANGE},
    "explain_page": {"customer": "acme", **RANGE},
    "compare": {"customer": "acme", **RANGE, "since": 2},
    "periods.list": {"customer": "acme"},
    "periods.iterate": {"customer": "acme"},
    "periods.preview": {"customer": "acme", **RANGE},
    "periods.gaps": {"customer": "acme"},
    "periods.adjustments": {"customer": "acme"},
    "periods.read_adjustments": {"customer": "acme"},
    "periods.invoice_lines": {"event_name": None, "customer": "acme", **RANGE},
    "periods.read_invoice_lines": {"event_name": None, "customer": "acme", **RANGE},
    "history.list": {"customer": "acme"},
    "cancellations.preview": {"customer": "acme"},
}
"""The arguments of each query that reads the data of one customer, besides `event_name`."""
NEED_MORE = {"evidence.write", "proposals.preview"}
"""Those that need a checkpoint or a proposal."""
NOT_READING = {
    "cancellations.cancel_many", "periods.close", "periods.reopen", "periods.settle",
    "periods.settle_invoice_lines", "proposals.propose_reopening", "sql.digest_lines", "sql.total",
}  # fmt: skip
"""Calls with a customer that change the ledger, and whose author is stored in it; or that return SQL without data."""


@pytest.fixture
def metering(clock: Clock, caplog: pytest.LogCaptureFixture) -> Iterator[Metering]:
    """Open a ledger with an access log that names customers."""
    caplog.set_level(logging.INFO, "tallybook.access")
    with Metering.open("sqlite://", clock=clock, access_log_customers="named") as metering:
        Ledger(metering, clock).given(HISTORY)
        caplog.clear()
        yield metering


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, str]]:
    """Return the lines of the access log so far, and forget them."""
    lines = [json.loads(record.message) for record in caplog.records if record.name == "tallybook.access"]
    caplog.clear()
    return lines


def query(metering: Metering, operation: str, arguments: dict[str, Any]) -> object:
    """Call a query by its name."""
    namespace, _, name = operation.rpartition(".")
    named = {"event_name": "tokens", **arguments}
    return getattr(getattr(metering, namespace) if namespace else metering, name)(
        **{name: value for name, value in named.items() if value is not None}
    )


@pytest.mark.parametrize("operation", OF_ACME)
def test_a_query_of_one_customer(metering: Metering, operation: str, caplog: pytest.LogCaptureFixture) -> None:
    """Is one line, with its author, also if it calls other queries."""
    arguments = OF_ACME[operation]
    with metering.acting_as("mara@example.com", on_behalf_of="audit"):
        query(metering, operation, arguments)
    (line,) = logged(caplog)
    assert line.pop("time").endswith("Z")
    assert line.pop("via").startswith("library:")
    has_meter = "event_name" not in arguments or operation == "event"
    meter = {"event_name": "tokens"} if has_meter else {}
    author = {"by": "mara@example.com", "on_behalf_of": "audit"}
    assert line == {"operation": operation, "customer": "acme", **author, **meter}


def test_each_call_with_a_customer_is_logged_or_changes_the_ledger(metering: Metering) -> None:
    """A new query can't be forgotten."""
    names = {f"{space}.{name}" if space else name for space, names in LOGGED_QUERIES.items() for name in names}
    assert names == {*OF_ACME, *NEED_MORE}
    with Metering.open("sqlite://") as plain:
        owners = {"": plain, **{name: value for name, value in vars(plain).items() if not name.startswith("_")}}
        with_customer = {
            f"{space}.{name}" if space else name
            for space, owner in owners.items()
            if type(owner).__module__.startswith("tallybook.")
            for name, call in inspect.getmembers(owner, callable)
            if not name.startswith("_") and "customer" in inspect.signature(call).parameters
        }
    assert with_customer - names == NOT_READING


def test_evidence_and_proposals(metering: Metering, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A pack is one line, and so is the preview of the reopening of one customer's period."""
    metering.checkpoints.create(tmp_path / "checkpoints")
    metering.evidence.write(tmp_path / "a.zip", "acme", *DAY, checkpoints=tmp_path / "checkpoints")
    proposal = metering.proposals.propose_reopening("tokens", "acme", *DAY, reason="mistake", by="mara")
    metering.proposals.preview(proposal.proposal_id)
    lines = [(line["operation"], line["customer"]) for line in logged(caplog)]
    assert lines == [("evidence.write", "acme"), ("proposals.preview", "acme")]


def test_what_is_not_logged(metering: Metering, caplog: pytest.LogCaptureFixture) -> None:
    """Queries of all customers, changes, and queries that fail."""
    metering.total("tokens", None, *DAY)
    metering.totals("tokens", *DAY)
    metering.events("tokens")
    metering.periods.list("tokens")
    metering.periods.settle("tokens", "acme", *DAY, document="CN-1")
    for customer in ("acme", 7, "\ud800"):
        with pytest.raises(TallybookError):
            metering.total("missing", customer, *DAY)  # pyright: ignore[reportArgumentType]
        with pytest.raises(TallybookError):
            metering.open_explanation("x" * 101, customer, *DAY)  # pyright: ignore[reportArgumentType]
    assert logged(caplog) == []


@pytest.mark.parametrize(
    ("customers", "text"),
    [
        (None, []),
        ("hidden", [None]),
        (LoggedCustomers.HASHED, [f"sha256:{sha256(b'acme').hexdigest()}"]),
        ("named", ["acme"]),
    ],
)
def test_the_customer_in_the_log(
    clock: Clock, customers: str | None, text: list[str | None], caplog: pytest.LogCaptureFixture
) -> None:
    """As `access_log_customers` says; by default, nothing is logged."""
    caplog.set_level(logging.INFO)
    with Metering.open("sqlite://", clock=clock, access_log_customers=customers) as metering:
        Ledger(metering, clock).given(HISTORY)
        caplog.clear()
        metering.total("tokens", "acme", *DAY)
        assert ("total" in vars(metering)) is (customers is not None)
    lines = logged(caplog)
    assert [line.get("customer") for line in lines] == text
    assert all("by" not in line for line in lines)


def test_a_wrong_argument() -> None:
    """Opens no ledger."""
    with pytest.raises(TallybookError, match="'access_log_customers' must be one of 'hidden', 'hashed', 'named'"):
        Metering.open("sqlite://", access_log_customers="all")
