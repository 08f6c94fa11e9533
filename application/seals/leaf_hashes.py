"""The hash of every sealed event, in the order of positions, in a file beside the seals.

By it the first event that no longer matches is found, and proofs are made. It has to hash up to a sealed root, so it
needs no trust; it can be made again from a ledger that matches its seals.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...domain.errors import InvalidSealFile
from .merkle import HASH_BYTES, Tree

PAGE = 10_000


class LeafHashes:
    """A file of 32 bytes for each event; what is more than whole hashes at its end is left over from a crash."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def beside(cls, seals: Path) -> "LeafHashes":
        """Those that belong to a file of seals."""
        return cls(seals.with_name(f"{seals.name}.leaves"))

    def pages(self, start: int, end: int) -> Iterator[list[bytes]]:
        """The hashes from the index `start` to before `end`, or fewer where the file is shorter or missing."""
        try:
            with self.path.open("rb") as file:
                file.seek(start * HASH_BYTES)
                for first in range(start, end, PAGE):
                    data = file.read((min(first + PAGE, end) - first) * HASH_BYTES)
                    yield [data[at : at + HASH_BYTES] for at in range(0, len(data) - HASH_BYTES + 1, HASH_BYTES)]
        except FileNotFoundError:
            return
        except OSError as error:
            raise _refusal(self.path, error) from error

    def root_of(self, start: int, end: int) -> bytes:
        """The root of the leaves from the index `start` to before `end`. Raises InvalidSealFile if any is missing."""
        tree = Tree()
        for page in self.pages(start, end):
            tree.extend(page)
        if tree.size != end - start:
            raise InvalidSealFile(
                f"{self.path} is missing or too short; 'tallybook seal' makes it again.", field="file", value=self.path
            )
        return tree.root()

    def replace_from(self, index: int, pages: Iterable[list[bytes]]) -> None:
        """Keep the first `index` hashes and write these after them; on disk when this returns.

        Where the pages raise, a file that wasn't there is removed again.
        """
        is_new = not self.path.exists()
        try:
            with self.path.open("w+b" if is_new else "r+b") as file:
                file.truncate(index * HASH_BYTES)
                file.seek(index * HASH_BYTES)
                for page in pages:
                    file.write(b"".join(page))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _refusal(self.path, error) from error
        except BaseException:
            if is_new:
                self.path.unlink(missing_ok=True)
            raise


def _refusal(path: Path, error: OSError) -> InvalidSealFile:
    return InvalidSealFile(f"{path} can't be used: {error.strerror}.", field="file", value=path)
