"""Conditions on payloads: the filter of a meter decides with one which of its events count.

A condition is written as plain data, for example `{"key": "region", "one_of": ["eu", "us"]}`, and stored in that form.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict, Discriminator, FailFast, Field, Tag, model_serializer, model_validator

from .decimal_fields import RuleNumber
from .decimals import DECIMAL_CACHE

MAX_CONDITIONS = 100
MAX_DEPTH = 5

Payload = Mapping[str, str]
Predicate = Callable[[Payload], bool]
Text = Annotated[str, Field(min_length=1, max_length=5_000)]
Key = Annotated[str, Field(min_length=1, max_length=100)]
Bound = Annotated[RuleNumber, Field(max_digits=30)]
"""A number that is compared with. Without a limit, Decimal("1e999999999") would be stored as a gigabyte of digits."""


_NAMED_BY_ALIAS = ConfigDict(
    frozen=True,
    extra="forbid",
    defer_build=True,
    validate_by_name=True,
    validate_by_alias=True,
    serialize_by_alias=True,
)


class _Condition(BaseModel, ABC):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    kind: ClassVar[str] = "compare"
    """The field that only conditions of this kind have; "compare" if there are several such fields."""

    @abstractmethod
    def predicate(self) -> Predicate:
        """Return a function that tells whether a payload matches."""

    def size(self) -> int:
        """Return the number of conditions in this one, itself included."""
        return 1

    def depth(self) -> int:
        """Return how many conditions are nested, this one included."""
        return 1


class Equals(_Condition):
    """The payload has this text under the key."""

    kind = "equals"
    key: Key
    equals: Text

    def predicate(self) -> Predicate:
        """Return a function that tells whether a payload matches."""
        key, text = self.key, self.equals
        return lambda payload: payload.get(key) == text


class OneOf(_Condition):
    """The payload has one of these texts under the key."""

    kind = "one_of"
    key: Key
    one_of: Annotated[tuple[Text, ...], FailFast(), Field(min_length=1, max_length=1_000)]

    def predicate(self) -> Predicate:
        """Return a function that tells whether a payload matches."""
        key, texts = self.key, frozenset(self.one_of)
        return lambda payload: payload.get(key) in texts


class Exists(_Condition):
    """The payload has the key, or hasn't it if `exists` is False."""

    kind = "exists"
    key: Key
    exists: bool

    def predicate(self) -> Predicate:
        """Return a function that tells whether a payload matches."""
        key, exists = self.key, self.exists
        return lambda payload: (key in payload) is exists


class Compare(_Condition):
    """The payload has a number under the key that lies between these bounds; text that is no number doesn't match."""

    key: Key
    greater_than: Bound | None = None
    at_least: Bound | None = None
    less_than: Bound | None = None
    at_most: Bound | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> "Compare":
        bounds = (self.greater_than, self.at_least, self.less_than, self.at_most)
        if all(bound is None for bound in bounds):
            raise ValueError("a comparison needs a bound")
        return self

    @model_serializer(mode="wrap")
    def _without_absent_bounds(self, serialize: Callable[["Compare"], dict[str, Any]]) -> dict[str, Any]:
        return {field: value for field, value in serialize(self).items() if value is not None}

    def predicate(self) -> Predicate:
        """Return a function that tells whether a payload matches."""
        key = self.key
        greater_than, at_least, less_than, at_most = self.greater_than, self.at_least, self.less_than, self.at_most

        def matches(payload: Payload) -> bool:
            text = payload.get(key)
            number: Decimal | None = None if text is None else DECIMAL_CACHE[text]
            return (
                number is not None
                and (greater_than is None or number > greater_than)
                and (at_least is None or number >= at_least)
                and (less_than is None or number < less_than)
                and (at_most is None or number <= at_most)
            )

        return matches


class Not(_Condition):
    """The payload doesn't match the condition."""

    model_config = _NAMED_BY_ALIAS
    kind = "not"

    condition: "Condition" = Field(validation_alias="not", serialization_alias="not")

    def predicate(self) -> Predicate:
        """Return a function that tells whether a payload matches."""
        matches = self.condition.predicate()
        return lambda payload: not matches(payload)

    def size(self) -> int:
        """Return the number of conditions in this one, itself included."""
        return 1 + self.condition.size()

    def depth(self) -> int:
        """Return how many conditions are nested, this one included."""
        return 1 + self.condition.depth()


class _Conditions(_Condition):
    model_config = _NAMED_BY_ALIAS

    conditions: Annotated[tuple["Condition", ...], Field(min_length=1)]

    def size(self) -> int:
        """Return the number of conditions in this one, itself included."""
        return 1 + sum(condition.size() for condition in self.conditions)

    def depth(self) -> int:
        """Return how many conditions are nested, this one included."""
        return 1 + max(condition.depth() for condition in self.conditions)


class All(_Conditions):
    """The payload matches all of the conditions."""

    kind = "all"
    conditions: Annotated[tuple["Condition", ...], FailFast()] = Field(
        min_length=1, validation_alias="all", serialization_alias="all"
    )

    def predicate(self) -> Predicate:
        """Return a function that tells whether a payload matches."""
        predicates = [condition.predicate() for condition in self.conditions]
        return lambda payload: all(matches(payload) for matches in predicates)


class AnyOf(_Conditions):
    """The payload matches at least one of the conditions."""

    kind = "any"
    conditions: Annotated[tuple["Condition", ...], FailFast()] = Field(
        min_length=1, validation_alias="any", serialization_alias="any"
    )

    def predicate(self) -> Predicate:
        """Return a function that tells whether a payload matches."""
        predicates = [condition.predicate() for condition in self.conditions]
        return lambda payload: any(matches(payload) for matches in predicates)


_KINDS = [condition.kind for condition in (Equals, OneOf, Exists, Not, All, AnyOf)]


def _kind(condition: object) -> str:
    """Return the kind of a condition, which may be plain data."""
    if isinstance(condition, _Condition):
        return condition.kind
    fields = cast(Mapping[object, object], condition) if isinstance(condition, Mapping) else ()
    return next((kind for kind in _KINDS if kind in fields), Compare.kind)


Condition = Annotated[
    Annotated[Equals, Tag("equals")]
    | Annotated[OneOf, Tag("one_of")]
    | Annotated[Exists, Tag("exists")]
    | Annotated[Compare, Tag("compare")]
    | Annotated[Not, Tag("not")]
    | Annotated[All, Tag("all")]
    | Annotated[AnyOf, Tag("any")],
    Discriminator(_kind),
]
"""A condition on a payload."""


def check_size(condition: Any) -> Any:
    """Return a condition. Raises ValueError if it has too many parts to be checked for each meter event."""
    if condition is not None and (condition.size() > MAX_CONDITIONS or condition.depth() > MAX_DEPTH):
        raise ValueError(f"a filter has at most {MAX_CONDITIONS} conditions, nested at most {MAX_DEPTH} deep")
    return condition
