"""A difference between generations as it is shown: the largest first, and no more than asked for."""

from dataclasses import dataclass

from ..comparing import Difference, GenerationDifference, MeterDifference


@dataclass(frozen=True)
class Differing:
    """How a generation differs from the live one; `left_out` is how many smaller differences are not shown."""

    generation: int
    position: int
    window: str
    timezone: str
    meters: tuple[MeterDifference, ...]
    differences: tuple[Difference, ...]
    left_out: int

    @classmethod
    def of(cls, found: GenerationDifference, window: str, timezone: str, limit: int) -> "Differing":
        """The difference that was found, of which `limit` figures are shown."""
        shown = found.largest[:limit]
        left_out = len(found.differences) - len(shown)
        return cls(found.generation, found.position, window, timezone, found.meters, shown, left_out)
