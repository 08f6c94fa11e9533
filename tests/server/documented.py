"""Answers against the document that tells of them: whatever a server answers has to be as its OpenAPI document says."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from jsonschema import Draft202012Validator
from tallybook.application.server.catalogue import ROUTES
from tallybook.application.server.openapi import document

Json = dict[str, Any]


def exactly(body: bytes) -> Json:
    """A JSON body, its numbers digit for digit."""
    return json.loads(body, parse_float=Decimal)


class Documented:
    """The document of the operations, to hold answers against."""

    def __init__(self, said: Mapping[str, Any] | None = None) -> None:
        self.said: Json = json.loads(json.dumps(said or document(ROUTES)))
        self._closed = {"components": {"schemas": _closed(self.said["components"]["schemas"])}}

    def check(self, method: str, path: str, status: int, body: bytes) -> Json:
        """The body of an answer, which is as the document says: with all that is said to be in it, and nothing else."""
        answer = exactly(body)
        responses = self.operation(method, path)["responses"]
        schema = responses.get(str(status), responses["default"])["content"]["application/json"]["schema"]
        validator: Any = Draft202012Validator({**self._closed, **schema})  # pyright: ignore[reportUnknownMemberType]
        validator.validate(answer)
        return answer

    def operation(self, method: str, path: str) -> Json:
        """The operation at a path, as requests have it."""
        for template, operations in self.said["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in operations:
                return operations[method.lower()]
        raise AssertionError(f"{method} {path} is no operation of the document.")


def _closed(schema: Any) -> Any:
    """A schema whose objects have the properties that are named, and no others."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(schema, dict):
        return schema
    inside: Json = {name: _closed(one) for name, one in schema.items()}  # pyright: ignore[reportUnknownVariableType]
    return {**inside, "additionalProperties": False} if isinstance(inside.get("properties"), dict) else inside
