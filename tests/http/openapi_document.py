"""Checks responses against the OpenAPI document."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from tallybook.application.interfaces.http.catalogue import REGISTRIES
from tallybook.application.interfaces.http.openapi import build_document

Json = dict[str, Any]


def parse_exact_json(body: bytes) -> Json:
    """Return a JSON body with exact numbers."""
    return json.loads(body, parse_float=Decimal)


class OpenApiDocument:
    """The OpenAPI document of the operations."""

    def __init__(self, document_json: Mapping[str, Any] | None = None) -> None:
        self.document: Json = json.loads(json.dumps(document_json or build_document(REGISTRIES)))
        self._closed = {
            "components": {"schemas": _without_additional_properties(self.document["components"]["schemas"])}
        }

    def check(self, method: str, path: str, status: int, body: bytes) -> Json:
        """Return the body of a response if it has exactly the documented properties; {} if it is a documented file."""
        responses = self.operation(method, path)["responses"]
        content = responses.get(str(status), responses["default"])["content"]
        if "application/json" not in content:
            return {}
        schema, response_body = content["application/json"]["schema"], parse_exact_json(body)
        validator: Any = Draft202012Validator({**self._closed, **schema})  # pyright: ignore[reportUnknownMemberType]
        validator.validate(response_body)
        return response_body

    def operation(self, method: str, path: str) -> Json:
        """Return the operation of a request path."""
        for template, operations in self.document["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in operations:
                return operations[method.lower()]
        raise AssertionError(f"{method} {path} is no operation of the document.")


@cache
def shared_document() -> OpenApiDocument:
    """Return the document that all tests of a process can use: building it takes 60 ms of CPU."""
    return OpenApiDocument()


def _without_additional_properties(schema: Any) -> Any:
    """Return a schema whose objects allow only the named properties."""
    if isinstance(schema, list):
        return [_without_additional_properties(item) for item in schema]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(schema, dict):
        return schema
    inside: Json = {name: _without_additional_properties(item) for name, item in schema.items()}  # pyright: ignore[reportUnknownVariableType]
    return {**inside, "additionalProperties": False} if isinstance(inside.get("properties"), dict) else inside
