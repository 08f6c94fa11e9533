"""Ids tell in themselves what they are of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application.server.ids import CLOSED_PERIOD, METER, METER_EVENT, id_of, name_of

KINDS = (METER, METER_EVENT, CLOSED_PERIOD)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)


@given(kind=st.sampled_from(KINDS), name=TEXT)
def test_an_id_tells_its_name(kind: str, name: str) -> None:
    """Whatever the name, and nothing else has that id; it needs no escaping in a URL."""
    given_id = id_of(kind, name)
    assert name_of(kind, given_id) == name
    assert given_id.replace("_", "").replace("-", "").isalnum()
    assert given_id.isascii()


@given(name=TEXT, kind=st.sampled_from(KINDS), other=st.sampled_from(KINDS))
def test_an_id_is_of_one_kind(name: str, kind: str, other: str) -> None:
    """An event's id is no meter's."""
    if kind != other:
        assert name_of(other, id_of(kind, name)) is None


@given(kind=st.sampled_from(KINDS), given_id=st.text(max_size=40) | st.from_regex(r"mtr_[\w=+/-]*", fullmatch=True))
def test_what_is_no_id_is_none(kind: str, given_id: str) -> None:
    """Whatever comes: it is an id, to the letter, or it is none."""
    name = name_of(kind, given_id)
    assert name is None or id_of(kind, name) == given_id


@pytest.mark.parametrize(
    "given_id", ["", "mtr", "mtr_=", "mtr_YQ==", "mtr_YR", "mtr_Y Q", "mtr_YQ\n", "YQ", "mtr_/w", "mtr__w"]
)
def test_one_name_has_one_id(given_id: str) -> None:
    """Other ways of writing it, of which base64 has many, are none."""
    assert name_of(METER, given_id) is None
