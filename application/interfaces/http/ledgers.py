"""The ledgers of a server, live and test, and the context of a request to one of them."""

import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Generic, NamedTuple, cast
from urllib.parse import quote

from pydantic import ValidationError

from ....domain.acceptance_policy import AcceptancePolicy
from ....domain.access_key import Scope
from ....domain.authorship import Author
from ....domain.errors import InvalidLedgerUrl, InvalidParameter, MeterNotFound, RebuildInProgress
from ....domain.timestamps import ensure_utc
from ...access_keys.views import AccessKeyView
from ...meter_views import MeterView
from ...metering import Metering
from ...storage.ports import Store
from ...storage.postgres.settings import PostgresSettings
from ...storage.sqlite.store import SQLiteStore
from ...storage.url import resolve_store
from ..job_settings import CheckpointSettings
from .authentication import Authenticator, StreamSessions, parse_credentials
from .errors import ApiError, missing_object
from .idempotency import IdempotencyStore
from .object_ids import METER_PREFIX, decode_id
from .parameters import Params
from .rejected_events import RejectedEventLog


class ServedLedger:
    """One ledger with its idempotency store and its stream sessions."""

    def __init__(
        self,
        metering: Metering,
        authenticator: Authenticator,
        *,
        livemode: bool,
        checkpoint_settings: CheckpointSettings | None = None,
    ) -> None:
        self.metering = metering
        self.usage = metering.imports.usage
        has_signing_key = checkpoint_settings is not None and checkpoint_settings.key is not None
        self.checkpoint_settings = checkpoint_settings if has_signing_key else None
        """The settings of checkpoints, if there is a signing key."""
        self.authenticator = authenticator
        self.livemode = livemode
        self.key_values = metering.key_value_store()
        self.idempotency = IdempotencyStore(self.key_values)
        self.rejected_events = RejectedEventLog(self.key_values)
        self.sessions = StreamSessions(self.key_values, authenticator, metering.clock, livemode=livemode)

    def authenticate_recorder(self, credentials: str, *, by_session: bool) -> AccessKeyView:
        """Return the access key of a caller that may record now. Raises ApiError."""
        return (
            self.sessions.authenticate(credentials)
            if by_session
            else self.authenticator.authenticate(credentials, Scope.RECORD)
        )

    def now(self) -> datetime:
        """Return the current time by the ledger's clock."""
        return ensure_utc(self.metering.clock(), "clock")

    def meter(self, meter_id: str, as_of: datetime | int | None = None) -> MeterView:
        """Return the meter with an id. Raises ApiError."""
        event_name = decode_id(METER_PREFIX, meter_id)
        try:
            if event_name is not None:
                return self.metering.meters.get(event_name, as_of=as_of)
        except (MeterNotFound, InvalidParameter):  # the id may contain an invalid name
            pass
        raise missing_object("meter", meter_id)


@dataclass(slots=True)
class RequestContext(Generic[Params]):
    """One authenticated request: its ledger, parameters and access key."""

    ledger: ServedLedger
    params: Params
    access_key: AccessKeyView
    request_id: str
    path_parameters: dict[str, str] = field(default_factory=dict[str, str])
    idempotency_key: str | None = None
    interrupted_request_id: str | None = None
    """The id of the earlier request with the idempotency key that was interrupted or failed."""

    @property
    def author(self) -> Author:
        """The author of everything that the request causes: its access key, by this request."""
        return Author(self.access_key.hint, self.request_id)

    @property
    def is_retry(self) -> bool:
        """Whether an earlier attempt was interrupted: its changes may exist already."""
        return self.interrupted_request_id is not None

    @property
    def retry_identifier(self) -> str | None:
        """The id of the first attempt, which its retries have too; None without an idempotency key."""
        return None if self.idempotency_key is None else self.interrupted_request_id or self.request_id

    def may_read(self, customer: str | None) -> bool:
        """Return whether the access key may read the data of a customer; None is all customers together."""
        return not self.access_key.customers or customer in self.access_key.customers


@contextmanager
def exclusive_job(ledger: ServedLedger) -> Generator[None]:
    """Hold the lock of long jobs on a ledger, across all servers. Raises ApiError if another request holds it."""
    with ledger.key_values.try_lock("exclusive job") as is_locked:
        if not is_locked:
            raise ApiError(
                409, "Another request is reading the whole ledger, to preview or change rules or to verify it. "
                "Retry later.", code=RebuildInProgress.code, headers={"Retry-After": "5"},
            )  # fmt: skip
        yield


