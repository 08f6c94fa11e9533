"""Identifiers of rows that have none: made from the content of a row and the number of its occurrence.

So a file that is imported again, also if it has grown or its rows have another order, adds the rows that are new.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from .formats import REASON_COLUMNS
from .json_rows import NestedCell

_DIGEST_BYTES = 15
_OTHER_CHARACTERS = re.compile(r"[^0-9A-Za-z:.+-]")
_MAX_START_LENGTH = 25
_SEPARATOR = "\x1f"


class RowNames:
    """Names the rows of one import.

    Equal rows are different meter events: the second one is its own occurrence. Rows of other files with the same
    content are the same meter events, unless the files have different sources. The cells are taken as they are written,
    so that a row has the same name if it is read in another way. The name begins with the timestamp, so that
    identifiers are stored about in the order of the rows, which is faster.
    """

    def __init__(self, source: str, customer: str | None, columns: Sequence[str] | None) -> None:
        self._scope = f"{source}{_SEPARATOR}{customer or ''}"
        self._columns = None if columns is None else sorted(columns)
        self._seen = DigestSet()
        self._occurrences: dict[bytes, int] = {}

    def name(self, cells: Mapping[str, object], event_name: str, timestamp: object) -> str:
        """Return the identifier of the next row, whose timestamp is written as `timestamp`."""
        parts = [self._scope, event_name]
        for column in sorted(cells) if self._columns is None else self._columns:
            cell = cells[column]
            if cell is not None and cell != "" and column not in REASON_COLUMNS:
                parts += (column, cell if type(cell) is str else _text(cell))
        content = _SEPARATOR.join(parts).encode(errors="surrogatepass")
        digest = hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
        start = _OTHER_CHARACTERS.sub("", str(timestamp))[:_MAX_START_LENGTH]
        return f"row-{start}-{digest.hex()}-{self._occurrence(digest)}"

    def _occurrence(self, digest: bytes) -> int:
        """Return how often this content has occurred, this time included."""
        if self._seen.add(digest):
            return 1
        occurrence = self._occurrences[digest] = self._occurrences.get(digest, 1) + 1
        return occurrence


class DigestSet:
    """A set of digests that takes a quarter of the memory of a set of bytes.

    The digests that begin with the same two bytes are in one array, without these.
    """

    def __init__(self) -> None:
        self._by_start: defaultdict[bytes, bytearray] = defaultdict(bytearray)

    def add(self, digest: bytes) -> bool:
        """Add a digest. Return whether it was not there yet."""
        rest, others = digest[2:], self._by_start[digest[:2]]
        at = others.find(rest)
        while at > 0 and at % len(rest):  # it was found across two others
            at = others.find(rest, at + 1)
        if at >= 0:
            return False
        others += rest
        return True


def _text(cell: object) -> str:
    """Return the text of a cell that isn't text: equal for equal values."""
    if not isinstance(cell, NestedCell):
        return str(cell)
    try:
        return json.dumps(cell.values, sort_keys=True, default=str)
    except RecursionError:
        return repr(cell)
