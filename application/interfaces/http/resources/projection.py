"""The projection: position and generations of the read models."""

from typing import Literal

import msgspec

from .....domain.access_key import Scope
from .....domain.errors import GenerationNotFound
from .....projections.models import GenerationState
from ....results import GenerationView
from ..api_types import Parameters, optional_unix
from ..errors import missing_object
from ..ledgers import RequestContext
from ..object_ids import METER_PREFIX, encode_id
from ..operations import OperationRegistry
from ..rules_objects import RulesObject

URL = "/v1/billing/projection"
operations = OperationRegistry("Projection")
_MAX_NUMBER_LENGTH = 18


class ProjectionGeneration(msgspec.Struct, kw_only=True):
    """A complete build of the read models, up to `position` of the ledger.

    `rules` are its newest rules by meter, if they differ from the current rules, and `effective_from` the time of usage
    from which on they apply, null for all usage.
    """

    object: Literal["billing.projection_generation"] = "billing.projection_generation"
    effective_from: dict[str, int | None]
    number: int
    position: int
    rules: dict[str, RulesObject]
    state: Literal["building", "ready", "live", "retired"]


class Projection(msgspec.Struct, kw_only=True):
    """The position of the live read models and the `head` of the ledger. A query updates them before it reads."""

    object: Literal["billing.projection"] = "billing.projection"
    generations: list[ProjectionGeneration]
    head: int
    lag: int
    livemode: bool
    position: int


class DeletedGeneration(msgspec.Struct, kw_only=True):
    """A deleted generation."""

    object: Literal["billing.projection_generation"] = "billing.projection_generation"
    deleted: Literal[True] = True
    number: int


@operations.get(URL)
def retrieve_projection(context: RequestContext[Parameters]) -> Projection:
    """Retrieve the state of the read models, without updating them."""
    generations = context.ledger.metering.generations.list()
    live = next(generation for generation in generations if generation.state is GenerationState.LIVE)
    return Projection(
        generations=[_to_response(generation) for generation in generations],
        head=live.head,
        lag=max(live.head - live.position, 0),
        livemode=context.ledger.livemode,
        position=live.position,
    )


@operations.delete(URL + "/generations/{generation}", Scope.RULES)
def delete_generation(context: RequestContext[Parameters]) -> DeletedGeneration:
    """Delete a generation that is not live, such as the one of a rules preview."""
    number = context.path_parameters["generation"]
    if not (number.isascii() and number.isdecimal() and 0 < len(number) <= _MAX_NUMBER_LENGTH and int(number)):
        raise missing_object("generation", number, "generation")
    try:
        context.ledger.metering.generations.drop(int(number))
    except GenerationNotFound:
        if not context.is_retry:
            raise missing_object("generation", number, "generation") from None
    return DeletedGeneration(number=int(number))


def _to_response(generation: GenerationView) -> ProjectionGeneration:
    return ProjectionGeneration(
        effective_from={
            encode_id(METER_PREFIX, name): optional_unix(start) for name, start in generation.effective_from.items()
        },
        number=generation.number,
        position=generation.position,
        rules={
            encode_id(METER_PREFIX, name): RulesObject.from_rules(rules) for name, rules in generation.rules.items()
        },
        state=generation.state.value,
    )
