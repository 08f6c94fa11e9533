"""Values of subclasses are replaced by plain values, by the methods of the base class only."""

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from tallybook.domain import plain_types
from tallybook.domain.errors import InvalidTimestamp
from tallybook.domain.plain_types import plain_datetime, plain_decimal, plain_int, plain_text, plain_timedelta
from tallybook.domain.timestamps import ensure_utc

from tests.subclasses import HostileDatetime, HostileDecimal, HostileInt, HostileStr, HostileTimedelta

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Color(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


PLAIN: list[tuple[Any, Any, Any]] = [
    (plain_text, "a", "a"),
    (plain_text, HostileStr("a"), "a"),
    (plain_text, Color.RED, "red"),
    (plain_text, np.str_("a"), "a"),
    (plain_text, b"a", None),
    (plain_text, None, None),
    (plain_int, 3, 3),
    (plain_int, HostileInt(3), 3),
    (plain_int, Level.HIGH, 3),
    (plain_int, np.int64(3), 3),
    (plain_int, np.uint64(2**64 - 1), 2**64 - 1),
    (plain_int, True, None),
    (plain_int, np.True_, None),
    (plain_int, 3.0, None),
    (plain_int, np.float64(3), None),
    (plain_int, Decimal(3), None),
    (plain_int, "3", None),
    (plain_decimal, Decimal("1.50"), Decimal("1.50")),
    (plain_decimal, HostileDecimal("1.50"), Decimal("1.50")),
    (plain_decimal, Fraction(1, 2), None),
    (plain_decimal, 1.5, None),
    (plain_timedelta, timedelta(hours=1), timedelta(hours=1)),
    (plain_timedelta, HostileTimedelta(hours=1), timedelta(hours=1)),
    (plain_timedelta, 3_600, None),
    (plain_datetime, NOON, NOON),
    (plain_datetime, HostileDatetime(2026, 3, 1, 12, tzinfo=UTC), NOON),
    (plain_datetime, HostileDatetime(2026, 3, 1, 13, tzinfo=ZoneInfo("Europe/Berlin")), NOON),
    (plain_datetime, HostileDatetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
     datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
    (plain_datetime, HostileDatetime(2026, 3, 1, 12, fold=1, tzinfo=UTC), NOON),
    (plain_datetime, NOON.replace(tzinfo=None), None),
    (plain_datetime, HostileDatetime(2026, 3, 1), None),
    (plain_datetime, date(2026, 3, 1), None),
    (plain_datetime, np.datetime64("2026-03-01"), None),
    (plain_datetime, "2026-03-01T00:00:00Z", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("plain", "value", "expected"),
    PLAIN,
    ids=[f"{number}-{plain.__name__}" for number, (plain, _, _) in enumerate(PLAIN)],
)
def test_a_plain_value(plain: Any, value: Any, expected: Any) -> None:
    """It has the plain type, and the value that the base class holds; None for other types."""
    result = plain(value)
    assert result == expected
    assert type(result) is type(expected)
    assert getattr(result, "fold", 0) == 0


class Zone(tzinfo):
    """A timezone that returns or raises what it is created with."""

    def __init__(self, offset: Any) -> None:
        self.offset = offset

    def utcoffset(self, dt: datetime | None) -> Any:
        if isinstance(self.offset, Exception):
            raise self.offset
        return self.offset


@pytest.mark.parametrize("offset", [None, 3_600, "+01:00", timedelta(days=2), RuntimeError("no offset")])
def test_a_timezone_without_a_valid_offset_is_an_invalid_timestamp(offset: Any) -> None:
    """Whatever it returns or raises."""
    for type_ in (datetime, HostileDatetime):
        with pytest.raises(InvalidTimestamp):
            ensure_utc(type_(2026, 3, 1, tzinfo=Zone(offset)), "timestamp")


@pytest.mark.parametrize("offset", [timedelta(microseconds=1), timedelta(hours=5, seconds=17), -timedelta(hours=23)])
def test_an_offset_may_have_seconds_and_microseconds(offset: timedelta) -> None:
    """As those of local mean time."""
    expected = datetime(2026, 3, 1, tzinfo=timezone(offset)).astimezone(UTC)
    assert ensure_utc(HostileDatetime(2026, 3, 1, tzinfo=Zone(offset)), "timestamp") == expected


def test_a_datetime_that_holds_another_year_than_its_base_class_is_invalid() -> None:
    """As a pandas.Timestamp of the year 20000 does."""

    class Timestamp(datetime):
        @property
        def year(self) -> int:
            return 20_000

    assert plain_datetime(Timestamp(1970, 1, 1, tzinfo=UTC)) is None


def test_time_may_be_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that freezes time replaces `datetime` in every module by a subclass."""

    class FrozenType(type(datetime)):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

    class FrozenDatetime(datetime, metaclass=FrozenType):
        def date(self) -> Any:
            raise NotImplementedError

    real = datetime
    monkeypatch.setattr(plain_types, "datetime", FrozenDatetime)
    monkeypatch.setattr("tallybook.domain.timestamps.datetime", FrozenDatetime)
    result = ensure_utc(FrozenDatetime(2026, 3, 1, 12, tzinfo=UTC), "clock")
    assert (type(result), result) == (real, NOON)
    assert ensure_utc(NOON, "clock") is NOON
