"""What a view returns: a page, a redirect or a download."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TextIO


@dataclass(frozen=True, slots=True)
class Page:
    """A page to render: the template and its values."""

    template: str
    values: Mapping[str, object] = field(default_factory=dict[str, object])
    status: int = 200


@dataclass(frozen=True, slots=True)
class Redirect:
    """A redirect to another page of the console."""

    location: str


@dataclass(frozen=True, slots=True)
class Data:
    """JSON for the script of a page."""

    value: object


@dataclass(frozen=True, slots=True)
class Download:
    """A file of any size. `write` writes it as text, in the thread of the query."""

    name: str
    write: Callable[[TextIO], None]
    media_type: str = "text/csv; charset=utf-8"


@dataclass(frozen=True, slots=True)
class FileDownload:
    """A file that is stored in parts."""

    name: str
    parts: Iterable[bytes]
    media_type: str = "application/octet-stream"


ViewResult = Page | Redirect | Data | Download | FileDownload
