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
    """

    number: int
    state: GenerationState
    pinned: Mapping[str, Rules]
    position: int
