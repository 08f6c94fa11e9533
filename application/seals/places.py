"""Where files are, as callers give it."""

import os
from pathlib import Path

from ...domain.errors import InvalidParameter
from ...domain.texts import shown


def place(given: object, field: str) -> Path:
    """A path that the operating system can be asked for. Raises InvalidParameter."""
    try:
        if isinstance(given, str | Path) and b"\0" not in os.fsencode(given):
            return Path(given)
    except UnicodeEncodeError:
        pass
    raise InvalidParameter(f"{field!r} must be the path of a file, not {shown(given)}.", field=field, value=given)
