"""A promotion, and what it changed."""

from dataclasses import dataclass

from ...projections.generations import GenerationState
from ..metering import Metering
from ..results import GenerationView, MeterView


@dataclass(frozen=True)
class Promotion:
    """The generation that answers now, the meters whose rules it changed, and the generation that it retired."""

    generation: GenerationView
    meters: tuple[MeterView, ...]
    retired: int | None


def promoted(metering: Metering, generation: int, reason: str | None, by: str | None) -> Promotion:
    """Let a generation answer."""
    before = {one.number: one for one in metering.generations()}
    live = next(number for number, one in before.items() if one.state is GenerationState.LIVE)
    view = metering.promote(generation, reason=reason, by=by)
    meters = tuple(metering.meter(event_name) for event_name in before[generation].rules)
    return Promotion(view, meters, None if live == generation else live)
