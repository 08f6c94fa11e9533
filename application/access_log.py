"""The access log of the library: each query of one customer's data, with its author, if the program asks for it.

The queries are wrapped when a ledger is opened, all of them here. Without an access log nothing is wrapped. A namespace
is replaced by one that logs, so that calls of a query by Tallybook itself, as of a settlement, are not logged.
"""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import wraps
from hashlib import sha256
from typing import Any

import msgspec

from ..domain.authorship import Author, current_author
from .system_user import library
from .validation import optional_customer, require_event_name

ACCESS_LOGGER = logging.getLogger("tallybook.access")

LOGGED_QUERIES: Mapping[str, Sequence[str]] = {
    "": ("total", "summaries", "events", "event", "explain", "open_explanation", "explain_page", "compare"),
    "periods": (
        "list", "iterate", "preview", "gaps", "adjustments", "read_adjustments", "invoice_lines", "read_invoice_lines",
    ),
    "history": ("list",),
    "cancellations": ("preview",),
    "proposals": ("preview",),
    "evidence": ("write",),
}  # fmt: skip
"""The queries that select one customer, or return an object of one, by namespace of a Metering."""


class LoggedCustomers(StrEnum):
    """How the access log names the customer whose data a query reads: not at all, by a SHA-256, or by name."""

    HIDDEN = "hidden"
    HASHED = "hashed"
    NAMED = "named"

    def text(self, customer: str) -> str:
        """Return the text in the log for a customer; empty if the request is not about one customer."""
        if self is LoggedCustomers.HIDDEN or not customer:
            return ""
        return customer if self is LoggedCustomers.NAMED else f"sha256:{sha256(customer.encode()).hexdigest()}"


class QueryLogRecord(msgspec.Struct, omit_defaults=True):
    """A line of the access log of the library: which query read the data of which customer, for whom."""

    time: datetime
    operation: str
    via: str
    by: str | None = None
    on_behalf_of: str | None = None
    event_name: str = ""
    customer: str = ""


def log_queries(metering: object, customers: LoggedCustomers) -> None:
    """Make a Metering log each query of one customer's data on ACCESS_LOGGER, as one line of JSON."""
    for namespace, names in LOGGED_QUERIES.items():
        owner = getattr(metering, namespace) if namespace else metering
        logging_owner = _LoggingNamespace(owner) if namespace else metering
        for name in names:
            operation = f"{namespace}.{name}" if namespace else name
            setattr(logging_owner, name, _logged(operation, getattr(owner, name), customers))
        if namespace:
            setattr(metering, namespace, logging_owner)


class _LoggingNamespace:
    """A namespace some of whose queries are logged. All other attributes are those of the original."""

    def __init__(self, namespace: object) -> None:
        self._namespace = namespace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._namespace, name)


def _logged(operation: str, query: Callable[..., Any], customers: LoggedCustomers) -> Callable[..., Any]:
    """Return a query that is logged if it was about one customer. A query that fails is not."""
    signature = inspect.signature(query)

    @wraps(query)
    def run(*args: object, **named: object) -> Any:
        result = query(*args, **named)
        if ACCESS_LOGGER.isEnabledFor(logging.INFO):
            arguments = signature.bind(*args, **named).arguments
            customer = optional_customer(arguments.get("customer", getattr(result, "customer", None)))
            if customer is not None:
                event_name = arguments.get("event_name") or getattr(result, "event_name", None)
                _write(operation, event_name and require_event_name(event_name), customers.text(customer))
        return result

    return run


def _write(operation: str, event_name: str | None, customer: str) -> None:
    author = current_author() or Author(None, library())
    record = QueryLogRecord(
        datetime.now(UTC), operation, author.via, author.by, author.on_behalf_of, event_name or "", customer
    )
    ACCESS_LOGGER.info(msgspec.json.encode(record).decode())
