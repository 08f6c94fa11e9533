"""Times: whole seconds in v1, RFC 3339 with milliseconds in v2, and as of when."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application.server.asof import KnownAsOf, as_of
from tallybook.application.server.parameters import read_parameters
from tallybook.application.server.refusals import Refusal
from tallybook.application.server.times import FIRST_SECOND, LAST_SECOND, at_unix, rfc3339, unix

TIMES = st.datetimes(timezones=st.just(UTC))


@given(at=TIMES)
def test_seconds_are_cut(at: datetime) -> None:
    """Never rounded up, also before 1970."""
    assert at_unix(unix(at)) == at.replace(microsecond=0)


@given(seconds=st.integers(FIRST_SECOND, LAST_SECOND))
def test_seconds_are_exact(seconds: int) -> None:
    """From the year 1 to the year 9999."""
    assert unix(at_unix(seconds)) == seconds


@given(at=TIMES)
def test_milliseconds_are_cut(at: datetime) -> None:
    """In UTC, with a Z, always three digits."""
    text = rfc3339(at)
    assert len(text) == len("2026-11-01T00:00:00.000Z")
    assert datetime.fromisoformat(text) == at.replace(microsecond=at.microsecond // 1_000 * 1_000)


WRITTEN = {
    datetime(2026, 11, 1, tzinfo=UTC): "2026-11-01T00:00:00.000Z",
    datetime(2026, 11, 1, 2, 30, 0, 999_999, timezone(timedelta(hours=5, minutes=30))): "2026-10-31T21:00:00.999Z",
    datetime(1, 1, 1, tzinfo=UTC): "0001-01-01T00:00:00.000Z",
}


@pytest.mark.parametrize("at", WRITTEN)
def test_how_times_are_written(at: datetime) -> None:
    """As Stripe's v2 writes them."""
    assert rfc3339(at) == WRITTEN[at]


ASKED: dict[str, datetime | int | None] = {
    "": None,
    "0": datetime(1970, 1, 1, tzinfo=UTC),
    "-1": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
    "1793491200": datetime(2026, 11, 1, tzinfo=UTC),
    "2026-11-01T00:00:00Z": datetime(2026, 11, 1, tzinfo=UTC),
    "2026-11-01t01:00:00.5+01:00": datetime(2026, 11, 1, 0, 0, 0, 500_000, UTC),
}
NEVER = (
    "now", "2026-11-01", "2026-11-01T00:00:00", "2026-13-01T00:00:00Z", "99999999999999", "999999999999", "1.5", "--1",
    "2026-11-01T25:00:00Z", "2026-11-01TZ", "٣", "2026-11-01T00:00:00Z\n", "1" * 41, "null", "-999999999999",
)  # fmt: skip


@pytest.mark.parametrize("text", ASKED)
def test_as_of_when(text: str) -> None:
    """Seconds or RFC 3339 with an offset; an empty one is none."""
    assert as_of(read_parameters({"as_of": text}, KnownAsOf, from_text=True)) == ASKED[text]


@pytest.mark.parametrize("text", NEVER)
def test_as_of_what_is_no_moment(text: str) -> None:
    """Is refused, by its name."""
    with pytest.raises(Refusal) as refused:
        as_of(read_parameters({"as_of": text}, KnownAsOf, from_text=True))
    assert (refused.value.status, refused.value.error.param) == (400, "as_of")


def test_as_of_a_position() -> None:
    """Or a moment, not both."""
    assert as_of(read_parameters({"as_of_position": "7"}, KnownAsOf, from_text=True)) == 7
    with pytest.raises(Refusal, match="both"):
        as_of(read_parameters({"as_of_position": "7", "as_of": "0"}, KnownAsOf, from_text=True))
