"""Usage counted the plain way: loops over all that was ever said, and nothing of the package's own counting."""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction


@dataclass(frozen=True)
class Said:
    """One line of a history, at its position: a use, or the cancel of one."""

    position: int
    recorded_at: datetime
    identifier: str
    meter: str = ""
    customer: str = ""
    occurred_at: datetime = datetime.min
    value: str | None = None
    dimensions: tuple[str, ...] = ()
    cancels: bool = False


Figures = tuple[Fraction, int, Fraction | None]


def effective(history: list[Said], meter: str, window: str | None) -> list[Said]:
    """The uses of `meter` that count, by (occurred_at, position)."""
    cancelled = {said.identifier for said in history if said.cancels}
    uses = [said for said in history if said.meter == meter and said.identifier not in cancelled]
    if window is not None:
        pattern = "%Y-%m-%d %H" if window == "hour" else "%Y-%m-%d"
        newest: dict[object, Said] = {}
        for said in uses:  # in order of arrival: a later one takes the place of an earlier
            newest[said.customer, said.dimensions, said.occurred_at.strftime(pattern)] = said
        uses = list(newest.values())
    return sorted(uses, key=lambda said: (said.occurred_at, said.position))


def figures(uses: list[Said], customer: str | None, start: datetime, end: datetime) -> Figures:
    """Sum, count and last of `customer`, or of all, in [start, end)."""
    within = [said for said in uses if customer in (None, said.customer) and start <= said.occurred_at < end]
    values = [None if said.value is None else Fraction(said.value) for said in within]
    total = sum((value for value in values if value is not None), Fraction(0))
    return total, len(within), values[-1] if values else None
