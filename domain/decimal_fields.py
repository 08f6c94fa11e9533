"""Exact decimals as fields of pydantic models: of events, results and rules."""

from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from .decimals import PLAIN_DECIMAL, to_plain_string

PlainDecimal = Annotated[Decimal, PlainSerializer(to_plain_string, when_used="json")]
"""A number in a stored event, written as plain decimal text, which is exact."""
_MAX_RULE_LENGTH = 64


def _require_plain(value: object) -> object:
    if isinstance(value, float):
        raise ValueError("a float is not exact: use text, int or Decimal")  # noqa: TRY004 - pydantic expects it
    if isinstance(value, str) and not (len(value) <= _MAX_RULE_LENGTH and PLAIN_DECIMAL.fullmatch(value)):
        raise ValueError("a number is plain decimal text like '25' or '-0.5'")
    return value


RuleNumber = Annotated[PlainDecimal, BeforeValidator(_require_plain)]
"""A number in a rule of a meter. Its text is that of a value: `Decimal` would read ' 1', '1e5' and '1_000' too."""
