"""The encoding of a text file: given, or determined from its bytes if that is possible without a doubt."""

import codecs
import io
import re
from typing import BinaryIO

from ...domain.errors import InvalidParameter
from ...domain.text import abbreviated_repr

UTF_8 = "utf-8"
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_WITH_MARK = {"utf-8": "utf-8-sig"}
_WESTERN = frozenset("ÄÖÜäöüßéçëîôâÉÇ€§°\xa0".encode("cp1252"))
"""Bytes that are the same character in the Windows code pages 1250, 1252, 1254 and 1257, and improbable in others."""
_ASCII = bytes(range(0x80))
_FOREIGN_WORD = re.compile(rb"[\x80-\xff]{3}")
_CHUNK_BYTES = 1 << 20
_TEXT_CHUNK_BYTES = 1 << 16
"""How much is read and decoded together. Python's 8 KB would tell a caller of progress too often."""


def encoding_of(name: str) -> str:
    """Return the name of an encoding that Python knows and can read and write files in. Raise InvalidParameter."""
    try:
        used = codecs.lookup(name).name
        io.TextIOWrapper(io.BytesIO(), used, "backslashreplace").write("a")  # as files of rejected rows are written
        return used  # noqa: TRY300 - both lines can raise
    except (LookupError, ValueError):  # hex and others that are not of text, and those that only encode host names
        raise InvalidParameter(
            f"'encoding' {abbreviated_repr(name)} is unknown; known are utf-8, utf-16, windows-1252, iso-8859-15 and "
            "others that Python has.",
            field="encoding",
            value=name,
        ) from None


def marked_encoding(first_bytes: bytes) -> str | None:
    """Return the encoding that a byte order mark names; None if there is none."""
    return next((encoding for mark, encoding in _BYTE_ORDER_MARKS.items() if first_bytes.startswith(mark)), None)


def is_western(file: BinaryIO) -> bool:
    """Return whether a file that is not UTF-8 is certainly text in Windows-1252.

    That is so if all bytes above ASCII are letters of German and French that other encodings of Windows have at the
    same place, in words with other letters. Statistical detection is no help: of short texts it guesses wrongly.
    """
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        if not _WESTERN.issuperset(chunk.translate(None, _ASCII)) or _FOREIGN_WORD.search(chunk):
            return False
    return True


class DecodedText(io.TextIOWrapper):
    """Reads a file as text, and leaves it open so that it can be read again."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        super().__init__(file, encoding=_WITH_MARK.get(encoding, encoding), newline="")
        self._CHUNK_SIZE = _TEXT_CHUNK_BYTES

    def __exit__(self, *_: object) -> None:
        if not self.closed:
            self.detach()
