"""The OpenAPI document of all operations, made from what they take and give."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from .idempotency import LONGEST_KEY
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
            "200": {"description": "Done.", "content": {"application/json": {"schema": by_type[one.gives]}}},
            "default": {
                "description": "Refused, with the reason.",
                "content": {"application/json": {"schema": by_type[Refused]}},
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
        said: Json = {"name": name, "in": "query", "required": name in required, "schema": _of_query(schema)}
        yield said | ({"style": "deepObject", "explode": True} if schema.get("type") == "array" else {})


def _of_query(schema: Json) -> Json:
    """A query can't say null: what may be left out is left out."""
    choices = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    return choices[0] if len(choices) == 1 else schema


def _in_headers(one: Operation) -> Iterable[Json]:
    if one.method == "POST":
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "The same request with the same key is done once, and gets the first answer again.",
            "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[!-~]+$"},
        }


def _body(one: Operation, schema: Json, takes: Json) -> Json:
    content: Json = {"application/json": {"schema": schema}}
    if not one.is_v2:
        deep = {"style": "deepObject", "explode": True}
        inside = {name: deep for name, of in takes.get("properties", {}).items() if of.get("type") != "string"}
        content = {"application/x-www-form-urlencoded": {"schema": schema, "encoding": inside}, **content}
    return {"required": bool(takes.get("required")), "content": content}


_SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "description": "An access key: tallybook key create."},
    "key_as_user": {"type": "http", "scheme": "basic", "description": "An access key as the user, without a password."},
    "session": {"type": "http", "scheme": "bearer", "description": "The token of a meter event session."},
}
