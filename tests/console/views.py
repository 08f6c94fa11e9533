"""Pages of a console without a server, for tests of what a view shows."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from tallybook.application import AcceptancePolicy
from tallybook.application.interfaces.console.catalogue import all_views
from tallybook.application.interfaces.console.local_access import LocalAccess
from tallybook.application.interfaces.console.query_string import Parameters
from tallybook.application.interfaces.console.registry import ViewContext
from tallybook.application.interfaces.console.rendering import render
from tallybook.application.interfaces.console.responses import Page
from tallybook.application.interfaces.console.users import LocalUser
from tallybook.application.interfaces.http.ledgers import LedgerRegistry

from tallybook import Metering

from .ledgers import Clock


class Views(NamedTuple):
    """The views of a ledger, seen by the user of this computer, and its clock."""

    ledgers: LedgerRegistry
    clock: Clock

    @property
    def metering(self) -> Metering:
        """The ledger."""
        return self.ledgers.for_mode(livemode=True).metering

    def page(self, path: str, query: str, method: str = "GET") -> tuple[int, str]:
        """Return the status and the text of a page."""
        view = next(one for one in all_views() if (one.method, one.path) == (method, path))
        access = LocalAccess()
        user = LocalUser(access).find(self.ledgers, access.cookies)
        assert user is not None
        context = ViewContext(user, self.ledgers, Parameters.parse(query), f"/console{path}")
        result = view.run(context)
        assert isinstance(result, Page), result
        return result.status, render(result.template, result.values, context, has_login=False).decode()


@contextmanager
def open_views(file: Path, at: datetime) -> Generator[Views]:
    """Open a new ledger, at a time."""
    clock = Clock()
    clock.at = at
    policy = AcceptancePolicy(max_age=None)
    ledgers = LedgerRegistry(f"sqlite:///{file}", policy, clock)
    try:
        yield Views(ledgers, clock)
    finally:
        ledgers.close()
