"""How many rows of a Parquet file are decoded at once, and which columns of text as dictionaries.

A small file can have rows of any size: a text of a megabyte that a million rows share, texts that share prefixes, or
pages of a gigabyte that are compressed to a kilobyte. So the pages of each row group are measured before they are read.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, BinaryIO, NamedTuple

from .formats import MAX_ROW_BYTES, MalformedFile
from .parquet_pages import DELTA_BYTE_ARRAY, DELTA_ENCODINGS, DICTIONARY_ENCODINGS, Page, read_pages
from .table_rows import import_library

MAX_RESIDENT_BYTES = 512 << 20
"""A row group is rejected if its pages and dictionaries take more memory at the same time."""
_MAX_BATCH_ROWS, _MAX_BATCH_BYTES = 1_000, MAX_ROW_BYTES
_SHORT_TEXT_BYTES = 1_000
"""Longer texts stay in their dictionary, so that rows share them."""
_CELL_BYTES, _ENTRY_BYTES, _LENGTH_BYTES, _LIST_BYTES = 32, 32, 16, 16
"""What a cell, an entry of a dictionary, a value in a page of deltas and a value in a list take besides their text."""
_DICTIONARY_COPIES = 4
_PAGE_BYTES = 1_000
"""A dictionary is in its page, in a decoder, in the dictionary of a reader, and in what that returns."""


class Leaf(NamedTuple):
    """A column without columns in it: its schema, and whether it can be and is read as a dictionary."""

    schema: Any
    is_text: bool
    is_dictionary: bool


class RowGroup(NamedTuple):
    """How to read a row group: the number of rows of a batch, and the paths of texts that are read as dictionaries."""

    number: int
    batch_rows: int
    dictionary_paths: frozenset[str]


class _Chunk:
    """The column chunk of a leaf, as the headers of its pages describe it."""

    def __init__(self, leaf: Leaf, pages: Sequence[Page]) -> None:
        self.leaf = leaf
        self.dictionary = pages[0] if pages and pages[0].is_dictionary else None
        self.pages = pages[self.dictionary is not None :]
        if any(page.is_dictionary for page in self.pages):
            raise MalformedFile("it is corrupted: a column chunk has a dictionary after other pages")
        encodings = [page.encoding for page in self.pages if page.values]
        self.begins_with_dictionary = bool(encodings) and encodings[0] in DICTIONARY_ENCODINGS
        self.is_dictionary_only = DICTIONARY_ENCODINGS.issuperset(encodings)
        self.is_repeated: bool = leaf.schema.max_repetition_level > 0  # a row has any number of its values
        has_deltas = not DELTA_ENCODINGS.isdisjoint(encodings)  # which can't be read as a dictionary
        self.as_dictionary = leaf.is_dictionary or (self.is_repeated and leaf.is_text and not has_deltas)
        self._longest_text: int | None = None

    def measure_texts(self, with_dictionaries: Any, row_group: int) -> None:
        """Read the dictionary if texts in it may be long: then they stay there, or their length is known.

        Pages that follow without it would be added to it. Raises MalformedFile.
        """
        if (
            self.dictionary is None
            or self.dictionary.size <= _SHORT_TEXT_BYTES
            or self.as_dictionary
            or self.is_repeated
        ):
            return
        if self.leaf.is_text and self.begins_with_dictionary:
            self._longest_text = _longest_text(with_dictionaries, row_group, self.leaf.schema.path)
        longest = self._longest_text or 0
        if longest > MAX_ROW_BYTES:
            raise MalformedFile(f"it has a row of over {MAX_ROW_BYTES:,} bytes")
        self.as_dictionary = self.is_dictionary_only and longest > _SHORT_TEXT_BYTES

    def resident_bytes(self) -> int:
        """Return the memory for pages and dictionary: a page at a time, but all if any row can need all."""
        sizes = [page.size + page.values * _LENGTH_BYTES * (page.encoding in DELTA_ENCODINGS) for page in self.pages]
        is_added_to_dictionary = self.as_dictionary and not self.is_dictionary_only
        size = sum(sizes) if self.is_repeated or is_added_to_dictionary else max(sizes, default=0)
        if self.is_repeated:
            size += sum(page.values * (_LIST_BYTES + self.shared_bytes(page)) for page in self.pages)
        if self.dictionary is not None:
            size += self.dictionary.size * _DICTIONARY_COPIES + self.dictionary.values * _ENTRY_BYTES
        return size

    def shared_bytes(self, page: Page) -> int:
        """Return the most that a value of a page takes of what is in the file once for many values."""
        if page.encoding == DELTA_BYTE_ARRAY:
            return page.size
        if self.as_dictionary or self.dictionary is None or page.encoding not in DICTIONARY_ENCODINGS:
            return 0
        if self.leaf.schema.physical_type != "BYTE_ARRAY":
            return self.leaf.schema.length
        return self.dictionary.size if self._longest_text is None else self._longest_text

    def row_bytes(self) -> int:
        """Return what a row adds to a batch: at most what values share, and of the rest the largest mean of a page."""
        if self.is_repeated:
            return _CELL_BYTES
        means = [page.size // page.values for page in self.pages if page.values]
        return _CELL_BYTES + max(means, default=0) + max(map(self.shared_bytes, self.pages), default=0)


def check_unpacked_size(file: BinaryIO, metadata: Any, max_bytes: int) -> None:
    """Raise MalformedFile if the pages of a file take more bytes without compression. Each takes 1 kB more here.

    A page can have one value in 20 bytes, and its header takes as long to read as that of a page of a megabyte.
    """
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    chunks = (group.column(column) for group in groups for column in range(group.num_columns))
    sizes = accumulate(page.size + _PAGE_BYTES for chunk in chunks for page in read_pages(file, chunk))
    if any(size > max_bytes for size in sizes):
        raise MalformedFile(f"it takes over {max_bytes:,} bytes when it is unpacked")


def plan_row_groups(file: BinaryIO, leaves: Sequence[Leaf], with_dictionaries: Any) -> Iterator[RowGroup]:
    """Return how to read each row group of a file. Raises MalformedFile if one does not fit in memory.

    `with_dictionaries` is the file, opened so that all columns of text are read as dictionaries.
    """
    metadata = with_dictionaries.metadata
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        chunks = [_Chunk(leaf, list(read_pages(file, group.column(column)))) for column, leaf in enumerate(leaves)]
        size = sum(chunk.resident_bytes() for chunk in chunks)
        if size > MAX_RESIDENT_BYTES:
            raise MalformedFile(
                f"its row group {index + 1} takes {size:,} bytes of memory; the limit is {MAX_RESIDENT_BYTES:,}. "
                "Write it with smaller pages or row groups"
            )
        for chunk in chunks:
            chunk.measure_texts(with_dictionaries, index)
        row_bytes = sum(chunk.row_bytes() for chunk in chunks)
        if row_bytes > MAX_RESIDENT_BYTES:
            raise MalformedFile(f"it has a row of over {MAX_ROW_BYTES:,} bytes")
        batch_rows = min(max(_MAX_BATCH_BYTES // max(row_bytes, 1), 1), _MAX_BATCH_ROWS)
        yield RowGroup(index, batch_rows, frozenset(chunk.leaf.schema.path for chunk in chunks if chunk.as_dictionary))


def _longest_text(with_dictionaries: Any, row_group: int, path: str) -> int | None:
    """Return the length of the longest text of a dictionary, which a reader has at the first row. None if unclear."""
    compute: Any = import_library("pyarrow.compute")
    batches = with_dictionaries.iter_batches(1, row_groups=[row_group], columns=[path], use_threads=False)
    columns = next(batches).columns
    while len(columns) == 1 and columns[0].type.num_fields:
        columns = columns[0].flatten()
    if len(columns) != 1 or not hasattr(columns[0], "dictionary"):
        return None  # another column has this path too
    return compute.max(compute.binary_length(columns[0].dictionary)).as_py()
