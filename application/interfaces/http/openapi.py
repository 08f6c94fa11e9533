"""Builds the OpenAPI document from the parameter and response types of all operations."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from inspect import cleandoc
from typing import Any

import msgspec

from .errors import ErrorEnvelope
from .idempotency import KEY_PATTERN, MAX_IDEMPOTENCY_KEY_LENGTH
from .operations import Operation, OperationRegistry
from .parameters import FORM_MEDIA_TYPE
from .responses import JSON_MEDIA_TYPE as MEDIA_TYPE

_NESTED = {"style": "deepObject", "explode": True}
_REF = "#/components/schemas/{name}"
_DESCRIPTION = (
    "A usage ledger over HTTP, wire-compatible with Stripe's billing meters: Stripe's own SDKs work with it. "
    "Extensions follow the same style."
)
Json = dict[str, Any]


def build_document(registries: Sequence[OperationRegistry]) -> Json:
    """Return the OpenAPI document as JSON values."""
    all_operations = [operation for registry in registries for operation in registry]
    types = [
        *dict.fromkeys(
            [
                *(body_type for operation in all_operations for body_type in _body_types(operation)),
                *(operation.response_type for operation in all_operations if operation.media_type == MEDIA_TYPE),
                ErrorEnvelope,
                *(operation.body_format.error_type for operation in all_operations if operation.body_format),
            ]
        )
    ]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    for component in components.values():
        component["description"] = cleandoc(component.get("description", ""))  # Python 3.13 and later already do this
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, Json] = {}
    for registry in registries:
        for operation in registry:
            paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
                operation, registry.tag, by_type, components
            )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tallybook", "version": version("tallybook"), "description": _DESCRIPTION},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SCHEMES},
        "tags": [{"name": registry.tag} for registry in registries],
    }


def _operation(operation: Operation, tag: str, by_type: Mapping[Any, Json], components: Mapping[str, Json]) -> Json:
    summary, _, description = operation.summary.partition("\n")
    error_type = operation.body_format.error_type if operation.body_format else ErrorEnvelope
    document: Json = {
        "operationId": operation.name,
        "tags": [tag],
        "summary": summary,
        "description": " ".join(f"{description} Requires the scope '{operation.scope}'.".split()),
        "security": [{"session": []}] if operation.by_session else [{"key": []}, {"key_as_user": []}],
        "parameters": [
            *_path_parameters(operation),
            *_query_parameters(operation, by_type, components),
            *_header_parameters(operation),
        ],
        "responses": {
            "200": {"description": "Success.", "content": {operation.media_type: _response_schema(operation, by_type)}},
            "default": {
                "description": "Error, with the reason.",
                "content": {MEDIA_TYPE: {"schema": by_type[error_type]}},
            },
        },
    }
    if operation.method == "POST":
        document["requestBody"] = _request_body(operation, by_type, components)
    return document


def _response_schema(operation: Operation, by_type: Mapping[Any, Json]) -> Json:
    """Return the schema of a JSON response. A file has none."""
    return {"schema": by_type[operation.response_type]} if operation.media_type == MEDIA_TYPE else {}


def _body_types(operation: Operation) -> Iterable[Any]:
    return operation.body_format.types.values() if operation.body_format else (operation.params_type,)


def _params_schema(operation: Operation, by_type: Mapping[Any, Json], components: Mapping[str, Json]) -> Json:
    return components[by_type[operation.params_type]["$ref"].rpartition("/")[2]]


def _path_parameters(operation: Operation) -> Iterable[Json]:
    schema = {"type": "string", "minLength": 1, "maxLength": 5_000}
    return ({"name": name, "in": "path", "required": True, "schema": schema} for name in operation.path_parameters)


def _query_parameters(
    operation: Operation, by_type: Mapping[Any, Json], components: Mapping[str, Json]
) -> Iterable[Json]:
    if operation.method == "POST":
        return
    params_schema = _params_schema(operation, by_type, components)
    required = params_schema.get("required", ())
    for name, schema in params_schema.get("properties", {}).items():
        text_name, text_schema = _text_parameter(name, schema, is_required=name in required)
        style = _NESTED if _is_nested(text_schema) else {}
        yield {"name": text_name, "in": "query", "required": name in required, "schema": text_schema, **style}


def _text_parameter(name: str, schema: Json, *, is_required: bool) -> tuple[str, Json]:
    """Return the name and schema of a parameter in a query or form: no null, and an empty value means absent.

    A list is sent item by item, each under the name with empty brackets.
    """
    choices = [choice for choice in schema.get("anyOf", (schema,)) if choice != {"type": "null"}]
    non_null: Json = choices[0] if len(choices) == 1 else {"anyOf": choices}
    if non_null.get("type") == "array":
        return f"{name}[]", non_null
    may_be_empty = not is_required and not _is_nested(non_null)
    return name, {"anyOf": [non_null, {"const": ""}]} if may_be_empty else non_null


def _is_nested(schema: Json) -> bool:
    """Return whether a value may be an object, which is sent field by field: `payload[value]=5`."""
    return any("$ref" in choice or choice.get("type") == "object" for choice in schema.get("anyOf", (schema,)))


def _header_parameters(operation: Operation) -> Iterable[Json]:
    if operation.stores_response:
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "A repeated request with the same key takes effect once and gets the first response.",
            "schema": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_IDEMPOTENCY_KEY_LENGTH,
                "pattern": KEY_PATTERN,
            },
        }


def _request_body(operation: Operation, by_type: Mapping[Any, Json], components: Mapping[str, Json]) -> Json:
    if operation.body_format is not None:
        types = operation.body_format.types
        return {"required": True, "content": {name: {"schema": by_type[types[name]]} for name in types}}
    params_schema = _params_schema(operation, by_type, components)
    content: Json = {MEDIA_TYPE: {"schema": by_type[operation.params_type]}}
    if not operation.is_v2:
        content = {FORM_MEDIA_TYPE: _form_content(params_schema), **content}
    return {"required": bool(params_schema.get("required")), "content": content}


def _form_content(params_schema: Json) -> Json:
    """Return the schema of a form body: `payload[value]=5`."""
    required = params_schema.get("required", ())
    properties = dict(
        _text_parameter(*name_and_schema, is_required=name_and_schema[0] in required)
        for name_and_schema in params_schema.get("properties", {}).items()
    )
    return {
        "schema": {
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name.removesuffix("[]") in required],
            "additionalProperties": False,
        },
        "encoding": {name: _NESTED for name, schema in properties.items() if _is_nested(schema)},
    }


_SCHEMES = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access key; create one with `tallybook key create`.",
    },
    "key_as_user": {
        "type": "http",
        "scheme": "basic",
        "description": "An access key as the user name, with an empty password.",
    },
    "session": {"type": "http", "scheme": "bearer", "description": "The token of a meter event session."},
}
