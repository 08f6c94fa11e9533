"""Errors of generations of the read models, and of changes of rules."""

from typing import NamedTuple

from .base import Conflict, InvalidRequest, NotFound


class GenerationNotFound(NotFound):
    """No generation of the read models has this number."""

    code = "generation_not_found"


class GenerationInUse(Conflict):
    """The generation is live or still building: it cannot be dropped or promoted."""

    code = "generation_in_use"


class RebuildInProgress(Conflict):
    """Another process is rebuilding, comparing or promoting read models."""

    code = "rebuild_in_progress"


class PreviewChanged(Conflict):
    """What would change is no longer what was approved: the differences of a generation, or the events to cancel."""

    code = "preview_changed"


class RulesConflict(Conflict):
    """The rules of a meter were changed after the generation was built."""

    code = "rules_conflict"


class IncompatibleRules(InvalidRequest):
    """Recorded meter events have payloads that the new rules reject."""

    code = "incompatible_rules"

    def __init__(self, message: str, events: "tuple[IncompatibleEvent, ...]", count: int) -> None:
        super().__init__(message, field="rules", value=events)
        self.events = events
        self.count = count


class IncompatibleEvent(NamedTuple):
    """A recorded meter event that new rules reject, with the code and message of the error."""

    position: int
    identifier: str
    event_name: str
    code: str
    message: str
