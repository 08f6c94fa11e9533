"""The base class of all aggregates: text ids, and events that are frozen pydantic models."""

from datetime import datetime

from eventsourcing.domain import BaseAggregate, CanInitAggregate, CanMutateAggregate
from pydantic import BaseModel, ConfigDict, Field


class Aggregate(BaseAggregate[str]):
    """An event-sourced aggregate. Times and ids are arguments, because the domain reads no clock."""

    class Event(BaseModel, CanMutateAggregate[str]):
        """An event of one aggregate. Its class name and its fields are the storage format."""

        model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

        originator_id: str = Field(exclude=True)
        originator_version: int = Field(exclude=True)
        timestamp: datetime = Field(alias="recorded_at")

    class Created(Event, CanInitAggregate[str]):
        """The first event of an aggregate."""

        originator_topic: str = Field(exclude=True)
