"""Where files are, as callers give it."""

import os
from pathlib import Path

from ...domain.errors import InvalidParameter
from ...domain.plain_types import plain_text
from ...domain.text import abbreviated_repr


def require_path(value: object, field: str) -> Path:
    """A path that the operating system can be asked for. Raises InvalidParameter."""
    path = value if isinstance(value, Path) else plain_text(value)
    try:
        if path is not None and b"\0" not in os.fsencode(path):
            return Path(path)
    except UnicodeEncodeError:
        pass
    raise InvalidParameter(
        f"{field!r} must be the path of a file, not {abbreviated_repr(value)}.", field=field, value=value
    )
