"""Form bodies and query strings with brackets: `payload[value]=5&expand[]=a`, as Stripe's SDKs write them."""

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl

from .refusals import Refusal, invalid_parameter

FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 1_000
DEEPEST = 5
APPENDED = ""
"""The key of values whose place in a list isn't told, as in `expand[]=a`."""

Nested = dict[str, "str | list[str] | Nested"]
_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


def read_form(text: str) -> Nested:
    """What a form or a query string says, nested by its brackets. Raises Refusal.

    Lists stay mappings by place: whether `a[0]` is a list or a mapping is told by what is expected there.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except UnicodeDecodeError:
        raise Refusal(400, "The parameters are not UTF-8.") from None
    except ValueError:
        raise Refusal(400, f"There are more than {MOST_FIELDS} parameters.", code="parameter_invalid") from None
    return nested(pairs)


def nested(pairs: Iterable[tuple[str, str]]) -> Nested:
    """Pairs of a bracketed name and a value, nested."""
    found: Nested = {}
    for name, value in pairs:
        parts = _NAME.fullmatch(name)
        if parts is None:
            raise invalid_parameter(name, f"The name of the parameter {name!r} can't be read.")
        *path, last = parts[1], *(parts[2][1:-1].split("][") if parts[2] else ())
        if len(path) >= DEEPEST:
            raise invalid_parameter(name, f"The parameter {name!r} is nested too deeply.")
        _put(_inner(found, path, name), last, value, name)
    return found


def _inner(found: Nested, path: Iterable[str], name: str) -> Nested:
    for part in path:
        inner = found.setdefault(part, {})
        if part == APPENDED or not isinstance(inner, dict):
            raise invalid_parameter(name, f"The parameter {name!r} is nested in what is none, or in a list's [].")
        found = inner
    return found


def _put(found: Nested, last: str, value: str, name: str) -> None:
    if last == APPENDED:
        appended = found.setdefault(APPENDED, [])
        assert isinstance(appended, list)
        appended.append(value)
    elif last in found:
        raise invalid_parameter(name, f"The parameter {name!r} is given more than once.")
    else:
        found[last] = value
