"""Object ids encode what they identify."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application.interfaces.http.object_ids import (
    CLOSED_PERIOD_PREFIX,
    METER_EVENT_PREFIX,
    METER_PREFIX,
    decode_id,
    encode_id,
)

KINDS = (METER_PREFIX, METER_EVENT_PREFIX, CLOSED_PERIOD_PREFIX)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)


@given(kind=st.sampled_from(KINDS), name=TEXT)
def test_an_id_contains_its_name(kind: str, name: str) -> None:
    """Each name has its own id, which needs no escaping in a URL."""
    given_id = encode_id(kind, name)
    assert decode_id(kind, given_id) == name
    assert given_id.replace("_", "").replace("-", "").isalnum()
    assert given_id.isascii()


@given(name=TEXT, kind=st.sampled_from(KINDS), other=st.sampled_from(KINDS))
def test_an_id_is_of_one_kind(name: str, kind: str, other: str) -> None:
    """An event's id is not a meter's."""
    if kind != other:
        assert decode_id(other, encode_id(kind, name)) is None


@given(kind=st.sampled_from(KINDS), given_id=st.text(max_size=40) | st.from_regex(r"mtr_[\w=+/-]*", fullmatch=True))
def test_an_invalid_id_is_none(kind: str, given_id: str) -> None:
    """Any text is a valid id in its only spelling, or no id."""
    name = decode_id(kind, given_id)
    assert name is None or encode_id(kind, name) == given_id


@pytest.mark.parametrize(
    "given_id", ["", "mtr", "mtr_=", "mtr_YQ==", "mtr_YR", "mtr_Y Q", "mtr_YQ\n", "YQ", "mtr_/w", "mtr__w"]
)
def test_one_name_has_one_id(given_id: str) -> None:
    """Other base64 spellings are not ids."""
    assert decode_id(METER_PREFIX, given_id) is None
