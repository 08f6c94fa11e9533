"""The headers of the pages of a Parquet file: how much memory a page takes is known before it is read.

The sizes in the metadata of a file can be wrong. A reader allocates what the headers of the pages say.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from .formats import MalformedFile

DICTIONARY_ENCODINGS, DELTA_BYTE_ARRAY, DELTA_ENCODINGS = frozenset({2, 8}), 7, frozenset({6, 7})
"""Encodings as Parquet numbers them: by a dictionary, by texts that share prefixes, and all with a list of lengths."""
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_HEADER_FIELDS = {_DATA_PAGE: (5, 2), _DICTIONARY_PAGE: (7, 2), _DATA_PAGE_V2: (8, 4)}
"""The field with the header of a kind of page, and the field of the encoding in it. The first field is the count."""
_FIRST_READ, _MAX_HEADER_BYTES = 512, 16 << 20
_MAX_DEPTH = 8
_Fields = dict[int | None, Any]
_PADDING = 100
"""Column chunks of old programs have up to this number of bytes more than their metadata says."""


class Page(NamedTuple):
    """A page of a column chunk. `size` is its number of bytes without compression."""

    is_dictionary: bool
    encoding: int
    values: int
    size: int


def read_pages(file: BinaryIO, chunk: Any) -> Iterator[Page]:
    """Return the pages of a column chunk, given its metadata, as pyarrow reads them. Raises MalformedFile."""
    position = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < position:
        position = chunk.dictionary_page_offset
    end = position + chunk.total_compressed_size + _PADDING
    values = 0
    while values < chunk.num_values and position < end:
        header, length = _read_header(file, position)
        kind, size, stored_size = (_natural(header, field) for field in (1, 2, 3))
        position += length + stored_size
        if position > end:
            raise MalformedFile("it is corrupted: a page is longer than its column chunk")
        field, encoding_field = _HEADER_FIELDS.get(kind, (None, 0))
        if not isinstance(header.get(field), dict):
            raise MalformedFile("it is corrupted: a page is of an unknown kind")
        fields: _Fields = header[field]
        page = Page(
            kind == _DICTIONARY_PAGE, _natural(fields, encoding_field), _natural(fields, 1), max(size, stored_size)
        )
        if not page.is_dictionary:
            if not page.values:
                raise MalformedFile("it is corrupted: a page has no values")
            values += page.values
        yield page


def _natural(fields: _Fields, field: int) -> int:
    value = fields.get(field)
    if not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise MalformedFile("it is corrupted: the header of a page is incomplete, or has a negative number")
    return value


def _read_header(file: BinaryIO, position: int) -> tuple[_Fields, int]:
    """Return the header at a position, and its length. It has no length of its own, and statistics of any length."""
    size = _FIRST_READ
    while True:
        file.seek(position)
        content = file.read(size)
        reader = _CompactReader(content)
        try:
            return reader.struct(), reader.position
        except IndexError:
            if len(content) < size or size >= _MAX_HEADER_BYTES:
                raise MalformedFile("it is corrupted: the header of a page is incomplete") from None
            size *= 8


_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = (*range(1, 9), 12)


class _CompactReader:
    """Reads structs in Apache Thrift's compact protocol: their 32-bit integers and structs. Other fields are None.

    See https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.position = 0

    def struct(self, depth: int = 0) -> _Fields:
        """Return the fields of a struct by number. Raise IndexError if the content ends before, and MalformedFile.

        Also if a field occurs twice: programs differ in which one they use.
        """
        if depth > _MAX_DEPTH:
            raise MalformedFile("it is corrupted: the header of a page is nested too deeply")
        fields: _Fields = {}
        field = 0
        while kind_and_delta := self._byte():
            delta, kind = divmod(kind_and_delta, 16)
            field = field + delta if delta else self._zigzag()
            if field in fields:
                raise MalformedFile("it is corrupted: the header of a page has a field twice")
            fields[field] = self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind == _I32:
            return self._zigzag()
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_I16, _I64):
            self._varint()
        elif kind == _BINARY:
            self._skip(self._varint())
        elif kind in (_BYTE, _DOUBLE):
            self._skip(1 if kind == _BYTE else 8)
        elif kind not in (_TRUE, _FALSE):
            raise MalformedFile("it is corrupted: the header of a page has a field of another type")
        return None

    def _byte(self) -> int:
        byte = self._content[self.position]
        self.position += 1
        return byte

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte & 0x80 == 0:
                return value
        raise MalformedFile("it is corrupted: the header of a page has a number of over 64 bits")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, count: int) -> None:
        self.position += count
        if self.position > len(self._content):
            raise IndexError
