"""The two desks of a server: the live ledger's, and that of a ledger for tests, which is another one beside it."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import cast
from urllib.parse import quote

from pydantic import ValidationError

from ...domain.access_key import Scope
from ...domain.errors import InvalidLedgerUrl
from ...domain.policy import AcceptancePolicy
from ..ledger_url import locate
from ..metering import Metering
from ..stores.postgres_settings import PostgresSettings
from ..stores.sqlite_store import SQLiteStore
from ..stores.store import Store
from .credentials import Gate
from .desk import Desk

_TEST_PREFIXES = ("sk_test_", "rk_test_", "mes_test_")


def is_for_tests(credentials: str) -> bool:
    """Whether a key or a token says of itself that it is for tests."""
    return credentials.startswith(_TEST_PREFIXES)


def ledger_for_tests(live: Store) -> str | PostgresSettings:
    """Where the ledger for tests is: the file or the schema beside the live ledger's, with `test` in its name.

    Raises InvalidLedgerUrl where the name would be too long.
    """
    if isinstance(live, SQLiteStore):
        file = Path(live.events_database)
        return f"sqlite:///{quote(str(file.with_suffix(f'.test{file.suffix}')))}" if live.is_lasting else "sqlite://"
    settings = cast(PostgresSettings, live.settings)  # pyright: ignore - the only other store there is
    name = f"{settings.schema_name}_test"
    try:
        return PostgresSettings.model_validate({**dict(settings), "schema_name": name})
    except ValidationError as error:
        raise InvalidLedgerUrl(
            f"The ledger for tests would be in the schema {name!r}, whose name is too long: give a shorter schema.",
            field="url",
        ) from error


class Desks:
    """The desks of one server. The ledger for tests is opened, or begun, when it is first asked for."""

    def __init__(self, url: str | PostgresSettings, policy: AcceptancePolicy, clock: Callable[[], datetime]) -> None:
        self._tests = ledger_for_tests(locate(url))
        self._policy = policy
        self._clock = clock
        self._lock = threading.Lock()
        self._opened = ExitStack()
        live = self._open(url)
        self.gate = Gate(live)
        """Keys of both modes are in the live ledger."""
        self._desks = {True: Desk(live, self.gate, livemode=True)}

    def of(self, *, livemode: bool) -> Desk:
        """The desk of a mode. Who asks for the live one doesn't wait for the other to be opened."""
        if livemode in self._desks:
            return self._desks[livemode]
        with self._lock:
            if livemode not in self._desks:
                self._desks[livemode] = Desk(self._open(self._tests), self.gate, livemode=livemode)
            return self._desks[livemode]

    def asked(self, credentials: str) -> Desk:
        """The desk that a key or a token is for. Nobody begins a ledger who has no key. Raises Refusal."""
        livemode = not is_for_tests(credentials)
        if livemode not in self._desks and not locate(self._tests).exists():
            self.gate.enter(credentials, Scope.RECORD)
        return self.of(livemode=livemode)

    def is_open(self, *, livemode: bool) -> bool:
        """Whether the desk of a mode was asked for already."""
        return livemode in self._desks

    def is_there(self, *, livemode: bool) -> bool:
        """Whether the desk of a mode has a ledger already, opened or not."""
        return self.is_open(livemode=livemode) or locate(self._tests).exists()

    def close(self) -> None:
        """Let the ledgers go."""
        self._opened.close()

    def _open(self, url: str | PostgresSettings) -> Metering:
        return self._opened.enter_context(Metering.open(url, policy=self._policy, clock=self._clock))
