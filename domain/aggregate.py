"""The base class of all aggregates: text ids, and events that are frozen pydantic models."""

import operator
from datetime import datetime
from typing import Any, Self

from eventsourcing.domain import BaseAggregate, CanInitAggregate, CanMutateAggregate
from pydantic import BaseModel, ConfigDict, Field

from .authorship import AcceptedUnder, authorship


class Aggregate(BaseAggregate[str]):
    """An event-sourced aggregate. Times and ids are arguments, because the domain reads no clock."""

    class Event(BaseModel, CanMutateAggregate[str]):
        """An event of one aggregate. Its class name and its fields are the storage format.

        Each event also has a field `by`. Events that were stored before these fields existed lack them.
        """

        model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

        originator_id: str = Field(exclude=True)
        originator_version: int = Field(exclude=True)
        timestamp: datetime = Field(alias="recorded_at")
        via: str | None = Field(default=None, exclude_if=operator.not_)
        on_behalf_of: str | None = Field(default=None, exclude_if=operator.not_)
        approved_by: str | None = Field(default=None, exclude_if=operator.not_)
        proposal_id: str | None = Field(default=None, exclude_if=operator.not_)
        accepted_under: AcceptedUnder | None = Field(default=None, exclude_if=operator.not_)

    class Created(Event, CanInitAggregate[str]):
        """The first event of an aggregate."""

        originator_topic: str = Field(exclude=True)

    def trigger_event(self, event_class: type[CanMutateAggregate[str]], **kwargs: Any) -> None:
        """Create an event with its author, and apply it. The argument `by` is the name that the call states."""
        super().trigger_event(event_class, **kwargs | authorship(kwargs.get("by")))

    @classmethod
    def _create(cls, event_class: type[CanInitAggregate[str]], *, id: str | None = None, **kwargs: Any) -> Self:  # noqa: A002
        fields = kwargs | authorship(kwargs.get("by")) if _has_author(event_class) else kwargs
        return super()._create(event_class, id=id, **fields)


def _has_author(event_class: type[CanInitAggregate[str]]) -> bool:
    """Return whether an event has a field for its author. The data of recorded usage has it instead."""
    return issubclass(event_class, BaseModel) and "by" in event_class.model_fields
