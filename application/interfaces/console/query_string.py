"""Parameters of the console's URLs and forms."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast
from urllib.parse import parse_qsl, quote, urlencode

from ..http.errors import ApiError

CONSOLE_PATH = "/console"
MAX_FIELDS = 200


class Parameters:
    """The fields of a query string or of a form; empty ones are absent.

    What a person types is read without surrounding spaces. A name that the ledger stores, such as that of a customer,
    is read exactly: another one may differ by a space alone.
    """

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in fields:
            if value:
                self._values.setdefault(name, []).append(value)

    @classmethod
    def parse(cls, text: str) -> "Parameters":
        """Return the fields of URL-encoded text. Raises ApiError if there are too many."""
        try:
            return cls(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
        except ValueError:
            raise ApiError(400, f"There are more than {MAX_FIELDS} fields.") from None

    def __repr__(self) -> str:
        return f"Parameters({self._values!r})"

    def get(self, name: str, default: str = "") -> str:
        """Return the last value of a field without surrounding spaces; the default if it is absent."""
        return self.exact(name).strip() or default

    def optional(self, name: str) -> str | None:
        """Return the last value of a field; None if it is absent."""
        return self.get(name) or None

    def exact(self, name: str) -> str:
        """Return the last value of a field as it is; empty if it is absent."""
        return self._values.get(name, [""])[-1]

    def all(self, name: str) -> Sequence[str]:
        """Return all values of a field as they are."""
        return self._values.get(name, [])

    def is_set(self, name: str) -> bool:
        """Return whether a field is present."""
        return name in self._values

    def number(self, name: str, default: int, maximum: int = 10**9) -> int:
        """Return a field as a whole number from 0 to `maximum`; the default if it is absent or not one."""
        text = self.get(name)
        return min(int(text), maximum) if text.isdecimal() and len(text) < 19 else default  # noqa: PLR2004


def build_url(path: str, params: Mapping[str, object]) -> str:
    """Return a URL with the parameters that are not None, False or empty; a list has several values."""
    pairs: list[tuple[str, str]] = []
    for name, value in params.items():
        values = cast(Iterable[object], value) if isinstance(value, list | tuple) else [value]
        pairs += [(name, "1" if item is True else str(item)) for item in values if item not in (None, False, "")]
    return f"{quote(path, safe='/')}?{urlencode(pairs)}" if pairs else quote(path, safe="/")


def console_url(path: str, **params: object) -> str:
    """Return the URL of a page of the console."""
    return build_url(CONSOLE_PATH + path, params)


def local_page(page: str) -> str:
    """Return the page to go to, if it is one of the console; otherwise the start."""
    is_local = page.startswith(f"{CONSOLE_PATH}/") and not any(character in page for character in "\\\r\n")
    return page if is_local else f"{CONSOLE_PATH}/"
