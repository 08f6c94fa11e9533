"""Who uses the console: the owner of an access key that logged in, or the user of this computer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from starlette.routing import Route

from ....domain.access_key import Scope
from ....domain.authorship import COMMAND_LINE, Author
from ...access_keys.views import AccessKeyView
from ...system_user import system_user
from ..http.embed_tokens import find_embedded
from ..http.ledgers import LedgerRegistry, ServedLedger
from .local_access import LocalAccess
from .sessions import Sessions

COOKIE = "tallybook_session"


@dataclass(frozen=True, slots=True)
class ConsoleUser:
    """The user of a request, and the ledger that the user sees. `access_key` is None for the user of this computer.

    `by` is the author of the user's changes: the start of the access key, or the user of the operating system.
    """

    id: str
    by: str
    ledger: ServedLedger
    access_key: AccessKeyView | None = None
    customer: str | None = None
    """The only customer that the user sees, if the user has an embed token."""

    def allows(self, scope: Scope) -> bool:
        """Return whether the user may do what requires a scope."""
        return self.access_key is None or self.access_key.allows(scope)

    def author(self, request_id: str) -> Author:
        """Return the author of everything that a request of the user causes."""
        return Author(self.by, COMMAND_LINE if self.access_key is None else request_id)


class Users(Protocol):
    """Finds the user of a request."""

    @property
    def have_login(self) -> bool:
        """Whether users log in and out."""
        ...

    def find(self, ledgers: LedgerRegistry, cookies: Mapping[str, str]) -> ConsoleUser | None:
        """Return the user of a request with these cookies; None if no user is logged in."""
        ...


class LocalUser:
    """The user who started a console on loopback, for one ledger, and who may do everything."""

    have_login = False

    def __init__(self, access: LocalAccess) -> None:
        self._name = system_user()
        self._access = access

    def find(self, ledgers: LedgerRegistry, cookies: Mapping[str, str]) -> ConsoleUser | None:
        """Return the user of this computer, if the browser is that user's; otherwise None."""
        if not self._access.admits(cookies):
            return None
        return ConsoleUser("local", self._name, ledgers.for_mode(livemode=True))

    def routes(self) -> list[Route]:
        """Return the routes by which a browser becomes the user's."""
        return [self._access.route()]


class SessionUsers:
    """The owners of access keys, who have logged in."""

    have_login = True

    def find(self, ledgers: LedgerRegistry, cookies: Mapping[str, str]) -> ConsoleUser | None:
        """Return the owner of the session; None if there is no session, or it has ended."""
        token = cookies.get(COOKIE)
        access_key = sessions_of(ledgers).authenticate(token) if token else None
        if access_key is None:
            return None
        ledger = ledgers.for_mode(livemode=access_key.livemode)
        return ConsoleUser(access_key.id, access_key.hint, ledger, access_key)


def embedded_user(ledgers: LedgerRegistry, token: str) -> ConsoleUser | None:
    """Return who sees the page of one customer with an embed token; None if the token isn't valid."""
    found = find_embedded(ledgers, token)
    if found is None:
        return None
    ledger, access_key, customer = found
    limited_as = f"embed/{access_key.id}"  # its calls don't count for the limits of the host application
    return ConsoleUser(limited_as, access_key.hint, ledger, access_key, customer)


def sessions_of(ledgers: LedgerRegistry) -> Sessions:
    """Return the sessions of a server, which the live ledger stores for both modes."""
    live = ledgers.for_mode(livemode=True)
    return Sessions(live.key_values, ledgers.authenticator, live.now)
