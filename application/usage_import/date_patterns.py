"""Dates that are not ISO, in a named form such as `DD.MM.YYYY`, because the order of day and month is unclear."""

import re
from datetime import date, datetime

from ...domain.errors import InvalidParameter
from ...domain.timestamps import EPOCH

_TOKENS = {
    "YYYY": "%Y", "YY": "%y", "MMM": "%b", "MM": "%m", "DD": "%d", "HH": "%H", "hh": "%I", "mm": "%M", "ss": "%S",
    "SSS": "%f", "A": "%p", "Z": "%z", "M": "%m", "D": "%d", "H": "%H", "h": "%I",
}  # fmt: skip
"""The parts of a form, and those of `strptime`, which accepts numbers without leading zeros too."""
_TOKEN = re.compile("|".join(sorted(_TOKENS, key=len, reverse=True)))
_CLOCK_DIRECTIVES = ("%H", "%I", "%M", "%S", "%p", "%z", "%X", "%c", "%f")
_DAY_AND_MONTH = re.compile(r"([0-9]{1,2})([./-])([0-9]{1,2})\2([0-9]{4}|[0-9]{2})(.*)")
_YEAR_FIRST = re.compile(r"([0-9]{4})([./])([0-9]{1,2})\2([0-9]{1,2})(.*)")
_CLOCK = re.compile(r"([T ])([0-9]{1,2}):[0-9]{2}(:[0-9]{2})?(\.[0-9]{1,6})?( ?[AaPp][Mm])?")
_MAX_MONTH, _MAX_DAY = 12, 31


class DatePattern:
    """The form of dates or times: parts such as DD, MM, YYYY, HH, mm and ss, or the directives of `strptime`."""

    def __init__(self, text: str) -> None:
        """Raise InvalidParameter if the form has no year, month and day."""
        pattern = text if "%" in text else _TOKEN.sub(lambda match: _TOKENS[match[0]], text)
        is_complete = any(part in pattern for part in ("%Y", "%y")) and "%d" in pattern
        if not is_complete or not any(part in pattern for part in ("%m", "%b", "%B")):
            raise InvalidParameter(
                "'date_format' must have a year, a month and a day, such as DD.MM.YYYY, MM/DD/YYYY or "
                f"'DD/MM/YYYY HH:mm:ss', not {text!r}.",
                field="date_format",
                value=text,
            )
        try:
            datetime.strptime(EPOCH.strftime(pattern), pattern)
        except (ValueError, re.error) as error:
            problem = "it has a part twice" if isinstance(error, re.error) else str(error)
            raise InvalidParameter(
                f"'date_format' {text!r} is not the form of a date: {problem}.", field="date_format", value=text
            ) from None
        self._pattern = pattern
        self._has_clock = any(part in pattern for part in _CLOCK_DIRECTIVES)

    def parse(self, text: str) -> datetime | date:
        """Return a date, or a time that is local unless the form has an offset. Raises ValueError."""
        at = datetime.strptime(text, self._pattern)
        return at if self._has_clock else at.date()


def likely_patterns(text: str) -> list[str]:
    """Return the forms that a date may be in; [] if it is no date."""
    if match := _YEAR_FIRST.fullmatch(text):
        year_first = f"YYYY{match[2]}MM{match[2]}DD"
        return [year_first + clock] if (clock := _clock_pattern(match[5])) is not None else []
    match = _DAY_AND_MONTH.fullmatch(text)
    if match is None or (clock := _clock_pattern(match[5])) is None:
        return []
    first, mark, second, year = int(match[1]), match[2], int(match[3]), "Y" * len(match[4])
    orders = [("DD", "MM", first, second), ("MM", "DD", second, first)]
    return [
        f"{start}{mark}{middle}{mark}{year}{clock}"
        for start, middle, day, month in orders
        if 1 <= month <= _MAX_MONTH and 1 <= day <= _MAX_DAY
    ]


def _clock_pattern(text: str) -> str | None:
    """Return the form of the time of day after a date; "" if there is none, None if it has another form."""
    if not text:
        return ""
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    hour = "hh" if match[5] else "HH"
    half_day = f"{' ' if match[5].startswith(' ') else ''}A" if match[5] else ""
    return f"{match[1]}{hour}:mm{':ss' if match[3] else ''}{'.SSS' if match[4] else ''}{half_day}"
