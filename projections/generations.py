"""Generations: complete builds of the read models, each under the rules that it pins."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from ..domain.rules import Rules


class GenerationState(StrEnum):
    """What a generation is good for."""

    BUILDING = "building"
    READY = "ready"
    LIVE = "live"
    RETIRED = "retired"


class Generation(NamedTuple):
    """One complete build of the read models, folded up to `position`.

    `pinned` are the rules that meters were folded under where these are not those that they were configured with.
    `revisions` are those of the rules in force when it was built, or when it retired: what it would change is known
    beside these alone.
    """

    number: int
    state: GenerationState
    pinned: Mapping[str, Rules]
    revisions: Mapping[str, int]
    position: int
