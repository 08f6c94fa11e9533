"""One version of an object of a store, and what identifies it."""

from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

_IGNORED_STARTS = (".", "_")
"""Programs write temporary files and markers, such as _SUCCESS, under names that begin like this."""


class StoredObject(NamedTuple):
    """One version of an object, as it was listed. `key` is its path below the URL that was listed.

    With `is_skipped` it is found in a folder, and is a link that is not followed or a temporary file. With
    `has_invalid_name` it is a file whose name no object can have, and is not read.
    """

    url: str
    key: str
    e_tag: str | None
    version: str | None
    size: int
    is_skipped: bool = False
    has_invalid_name: bool = False

    @property
    def identity(self) -> str:
        """A digest that differs for each version of each object."""
        return _digest(f"{self.url}\n{self.e_tag}\n{self.version}\n{self.size}")

    @property
    def url_digest(self) -> str:
        """A digest that is the same for all versions of the object."""
        return _digest(self.url)

    @property
    def is_ignored(self) -> bool:
        """Whether this is no usage: a folder, a name that begins with a point or an underscore, or a skipped file."""
        return self.is_skipped or any(not part or part.startswith(_IGNORED_STARTS) for part in self.key.split("/"))


class ObjectChanged(Exception):
    """The object was replaced or deleted after it was listed."""


def is_outside(folder: Path, key: str) -> bool:
    """Return whether a path in a folder leads out of it by a symbolic link, or to nothing."""
    try:
        return not (folder / key).resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # it was deleted, or is a link to itself
        return True


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()
