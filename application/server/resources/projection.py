"""The projection: how far the read models are, and which there are."""

from typing import Literal

import msgspec

from ....domain.errors import NoGeneration
from ....projections.generations import GenerationState
from ...results import GenerationView
from ..desk import Call
from ..ids import METER, id_of
from ..refusals import missing_object
from ..routes import Routes
from ..wire import Parameters
from .counting_rules import CountingRules

URL = "/v1/billing/projection"
routes = Routes("Projection")
_LONGEST_NUMBER = 18


class ProjectionGeneration(msgspec.Struct, kw_only=True):
    """One complete build of the read models, folded up to `position` of the ledger.

    `rules` are those that it was built under, by meter, where these aren't the rules in force.
    """

    object: Literal["billing.projection_generation"] = "billing.projection_generation"
    number: int
    position: int
    rules: dict[str, CountingRules]
    state: Literal["building", "ready", "live", "retired"]


class Projection(msgspec.Struct, kw_only=True):
    """How far the live read models are behind the `head` of the ledger. A question brings them up to it first."""

    object: Literal["billing.projection"] = "billing.projection"
    generations: list[ProjectionGeneration]
    head: int
    lag: int
    livemode: bool
    position: int


class DeletedGeneration(msgspec.Struct, kw_only=True):
    """A generation that is no more."""

    object: Literal["billing.projection_generation"] = "billing.projection_generation"
    deleted: Literal[True] = True
    number: int


@routes.get(URL)
def retrieve_projection(call: Call[Parameters]) -> Projection:
    """Retrieve how far the read models are, without bringing them up to date."""
    generations = call.desk.metering.generations()
    live = next(one for one in generations if one.state is GenerationState.LIVE)
    return Projection(
        generations=[_shown(one) for one in generations],
        head=live.head,
        lag=max(live.head - live.position, 0),
        livemode=call.desk.livemode,
        position=live.position,
    )


@routes.delete(URL + "/generations/{generation}")
def delete_generation(call: Call[Parameters]) -> DeletedGeneration:
    """Delete a generation that isn't live, such as one that a preview of rules has built."""
    given = call.path["generation"]
    if not (given.isascii() and given.isdecimal() and 0 < len(given) <= _LONGEST_NUMBER and int(given)):
        raise missing_object("generation", given, "generation")
    try:
        call.desk.metering.drop_generation(int(given))
    except NoGeneration:
        if not call.was_begun:
            raise missing_object("generation", given, "generation") from None
    return DeletedGeneration(number=int(given))


def _shown(generation: GenerationView) -> ProjectionGeneration:
    return ProjectionGeneration(
        number=generation.number,
        position=generation.position,
        rules={id_of(METER, name): CountingRules.of(rules) for name, rules in generation.rules.items()},
        state=generation.state.value,
    )
