"""The cache of decoded texts: how much it holds, and that revisions share their rules."""

from collections.abc import Callable

import pytest
from tallybook.application.storage.row_codec import decode_history, encode_history
from tallybook.application.storage.text_cache import cache_by_text
from tallybook.domain.rules import Rules
from tallybook.projections.models import RulesRevision


@pytest.fixture
def decoded() -> list[str]:
    """Return the texts that were decoded, in order."""
    return []


@pytest.fixture
def decode(decoded: list[str]) -> Callable[[str, str | None], list[str]]:
    """Return a function that decodes a text, and caches results for ten characters."""

    @cache_by_text(10)
    def decode_text(text: str, other: str | None) -> list[str]:
        decoded.append(text)
        return [text, other or ""]

    return decode_text


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["aaa", "bbb", "aaa", "bbb"], ["aaa", "bbb"]),
        (["aaaaa", "bbbbb", "aaaaa"], ["aaaaa", "bbbbb"]),
        (["aaaaa", "bbbbbb", "bbbbbb", "aaaaa"], ["aaaaa", "bbbbbb", "aaaaa"]),
        (["aaa", "bbb", "ccccc", "aaa", "aaa", "bbb"], ["aaa", "bbb", "ccccc", "aaa", "bbb"]),
        (["a" * 99, "a" * 99, "b", "a" * 99], ["a" * 99, "b", "a" * 99]),
    ],
    ids=["fits", "the limit", "too long for both", "takes the place of all", "longer than the limit"],
)
def test_texts_are_cached_up_to_a_length(
    decode: Callable[[str, str | None], list[str]], decoded: list[str], texts: list[str], expected: list[str]
) -> None:
    """The others are decoded again."""
    assert [decode(text, None)[0] for text in texts] == texts
    assert decoded == expected


def test_all_texts_are_the_key(decode: Callable[[str, str | None], list[str]]) -> None:
    """A meter is decoded from several columns."""
    assert [decode("a", "b"), decode("a", None), decode("a", "b")] == [["a", "b"], ["a", ""], ["a", "b"]]


def test_the_histories_of_a_meter_share_their_rules() -> None:
    """Each change stores the whole history again."""
    rules, changed = Rules(), Rules(value_key="tokens")
    first = (RulesRevision(1, rules, 1, 0),)
    second = (*first, RulesRevision(2, changed, 2, 0))
    histories = [decode_history(encode_history(history)) for history in (first, second)]
    assert histories == [first, second]
    assert histories[0][0].rules is histories[1][0].rules
