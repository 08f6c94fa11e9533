"""A desk: one ledger as it is served, the live one or the one for tests; and a call, which is what comes to it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic

from ...domain.access_key import Scope
from ...domain.errors import InvalidParameter, NoMeter
from ..access import AccessKeyView
from ..metering import Metering
from ..results import MeterView
from .credentials import Gate
from .idempotency import KeptAnswers
from .ids import METER, name_of
from .parameters import Asked
from .refusals import missing_object
from .sessions import Sessions


class Desk:
    """One ledger as it is served."""

    def __init__(self, metering: Metering, gate: Gate, *, livemode: bool) -> None:
        self.metering = metering
        self.gate = gate
        self.livemode = livemode
        self.keeper = metering.keeper()
        self.answers = KeptAnswers(self.keeper)
        self.sessions = Sessions(self.keeper, gate, metering.clock, livemode=livemode)

    def enter(self, credentials: str, *, by_session: bool) -> AccessKeyView:
        """The key of who may record at this moment. Raises Refusal."""
        return self.sessions.enter(credentials) if by_session else self.gate.enter(credentials, Scope.RECORD)

    def now(self) -> datetime:
        """The time, by the ledger's clock."""
        return self.metering.clock()

    def meter(self, meter_id: str, as_of: datetime | int | None = None) -> MeterView:
        """The meter with an id. Raises Refusal."""
        event_name = name_of(METER, meter_id)
        try:
            if event_name is not None:
                return self.metering.meter(event_name, as_of=as_of)
        except (NoMeter, InvalidParameter):  # also where the id says a name that none can have
            pass
        raise missing_object("meter", meter_id)


@dataclass(slots=True)
class Call(Generic[Asked]):
    """One request: what it asks, of which desk, on whose word."""

    desk: Desk
    asked: Asked
    key: AccessKeyView
    request_id: str
    path: dict[str, str] = field(default_factory=dict[str, str])
    idempotency_key: str | None = None
    was_begun: bool = False
    """Whether the same request was begun before, and cut off: what it asks may be done already."""
