"""The OpenAPI document of all operations, made from what they take and give."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from inspect import cleandoc
from typing import Any

import msgspec

from .answers import JSON as MEDIA_TYPE
from .forms import FORM
from .idempotency import KEY, LONGEST_KEY
from .refusals import Refused
from .routes import Operation, Routes

_REF = "#/components/schemas/{name}"
_DESCRIPTION = (
    "A usage ledger over HTTP, wire-compatible with Stripe's billing meters: Stripe's own SDKs talk to it. What Stripe "
    "has none of is in the same style."
)
Json = dict[str, Any]


def document(tagged: Sequence[Routes]) -> Json:
    """The OpenAPI document, as JSON can say it."""
    every = [operation for routes in tagged for operation in routes]
    types = [*dict.fromkeys([*(one.takes for one in every), *(one.gives for one in every), Refused])]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    for component in components.values():
        component["description"] = cleandoc(component.get("description", ""))  # as later Pythons keep docstrings
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, Json] = {}
    for routes in tagged:
        for one in routes:
            paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, routes.tag, by_type, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tallybook", "version": version("tallybook"), "description": _DESCRIPTION},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SCHEMES},
        "tags": [{"name": routes.tag} for routes in tagged],
    }


def _operation(one: Operation, tag: str, by_type: Mapping[Any, Json], components: Mapping[str, Json]) -> Json:
    summary, _, description = one.summary.partition("\n")
    takes = components[by_type[one.takes]["$ref"].rpartition("/")[2]]
    said: Json = {
        "operationId": one.name,
        "tags": [tag],
        "summary": summary,
        "description": " ".join(f"{description} Needs the scope '{one.scope}'.".split()),
        "security": [{"session": []}] if one.by_session else [{"key": []}, {"key_as_user": []}],
        "parameters": [*_in_path(one), *_in_query(one, takes), *_in_headers(one)],
        "responses": {
            "200": {"description": "Done.", "content": {MEDIA_TYPE: {"schema": by_type[one.gives]}}},
            "default": {
                "description": "Refused, with the reason.",
                "content": {MEDIA_TYPE: {"schema": by_type[Refused]}},
            },
        },
    }
    if one.method == "POST":
        said["requestBody"] = _body(one, by_type[one.takes], takes)
    return said


def _in_path(one: Operation) -> Iterable[Json]:
    text = {"type": "string", "minLength": 1, "maxLength": 5_000}
    return ({"name": name, "in": "path", "required": True, "schema": text} for name in one.path_parameters)


def _in_query(one: Operation, takes: Json) -> Iterable[Json]:
    if one.method == "POST":
        return
    required = takes.get("required", ())
    for name, schema in takes.get("properties", {}).items():
        named, inside = _of_text(name, schema, is_required=name in required)
        yield {"name": named, "in": "query", "required": name in required, "schema": inside}


def _of_text(name: str, schema: Json, *, is_required: bool) -> tuple[str, Json]:
    """A parameter as a query or a form says it: nothing is null there, and an empty text stands for none.

    A list is given item by item, each under its name with empty brackets.
    """
    choices = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    inside: Json = choices[0] if len(choices) == 1 else schema
    if inside.get("type") == "array":
        return f"{name}[]", inside
    is_text = "$ref" not in inside and inside.get("type") != "object"
    return name, {"anyOf": [inside, {"const": ""}]} if is_text and not is_required else inside


def _in_headers(one: Operation) -> Iterable[Json]:
    if one.method == "POST":
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "The same request with the same key is done once, and gets the first answer again.",
            "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": KEY},
        }


def _body(one: Operation, schema: Json, takes: Json) -> Json:
    content: Json = {MEDIA_TYPE: {"schema": schema}}
    if not one.is_v2:
        content = {FORM: _form(takes), **content}
    return {"required": bool(takes.get("required")), "content": content}


def _form(takes: Json) -> Json:
    """What is taken, as a form says it: `payload[value]=5`."""
    required = takes.get("required", ())
    named = dict(_of_text(*one, is_required=one[0] in required) for one in takes.get("properties", {}).items())
    deep = [name for name, schema in named.items() if "$ref" in schema or schema.get("type") == "object"]
    return {
        "schema": {
            "type": "object",
            "properties": named,
            "required": [name for name in named if name.removesuffix("[]") in required],
            "additionalProperties": False,
        },
        "encoding": {name: {"style": "deepObject", "explode": True} for name in deep},
    }


_SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "description": "An access key: tallybook key create."},
    "key_as_user": {"type": "http", "scheme": "basic", "description": "An access key as the user, without a password."},
    "session": {"type": "http", "scheme": "bearer", "description": "The token of a meter event session."},
}
