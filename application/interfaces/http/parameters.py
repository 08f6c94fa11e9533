"""Request parameters: JSON, and forms and query strings with brackets: `payload[value]=5&expand[]=a`."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec

from ....domain.text import abbreviated_repr, is_valid_unicode
from .errors import ApiError, invalid_parameter

FORM_MEDIA_TYPE = "application/x-www-form-urlencoded"
MAX_FIELDS = 1_000
MAX_DEPTH = 11
"""A filter with the deepest nesting of conditions has as many brackets."""
MAX_NAME_CHARACTERS = 500
APPEND = ""
"""The key of list items without an index, as in `expand[]=a`."""

Nested = dict[str, "str | list[str] | Nested"]
_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


def parse_form(text: str) -> Nested:
    """Return the parameters of a form or query string, nested by their brackets. Raises ApiError.

    Lists stay mappings by index: the type of the parameter decides whether `a[0]` is a list or a mapping.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except UnicodeDecodeError:
        raise ApiError(400, "The parameters are not UTF-8.") from None
    except ValueError:
        raise ApiError(400, f"There are more than {MAX_FIELDS} parameters.", code="parameter_invalid") from None
    return nest(pairs)


def nest(pairs: Iterable[tuple[str, str]]) -> Nested:
    """Return pairs of bracketed name and value as nested mappings. Raises ApiError."""
    parameters: Nested = {}
    for name, value in pairs:
        if len(name) > MAX_NAME_CHARACTERS:
            raise invalid_parameter(name, f"A parameter name has more than {MAX_NAME_CHARACTERS} characters.")
        parts = _NAME.fullmatch(name)
        if parts is None:
            raise invalid_parameter(name, f"The parameter name {name!r} is malformed.")
        *path, last = parts[1], *(parts[2][1:-1].split("][") if parts[2] else ())
        if len(path) >= MAX_DEPTH:
            raise invalid_parameter(name, f"The parameter {name!r} is nested too deeply.")
        _assign(_container(parameters, path, name), last, value, name)
    return parameters


def _container(container: Nested, path: Iterable[str], name: str) -> Nested:
    for part in path:
        inner = container.setdefault(part, {})
        if part == APPEND or not isinstance(inner, dict):
            raise invalid_parameter(
                name, f"The parameter {name!r} is nested in a value, or in a list item without index."
            )
        container = inner
    return container


def _assign(container: Nested, last: str, value: str, name: str) -> None:
    if last == APPEND:
        appended = container.setdefault(APPEND, [])
        assert isinstance(appended, list)
        appended.append(value)
    elif last in container:
        raise invalid_parameter(name, f"The parameter {name!r} is sent more than once.")
    else:
        container[last] = value


Params = TypeVar("Params", bound=msgspec.Struct)
_ERROR_WITH_PATH = re.compile(r"(.*?)(?: - at `(.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_INTEGER, _LIST_INDEX = re.compile(r"-?[0-9]{1,19}"), re.compile(r"[0-9]{1,4}")
_BOOLEANS = {"true": True, "false": False}
_PATH_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")


def parse_parameters(raw: Mapping[str, object], params_type: type[Params], *, from_text: bool) -> Params:
    """Return `raw` as `params_type`. Raises ApiError with the parameter.

    Values from text may represent integers, true and false. An empty value means absent.
    """
    try:
        params = msgspec.convert(_coerce(raw, params_type) if from_text else raw, params_type)
    except (msgspec.ValidationError, UnicodeError) as error:
        raise validation_error(str(error)) from None
    return params


def parse_json(body: bytes, params_type: type[Params]) -> Params:
    """Return a JSON body as `params_type`. Raises ApiError with the parameter."""
    try:
        return _decoder(params_type).decode(body or b"{}")
    except msgspec.ValidationError as error:
        raise validation_error(str(error)) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ApiError(400, f"The body is not JSON: {error}.", code="json_invalid") from None


def validation_error(error_message: str) -> ApiError:
    """Return the ApiError for a msgspec validation message."""
    match = _ERROR_WITH_PATH.fullmatch(error_message)
    assert match is not None
    problem, path = match[1], match[2] or ""
    missing, unknown = _MISSING.fullmatch(problem), _UNKNOWN.fullmatch(problem)
    if missing:
        param = _bracket_path(path, missing[1])
        return invalid_parameter(param, f"Missing required param: {param}.", "parameter_missing")
    if unknown:
        param = _bracket_path(path, unknown[1])
        return invalid_parameter(param, f"Received unknown parameter: {param}", "parameter_unknown")
    param = _bracket_path(path)
    return invalid_parameter(param, f"Invalid {param or 'body'}: {problem[0].lower()}{problem[1:]}.")


def _bracket_path(path: str, last: str = "") -> str:
    """Return a msgspec path, `$.cancel.identifier`, in Stripe's form: `cancel[identifier]`."""
    names = [key or at for key, at in _PATH_STEP.findall(path)] + ([last] if last else [])
    return "".join(name if at == 0 else f"[{name}]" for at, name in enumerate(names))


@cache
def _decoder(params_type: type[Params]) -> "msgspec.json.Decoder[Params]":
    return msgspec.json.Decoder(params_type)


def _coerce(raw: Mapping[str, object], struct_type: type[msgspec.Struct]) -> dict[str, object]:
    """Convert text values to the types of a struct's fields, and drop empty values of optional fields."""
    fields = _fields(struct_type)
    coerced: dict[str, object] = {}
    for name, value in raw.items():
        field = fields.get(name)
        if field is None or not (value == "" and not field.required):
            coerced[name] = value if field is None else _coerce_value(value, field.type)
    return coerced


def _coerce_value(value: object, annotation: Any) -> object:
    choices = _choices(annotation)
    if isinstance(value, str):
        return _coerce_scalar(value, choices)
    if not isinstance(value, dict):
        return value
    mapping = cast(dict[str, object], value)
    for choice in choices:
        if get_origin(choice) in (list, tuple):
            return _coerce_list(mapping, get_args(choice)[0])
        if get_origin(choice) is dict:
            return {key: _coerce_value(item, get_args(choice)[1]) for key, item in mapping.items()}
        if isinstance(choice, type) and issubclass(choice, msgspec.Struct):
            return _coerce(mapping, choice)
    return mapping


def _coerce_scalar(text: str, choices: Sequence[Any]) -> object:
    """Return the integer or boolean that a text represents. Never None: msgspec would read `null` as None."""
    if int in choices and _INTEGER.fullmatch(text):
        return int(text)
    return _BOOLEANS.get(text, text) if bool in choices else text


def _coerce_list(mapping: Mapping[str, object], item_type: Any) -> object:
    if not all(key == APPEND or _LIST_INDEX.fullmatch(key) for key in mapping):
        return mapping
    indexed = sorted((int(key), value) for key, value in mapping.items() if key != APPEND)
    appended = cast(list[object], mapping.get(APPEND, []))
    return [_coerce_value(value, item_type) for value in (*(value for _, value in indexed), *appended)]


@cache
def _fields(struct_type: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(struct_type)}


def _choices(annotation: Any) -> list[Any]:
    """Return the types that a value may have, without annotations and without None."""
    while hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    if get_origin(annotation) not in (Union, UnionType):
        return [annotation]
    return [inner for choice in get_args(annotation) if choice is not NoneType for inner in _choices(choice)]


def check_text(value: str, param: str) -> str:
    """Return a text that can be stored. Raises ApiError."""
    if "\0" in value or not is_valid_unicode(value):
        raise invalid_parameter(
            param, f"Invalid {param}: {abbreviated_repr(value)} contains a character that is not allowed."
        )
    return value
