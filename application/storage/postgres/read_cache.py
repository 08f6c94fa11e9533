"""What sessions of the live generation have read before, as long as it is valid."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import NamedTuple

from ....projections.models import LedgerEvent, ProjectedMeter

MAX_CUSTOMERS = 10_000
MAX_NAME_LENGTH = 200

Meters = Mapping[str, ProjectedMeter]


class LiveState(NamedTuple):
    """The state of the live generation and of the ledger, in one consistent state of the database.

    `tracking_table` identifies the table that numbers the generations; None if nothing is projected yet. So with the
    generation it identifies the rows, whose customers keep their ids, and with the position what these rows are.
    `events` are the ledger's event at the position and the next ones, if the session may project them.
    `losses` is set by the cache: how often the rows were found at an earlier position than before.
    """

    generation: int
    position: int
    ledger_head: int
    ledger_fingerprint: str | None
    latest_recorded_at: int
    pinned: str
    last_customer_id: int
    tracking_table: int | None
    page_id: str | None
    events: Sequence[LedgerEvent] = ()
    losses: int = 0

    @property
    def rows_id(self) -> tuple[int | None, int, int]:
        """What identifies the rows of the generation."""
        return self.tracking_table, self.generation, self.losses


class ReadCache:
    """The meters at the latest position, and the ids of customers. Threads share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._meters: tuple[object, Meters] | None = None
        self._rows_id: tuple[int | None, int, int] | None = None
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._losses = 0
        self._latest: LiveState | None = None

    def with_losses(self, state: LiveState) -> LiveState:
        """Return the state that a new session has read, with the number of losses so far.

        A server that crashes loses its latest commits, also those of rows that were read. What was read before isn't
        used for the rows after a loss: the id of a customer may belong to no customer, or to another one.
        """
        with self._lock:
            latest, self._latest = self._latest, state
            if latest is not None and latest.rows_id == state.rows_id and state.position < latest.position:
                self._losses += 1
            return state._replace(losses=self._losses) if self._losses else state

    def meters(self, state: LiveState, read: Callable[[], Meters]) -> Meters:
        """Return the meters of a state, which are read unless they are known."""
        if state.tracking_table is None:
            return read()
        cached = self._meters
        if cached is None or cached[0] != (state.rows_id, state.position):
            cached = self._meters = (state.rows_id, state.position), read()
        return cached[1]

    def keep_meters(self, state: LiveState, position: int) -> None:
        """Keep the meters of a state for a later position, because the events in between are not of meters."""
        cached = self._meters
        if cached is not None and cached[0] == (state.rows_id, state.position):
            self._meters = (state.rows_id, position), cached[1]

    def customer_ids(self, state: LiveState, names: Iterable[str]) -> Mapping[str, int]:
        """Return the ids of those of these customers that are known."""
        with self._lock:
            if self._rows_id != state.rows_id:
                return {}
            return {name: self._ids[name] for name in names if name in self._ids}

    def customer_names(self, state: LiveState, customer_ids: Iterable[int]) -> Mapping[int, str]:
        """Return the names of those of these customers that are known."""
        with self._lock:
            if self._rows_id != state.rows_id:
                return {}
            return {customer_id: self._names[customer_id] for customer_id in customer_ids if customer_id in self._names}

    def add_customers(self, state: LiveState, names: Mapping[int, str]) -> None:
        """Add names of customers by their ids, but for long names. If there are too many, forget all others."""
        short = {customer_id: name for customer_id, name in names.items() if len(name) <= MAX_NAME_LENGTH}
        if state.tracking_table is None or len(short) > MAX_CUSTOMERS:
            return
        with self._lock:
            if self._rows_id != state.rows_id or len(self._ids) + len(short) > MAX_CUSTOMERS:
                self._rows_id, self._ids, self._names = state.rows_id, {}, {}
            self._names |= short
            self._ids |= {name: customer_id for customer_id, name in short.items()}
