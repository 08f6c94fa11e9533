"""Form bodies and query strings with brackets, as Stripe's SDKs and curl write them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application.server.forms import read_form
from tallybook.application.server.refusals import Refusal

READ = {
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
REFUSED = {
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
    "a[b][c][d][e][f]=1": "a[b][c][d][e][f]",
    "=1": "",
}


@pytest.mark.parametrize("text", READ)
def test_brackets_nest(text: str) -> None:
    """Names with brackets are mappings, percent-encoded or not; places in lists stay keys."""
    assert read_form(text) == READ[text]


@pytest.mark.parametrize("text", REFUSED)
def test_what_means_two_things_is_refused(text: str) -> None:
    """A name that can't be read, or that says two things, is named."""
    with pytest.raises(Refusal) as refusal:
        read_form(text)
    assert (refusal.value.status, refusal.value.error.param) == (400, REFUSED[text])


@pytest.mark.parametrize("text", ["%ff=1", "a=%ff", "a=%C3"])
def test_text_is_utf8(text: str) -> None:
    """Bytes that are no text are refused."""
    with pytest.raises(Refusal, match="UTF-8"):
        read_form(text)


def test_parameters_are_bounded() -> None:
    """A thousand parameters are enough."""
    assert len(read_form("&".join(f"a[{n}]=1" for n in range(1_000)))["a"]) == 1_000
    with pytest.raises(Refusal, match="1000"):
        read_form("&".join(f"a[{n}]=1" for n in range(1_001)))


@given(st.text(alphabet="ab01[]=&%+é\0 ", max_size=30))
def test_whatever_comes_is_read_or_refused(text: str) -> None:
    """Nothing else is raised."""
    with suppress(Refusal):
        assert isinstance(read_form(text), dict)
