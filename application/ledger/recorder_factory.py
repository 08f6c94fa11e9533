"""The factory through which the eventsourcing library gets a recorder that is open already."""

from typing import Any, cast

from eventsourcing.persistence import AggregateRecorder, ApplicationRecorder, InfrastructureFactory, ProcessRecorder
from eventsourcing.utils import Environment

from ..storage.ports import EventRecorder


class RecorderFactory(InfrastructureFactory[Any]):
    """Returns the open recorder of a ledger; there are no snapshots and no tracking recorders."""

    def __init__(self, env: Environment, recorder: EventRecorder) -> None:
        super().__init__(env)
        self._recorder = recorder

    def application_recorder(self) -> ApplicationRecorder:
        """Return the recorder of the ledger."""
        return cast(ApplicationRecorder, self._recorder)

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """Raise NotImplementedError: there are no snapshots."""
        raise NotImplementedError(purpose)

    def tracking_recorder(self, tracking_recorder_class: type[Any] | None = None) -> Any:
        """Raise NotImplementedError: the read models track their own position."""
        raise NotImplementedError(tracking_recorder_class)

    def process_recorder(self) -> ProcessRecorder:
        """Raise NotImplementedError: the read models track their own position."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the recorder."""
        self._recorder.close()
