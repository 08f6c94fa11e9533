"""Form bodies and query strings with brackets, as Stripe's SDKs and curl write them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application.interfaces.http.errors import ApiError
from tallybook.application.interfaces.http.parameters import parse_form

PARSED_FORMS = {
    "": {},
    "a=1&b=2": {"a": "1", "b": "2"},
    "a=": {"a": ""},
    "payload[value]=5&payload[stripe_customer_id]=cus_1": {"payload": {"value": "5", "stripe_customer_id": "cus_1"}},
    "payload%5Bvalue%5D=5": {"payload": {"value": "5"}},
    "payload[a b]=x+y&payload[c.d]=%C3%A9": {"payload": {"a b": "x y", "c.d": "é"}},
    "a[b][c][d]=1": {"a": {"b": {"c": {"d": "1"}}}},
    "expand[0]=a&expand[1]=b": {"expand": {"0": "a", "1": "b"}},
    "expand[]=a&expand[]=b": {"expand": {"": ["a", "b"]}},
    "payload[0]=a": {"payload": {"0": "a"}},
}
REJECTED_FORMS = {
    "a=1&a=2": "a",
    "a[b]=1&a[b]=2": "a[b]",
    "a=1&a[b]=2": "a[b]",
    "a[b]=1&a=2": "a",
    "a[=1": "a[",
    "a]=1": "a]",
    "[a]=1": "[a]",
    "a[b]c=1": "a[b]c",
    "a[b[c]]=1": "a[b[c]]",
    "a[][b]=1": "a[][b]",
    "a[][b]=1&a[]=2": "a[][b]",
    "a[]=1&a[][b]=2": "a[][b]",
    f"a{'[b]' * 11}=1": f"a{'[b]' * 11}",
    "=1": "",
}


@pytest.mark.parametrize("text", PARSED_FORMS)
def test_brackets_nest(text: str) -> None:
    """Names with brackets become mappings, percent-encoded or not; list indexes stay keys."""
    assert parse_form(text) == PARSED_FORMS[text]


@pytest.mark.parametrize("text", REJECTED_FORMS)
def test_ambiguous_input_is_rejected(text: str) -> None:
    """The error names a malformed or ambiguous parameter."""
    with pytest.raises(ApiError) as exc_info:
        parse_form(text)
    assert (exc_info.value.status, exc_info.value.error.param) == (400, REJECTED_FORMS[text])


@pytest.mark.parametrize("text", ["%ff=1", "a=%ff", "a=%C3"])
def test_text_is_utf8(text: str) -> None:
    """Other bytes are an error."""
    with pytest.raises(ApiError, match="UTF-8"):
        parse_form(text)


def test_parameters_are_limited() -> None:
    """To a thousand."""
    assert len(parse_form("&".join(f"a[{n}]=1" for n in range(1_000)))["a"]) == 1_000
    with pytest.raises(ApiError, match="1000"):
        parse_form("&".join(f"a[{n}]=1" for n in range(1_001)))


@given(st.text(alphabet="ab01[]=&%+é\0 ", max_size=30))
def test_any_input_is_parsed_or_rejected(text: str) -> None:
    """Nothing else is raised."""
    with suppress(ApiError):
        assert isinstance(parse_form(text), dict)


def test_a_long_name_is_not_repeated_in_the_error() -> None:
    """A body may consist of one name."""
    with pytest.raises(ApiError) as exc_info:
        parse_form("a" * 1_000_000 + "=1")
    assert exc_info.value.error.message == "A parameter name has more than 500 characters."
    assert len(exc_info.value.error.param) == 200
