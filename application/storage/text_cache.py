"""A cache of values that are decoded from stored texts, limited by the length of the texts.

The rules of a meter are stored with all of their revisions, as a text that grows with each change. A limit on the
number of texts would let a program that makes thousands of changes hold gigabytes.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


def cache_by_text(max_characters: int) -> Callable[[Callable[Arguments, Value]], Callable[Arguments, Value]]:
    """Return a decorator that caches the results for texts with up to this length in all.

    A text for which there is no more room takes the place of all others, and is cached whatever its length. All
    arguments are positional, and texts or None. There is no lock, which a process could inherit from a fork: if several
    threads add a text at once, the length may be counted wrong until the cache is emptied.
    """

    def decorate(decode: Callable[Arguments, Value]) -> Callable[Arguments, Value]:
        values: dict[tuple[object, ...], Value] = {}
        characters = 0

        @wraps(decode)
        def cached(*texts: Arguments.args, **none: Arguments.kwargs) -> Value:
            nonlocal characters
            try:
                return values[texts]
            except KeyError:
                value = decode(*texts, **none)
            length = sum(len(text) for text in texts if isinstance(text, str))
            if characters + length > max_characters:
                values.clear()
                characters = 0
            values[texts] = value
            characters += length
            return value

        return cached

    return decorate
