"""Which text can be stored, and how a value is shown in an error message."""

_MAX_LENGTH = 80


def is_valid_unicode(text: str) -> bool:
    """Return whether `text` is valid Unicode. A Python string can contain lone surrogates, which can't be encoded."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_storable(text: str) -> bool:
    """Return whether every database can store `text`: it is valid Unicode without NUL."""
    return "\0" not in text and (text.isascii() or is_valid_unicode(text))


def abbreviated_repr(value: object) -> str:
    """Return the repr of `value`, truncated to 80 characters; only its type if it has no repr."""
    try:
        text = str.__str__(repr(value))
    except Exception:  # a class can raise anything, and Python does so for an int of more than 4,300 digits
        return f"<{type(value).__name__}>"
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH - 3]}..."
