"""A cache of values that are decoded from stored texts, limited by the length of the texts.

The rules of a meter are stored with all of their revisions, as a text that grows with each change. A limit on the
number of texts would let a program that makes thousands of changes hold gigabytes.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


def cache_by_text(max_characters: int) -> Callable[[Callable[Arguments, Value]], Callable[Arguments, Value]]:
    """Return a decorator that caches the results for the texts that were used last, with this length in all.

    The last result is cached whatever its length. All arguments are positional, and texts or None.
    """

    def decorate(decode: Callable[Arguments, Value]) -> Callable[Arguments, Value]:
        values: OrderedDict[tuple[object, ...], Value] = OrderedDict()
        lock, characters = Lock(), 0

        @wraps(decode)
        def cached(*texts: Arguments.args, **none: Arguments.kwargs) -> Value:
            nonlocal characters
            with lock:
                if texts in values:
                    values.move_to_end(texts)
                    return values[texts]
            value = decode(*texts, **none)
            with lock:
                if texts not in values:  # another thread may have decoded it too
                    values[texts] = value
                    characters += _length(texts)
                while characters > max_characters and len(values) > 1:
                    oldest, _ = values.popitem(last=False)
                    characters -= _length(oldest)
            return value

        return cached

    return decorate


def _length(texts: tuple[object, ...]) -> int:
    return sum(len(text) for text in texts if isinstance(text, str))
