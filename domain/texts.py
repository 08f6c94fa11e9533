"""What text can be kept, and how a refused value is shown."""

_WIDTH = 80


def is_unicode(text: str) -> bool:
    """Whether `text` is valid Unicode: Python's own can hold halves of surrogate pairs, which no encoding takes."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_storable(text: str) -> bool:
    """Whether every store can keep `text` as a text of its own: valid Unicode, and no NUL in it."""
    return "\0" not in text and (text.isascii() or is_unicode(text))


def shown(value: object) -> str:
    """A value in a message: as Python writes it, cut at 80 characters."""
    written = repr(value)
    return written if len(written) <= _WIDTH else f"{written[: _WIDTH - 3]}..."
