"""Read sessions that contain every event recorded before the query, counted under the current rules."""

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum, auto

from ...domain.errors import DatabasePermissionDenied, LedgerUnavailable, ProjectionStopped
from ...projections.models import MAX_FEW_EVENTS
from ...projections.ports import ReadModelReader, ResettableReadModelStore
from ...projections.projector import Progress, ProjectionStart, Projector
from ..interruption import check_interruption
from ..storage.ports import REBUILD_HINT, ReadModelsMissing

PROJECTION_TIMEOUT_SECONDS = 30
"""How long a database user who may not project waits for a process that may."""
_POLL_INTERVAL_SECONDS = 0.02
_MAX_ATTEMPTS = 100


class _State(Enum):
    UNKNOWN = auto()
    CURRENT = auto()
    LIKELY_BEHIND = auto()
    BEHIND = auto()
    OUTDATED_RULES = auto()


class FreshReadModels:
    """Opens read sessions on read models that are up to date."""

    def __init__(
        self,
        projector: Projector,
        read_models: ResettableReadModelStore,
        switch_to_current_rules: Callable[[], None],
        recorded_head: Callable[[], int],
    ) -> None:
        """Initialize. `recorded_head` returns the position of the newest event that this process has recorded."""
        self._projector = projector
        self._read_models = read_models
        self._switch_to_current_rules = switch_to_current_rules
        self._recorded_head = recorded_head
        self._last_position = 0

    @contextmanager
    def session(self, *, accept_outdated_rules: bool = False) -> Generator[ReadModelReader]:
        """Open a consistent read session with every event that was recorded before this call.

        The read models are brought up to date and switched to the current rules if necessary, and the session is
        opened again; they may also be deleted, or another generation promoted, in between. If the database user may not
        do that, this waits for another process. With `accept_outdated_rules`, read models that are still under other
        rules after all attempts are returned. Otherwise LedgerUnavailable is raised.
        """
        head: int | None = None
        waiting_since = time.monotonic()
        state, attempts, position = self._expected_state(), 0, 0
        start: ProjectionStart | None = None
        while attempts < _MAX_ATTEMPTS:
            check_interruption()
            attempts += 1
            with ExitStack() as session:
                try:
                    read_models, seen_head = self._update(state, start, session)
                except DatabasePermissionDenied as error:
                    if time.monotonic() - waiting_since > PROJECTION_TIMEOUT_SECONDS:
                        raise _projection_stale(position, head or 0) from error
                    time.sleep(_POLL_INTERVAL_SECONDS)
                    # Waiting for another process is limited by time: neither this attempt nor the one before it counts.
                    attempts -= 2
                    state = _State.UNKNOWN
                    continue
                read_models = read_models or self._open(session)
                position = self._last_position = 0 if read_models is None else read_models.position()
                if head is None:
                    head = self._head(read_models) if seen_head is None else seen_head
                state = self._state(read_models, position, head)
                is_accepted = accept_outdated_rules and attempts == _MAX_ATTEMPTS and state is _State.OUTDATED_RULES
                start = None
                if read_models is not None and state is _State.BEHIND and position < head:
                    start = ProjectionStart(position, head)
                if read_models is not None and (state is _State.CURRENT or is_accepted):
                    yield read_models
                    return
        raise LedgerUnavailable(
            "The read models were deleted each time they were read; try again."
            if state is _State.BEHIND
            else f"The read models are not under the current rules. {REBUILD_HINT}"
        )

    def catch_up(self, progress: Callable[[Progress], None] | None = None) -> int:
        """Bring the read models up to date and return the position they have reached.

        If the database user may not do that, wait until another process has done it.
        """
        with suppress(DatabasePermissionDenied):
            return self._projector.catch_up(progress)
        return self.reach_head()

    def reach_head(self) -> int:
        """Bring the read models up to date and under the current rules, and return the position they have reached."""
        with self.session() as read_models:
            return read_models.position()

    def _expected_state(self) -> _State:
        """Return LIKELY_BEHIND if this process has recorded a few events since its last query, otherwise UNKNOWN.

        A query then starts with the page of these events, instead of finding out first that they are missing. This
        saves a session: a quota check records an event and reads a total.
        """
        is_behind = 0 < self._last_position < self._recorded_head() <= self._last_position + MAX_FEW_EVENTS
        return _State.LIKELY_BEHIND if is_behind else _State.UNKNOWN

    def _update(
        self, state: _State, start: ProjectionStart | None, session: ExitStack
    ) -> tuple[ReadModelReader | None, int | None]:
        """Update read models that were found in a state.

        Return them if that has opened them until `session` ends, and the head of the ledger if it was read.
        """
        has_few_events = start is not None and start.head - start.position <= MAX_FEW_EVENTS
        if state is _State.LIKELY_BEHIND or (state is _State.BEHIND and has_few_events):
            # If one of the events can't be folded, `catch_up` projects those before it.
            with suppress(ProjectionStopped, ReadModelsMissing), self._projector.fold_of_few_events(start) as fold:
                return session.enter_context(self._read_models.session_after_next_page(fold)), fold.head
        if state is _State.BEHIND:
            self._projector.catch_up(start=start)
        elif state is _State.OUTDATED_RULES:
            self._switch_to_current_rules()
        return None, None

    def _open(self, session: ExitStack) -> ReadModelReader | None:
        """Open the read models until `session` ends; return None if another process has to create them first."""
        try:
            return session.enter_context(self._read_models.read_session())
        except ReadModelsMissing:
            return None

    def _head(self, read_models: ReadModelReader | None) -> int:
        """Return the position of the newest event that was recorded before the session was opened, or of a later one.

        If the session knows it, that is one statement less.
        """
        head = None if read_models is None else read_models.ledger_head()
        return self._projector.head() if head is None else head

    def _state(self, read_models: ReadModelReader | None, position: int, head: int) -> _State:
        if read_models is None:
            return _State.BEHIND
        # Read models beyond the head belong to another ledger, unless the ledger has grown since the head was read.
        if position < head or (position > head and position > self._projector.head()):
            return _State.BEHIND
        has_current_rules = all(meter.is_current for meter in read_models.meters().values())
        return _State.CURRENT if has_current_rules else _State.OUTDATED_RULES


def _projection_stale(position: int, head: int) -> LedgerUnavailable:
    return LedgerUnavailable(
        f"The read models are at position {position}, the ledger is at {head}, and this database user may not update "
        "them. Run 'tallybook projection run' as a user who may."
    )
