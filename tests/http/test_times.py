"""Times: whole seconds in v1, RFC 3339 with milliseconds in v2, and `as_of`."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application.interfaces.http.api_types import (
    FIRST_SECOND,
    LAST_SECOND,
    AsOfParameters,
    from_unix,
    parse_as_of,
    to_rfc3339,
    to_unix,
)
from tallybook.application.interfaces.http.errors import ApiError
from tallybook.application.interfaces.http.parameters import parse_parameters

TIMES = st.datetimes(timezones=st.just(UTC))


@given(at=TIMES)
def test_seconds_are_truncated(at: datetime) -> None:
    """Never rounded up, also before 1970."""
    assert from_unix(to_unix(at)) == at.replace(microsecond=0)


@given(seconds=st.integers(FIRST_SECOND, LAST_SECOND))
def test_seconds_are_exact(seconds: int) -> None:
    """From the year 1 to the year 9999."""
    assert to_unix(from_unix(seconds)) == seconds


@given(at=TIMES)
def test_milliseconds_are_truncated(at: datetime) -> None:
    """In UTC, with a Z, always three digits."""
    text = to_rfc3339(at)
    assert len(text) == len("2026-11-01T00:00:00.000Z")
    assert datetime.fromisoformat(text) == at.replace(microsecond=at.microsecond // 1_000 * 1_000)


FORMATTED_TIMES = {
    datetime(2026, 11, 1, tzinfo=UTC): "2026-11-01T00:00:00.000Z",
    datetime(2026, 11, 1, 2, 30, 0, 999_999, timezone(timedelta(hours=5, minutes=30))): "2026-10-31T21:00:00.999Z",
    datetime(1, 1, 1, tzinfo=UTC): "0001-01-01T00:00:00.000Z",
}


@pytest.mark.parametrize("at", FORMATTED_TIMES)
def test_times_are_formatted(at: datetime) -> None:
    """As Stripe's v2 writes them."""
    assert to_rfc3339(at) == FORMATTED_TIMES[at]


AS_OF_TIMES: dict[str, datetime | int | None] = {
    "": None,
    "0": datetime(1970, 1, 1, tzinfo=UTC),
    "-1": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
    "1793491200": datetime(2026, 11, 1, tzinfo=UTC),
    "2026-11-01T00:00:00Z": datetime(2026, 11, 1, tzinfo=UTC),
    "2026-11-01t01:00:00.5+01:00": datetime(2026, 11, 1, 0, 0, 0, 500_000, UTC),
}
INVALID_TIMES = (
    "now", "2026-11-01", "2026-11-01T00:00:00", "2026-13-01T00:00:00Z", "99999999999999", "999999999999", "1.5", "--1",
    "2026-11-01T25:00:00Z", "2026-11-01TZ", "٣", "2026-11-01T00:00:00Z\n", "1" * 41, "null", "-999999999999",
    "2026-11-01+02:00",
)  # fmt: skip


@pytest.mark.parametrize("text", AS_OF_TIMES)
def test_as_of_when(text: str) -> None:
    """Seconds or RFC 3339 with an offset; an empty value is absent."""
    assert parse_as_of(parse_parameters({"as_of": text}, AsOfParameters, from_text=True)) == AS_OF_TIMES[text]


@pytest.mark.parametrize("text", INVALID_TIMES)
def test_as_of_an_invalid_time(text: str) -> None:
    """The error names the parameter."""
    with pytest.raises(ApiError) as exc_info:
        parse_as_of(parse_parameters({"as_of": text}, AsOfParameters, from_text=True))
    assert (exc_info.value.status, exc_info.value.error.param) == (400, "as_of")


def test_as_of_a_position() -> None:
    """A position or a time, not both."""
    assert parse_as_of(parse_parameters({"as_of_position": "7"}, AsOfParameters, from_text=True)) == 7
    with pytest.raises(ApiError, match="both"):
        parse_as_of(parse_parameters({"as_of_position": "7", "as_of": "0"}, AsOfParameters, from_text=True))
