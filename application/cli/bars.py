"""Bars for a chart in text."""

import sys
from collections.abc import Sequence
from decimal import Decimal

WIDTH = 32
_EIGHTHS = " ▏▎▍▌▋▊▉"


def bars(values: Sequence[Decimal], width: int = WIDTH) -> list[str]:
    """A bar for each value, the longest of `width` characters; negative values have light bars.

    In plain ASCII where stdout can't print blocks.
    """
    longest = max((abs(value) for value in values), default=Decimal(0))
    draw = _blocks if _takes_blocks() else _ascii
    return [draw(value, int(abs(value) * width * 8 / longest) if longest else 0) for value in values]


def _blocks(value: Decimal, eighths: int) -> str:
    whole, rest = divmod(eighths, 8)
    if value < 0:
        return "░" * max(whole, 1)
    if value and not eighths:
        return "▏"
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def _ascii(value: Decimal, eighths: int) -> str:
    return ("-" if value < 0 else "#") * (max(eighths // 8, 1) if value else 0)


def _takes_blocks() -> bool:
    try:
        "█░▏".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