_TEST_PREFIXES = ("sk_test_", "rk_test_", "mes_test_")


def is_test_credential(credentials: str) -> bool:
    """Return whether a key or a session token is for test mode."""
    return credentials.startswith(_TEST_PREFIXES)


def ledger_for_test_mode(live_store: Store) -> str | PostgresSettings:
    """Return the location of the test ledger: a file or schema next to the live one, with `test` in its name.

    Raises InvalidLedgerUrl if the name would be too long.
    """
    if isinstance(live_store, SQLiteStore):
        file = Path(live_store.events_database)
        return (
            f"sqlite:///{quote(str(file.with_suffix(f'.test{file.suffix}')))}"
            if live_store.is_persistent
            else "sqlite://"
        )
    settings = cast(PostgresSettings, live_store.settings)  # pyright: ignore - every other store is a PostgreSQL store
    name = f"{settings.schema_name}_test"
    try:
        return PostgresSettings.model_validate({**dict(settings), "schema_name": name})
    except ValidationError as error:
        raise InvalidLedgerUrl(
            f"The test ledger would be in the schema {name!r}, and this name is too long: use a shorter schema name.",
            field="url",
        ) from error


class Principal(NamedTuple):
    """The authenticated caller of a request: an access key, and the ledger that it gives access to."""

    ledger: ServedLedger
    access_key: AccessKeyView


class LedgerRegistry:
    """The live and the test ledger of a server. The test ledger is opened or created when it is first needed."""

    def __init__(
        self,
        url: str | PostgresSettings,
        policy: AcceptancePolicy,
        clock: Callable[[], datetime],
        checkpoint_settings: CheckpointSettings | None = None,
        access_log_customers: str | None = None,
    ) -> None:
        self._test_ledger = ledger_for_test_mode(resolve_store(url))
        self._policy = policy
        self._clock = clock
        self._access_log_customers = access_log_customers
        self._lock = threading.Lock()
        self._exit_stack = ExitStack()
        live = self._open(url)
        self.authenticator = Authenticator(live)
        """The live ledger stores the access keys of both modes."""
        served = ServedLedger(live, self.authenticator, livemode=True, checkpoint_settings=checkpoint_settings)
        self._ledgers = {True: served}

    def for_mode(self, *, livemode: bool) -> ServedLedger:
        """Return the ledger of a mode. A request to the live ledger never waits until the test ledger is opened."""
        if livemode in self._ledgers:
            return self._ledgers[livemode]
        with self._lock:
            if livemode not in self._ledgers:
                self._ledgers[livemode] = ServedLedger(
                    self._open(self._test_ledger), self.authenticator, livemode=livemode
                )
            return self._ledgers[livemode]

    def authenticate(self, authorization: str, scope: Scope, *, admits_limited: bool = False) -> Principal:
        """Return the ledger and the access key of an Authorization header.

        Raises ApiError: 401 if no valid key is sent, 403 if the key does not have the scope, or if it is limited to
        customers, unless `admits_limited`.
        """
        credentials = parse_credentials(authorization)
        access_key = self.authenticator.authenticate(credentials, scope, admits_limited=admits_limited)
        return Principal(self.for_mode(livemode=access_key.livemode), access_key)

    def for_credentials(self, credentials: str) -> ServedLedger:
        """Return the ledger that a key or a session token belongs to, before the key is checked.

        The test ledger is created only for a valid key. Raises ApiError.
        """
        livemode = not is_test_credential(credentials)
        if livemode not in self._ledgers and not resolve_store(self._test_ledger).exists():
            self.authenticator.authenticate(credentials, Scope.RECORD)
        return self.for_mode(livemode=livemode)

    def is_open(self, *, livemode: bool) -> bool:
        """Return whether the ledger of a mode is open."""
        return livemode in self._ledgers

    def exists(self, *, livemode: bool) -> bool:
        """Return whether the ledger of a mode exists, open or not."""
        return self.is_open(livemode=livemode) or resolve_store(self._test_ledger).exists()

    def close(self) -> None:
        """Close the ledgers."""
        self._exit_stack.close()

    def _open(self, url: str | PostgresSettings) -> Metering:
        return self._exit_stack.enter_context(
            Metering.open(url, policy=self._policy, clock=self._clock, access_log_customers=self._access_log_customers)
        )
