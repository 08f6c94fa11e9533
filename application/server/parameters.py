"""Reading parameters: whatever comes, as text or as JSON, into what an operation takes; or a refusal that names one."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin

import msgspec

from ...domain.texts import is_unicode, shown
from .forms import APPENDED
from .refusals import Refusal, invalid_parameter

Asked = TypeVar("Asked", bound=msgspec.Struct)
_PLACE = re.compile(r"(.*?)(?: - at `(.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_WHOLE, _PLACE_IN_LIST = re.compile(r"-?[0-9]{1,19}"), re.compile(r"[0-9]{1,4}")
_TRUTHS = {"true": True, "false": False}
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")


def read_parameters(given: Mapping[str, object], kind: type[Asked], *, from_text: bool) -> Asked:
    """`given` as `kind`. Raises Refusal, naming the parameter.

    Values that come as text may stand for numbers and for true and false, and an empty one for none.
    """
    try:
        asked = msgspec.convert(_shaped(given, kind) if from_text else given, kind)
    except (msgspec.ValidationError, UnicodeError) as error:
        raise refused(str(error)) from None
    return asked


def read_json(body: bytes, kind: type[Asked]) -> Asked:
    """A JSON body as `kind`. Raises Refusal, naming the parameter."""
    try:
        return _decoder(kind).decode(body or b"{}")
    except msgspec.ValidationError as error:
        raise refused(str(error)) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Refusal(400, f"The body is not JSON: {error}.", code="json_invalid") from None


def refused(said: str) -> Refusal:
    """The refusal of what msgspec finds wrong."""
    found = _PLACE.fullmatch(said)
    assert found is not None
    what, place = found[1], found[2] or ""
    missing, unknown = _MISSING.fullmatch(what), _UNKNOWN.fullmatch(what)
    if missing:
        param = _bracketed(place, missing[1])
        return invalid_parameter(param, f"Missing required param: {param}.", "parameter_missing")
    if unknown:
        param = _bracketed(place, unknown[1])
        return invalid_parameter(param, f"Received unknown parameter: {param}", "parameter_unknown")
    param = _bracketed(place)
    return invalid_parameter(param, f"Invalid {param or 'body'}: {what[0].lower()}{what[1:]}.")


def _bracketed(place: str, last: str = "") -> str:
    """A place as msgspec tells it, `$.cancel.identifier`, as Stripe does: `cancel[identifier]`."""
    names = [key or at for key, at in _STEP.findall(place)] + ([last] if last else [])
    return "".join(name if at == 0 else f"[{name}]" for at, name in enumerate(names))


@cache
def _decoder(kind: type[Asked]) -> "msgspec.json.Decoder[Asked]":
    return msgspec.json.Decoder(kind)


def _shaped(given: Mapping[str, object], kind: type[msgspec.Struct]) -> dict[str, object]:
    """Text in the shape of `kind`: lists where it has lists, and without empty values that stand for none."""
    fields = _fields(kind)
    shaped: dict[str, object] = {}
    for name, value in given.items():
        field = fields.get(name)
        if field is None or not (value == "" and not field.required):
            shaped[name] = value if field is None else _shaped_value(value, field.type)
    return shaped


def _shaped_value(value: object, given: Any) -> object:
    kind = _plain(given)
    if isinstance(value, str):
        return _meant(value, kind)
    if not isinstance(value, dict):
        return value
    inside = cast(dict[str, object], value)
    if get_origin(kind) is list:
        return _listed(inside, get_args(kind)[0])
    return _shaped(inside, kind) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else inside


def _meant(text: str, kind: Any) -> object:
    """What a text stands for, where a number or a truth is expected. Never none: msgspec would take `null` for that."""
    if kind is int and _WHOLE.fullmatch(text):
        return int(text)
    return _TRUTHS.get(text, text) if kind is bool else text


def _listed(inside: Mapping[str, object], item: Any) -> object:
    if not all(key == APPENDED or _PLACE_IN_LIST.fullmatch(key) for key in inside):
        return inside
    by_place = sorted((int(key), value) for key, value in inside.items() if key != APPENDED)
    appended = cast(list[object], inside.get(APPENDED, []))
    return [_shaped_value(value, item) for value in (*(value for _, value in by_place), *appended)]


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _plain(kind: Any) -> Any:
    """A type without what is said about it, and without None."""
    while hasattr(kind, "__metadata__"):
        kind = kind.__origin__
    choices = [one for one in get_args(kind) if one is not type(None)] if type(None) in get_args(kind) else []
    return _plain(choices[0]) if len(choices) == 1 else kind


def check_text(value: str, param: str) -> str:
    """A text that can be kept and asked for. Raises Refusal."""
    if "\0" in value or not is_unicode(value):
        raise invalid_parameter(param, f"Invalid {param}: {shown(value)} holds a character that isn't taken.")
    return value
