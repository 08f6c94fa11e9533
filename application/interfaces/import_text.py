"""How a usage file is read, as text."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..usage_import.formats import FileDialect

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


def format_dialect(dialect: "FileDialect", format_name: Callable[[str], str] = str) -> str:
    """Return how a file is read: its format, encoding, delimiter, sheet and header."""
    parts = [str(dialect.file_format)]
    if dialect.compression is not None:
        parts.append(dialect.compression)
    if dialect.encoding is not None:
        parts.append(dialect.encoding)
    if dialect.delimiter is not None:
        parts.append(f"separated by {_DELIMITERS.get(dialect.delimiter, repr(dialect.delimiter))}")
    if dialect.sheet is not None:
        parts.append(f"sheet {format_name(dialect.sheet)}")
    if dialect.header_line is not None:
        parts.append(f"header in line {dialect.header_line}")
    return ", ".join(parts)
