"""A position of its own in a file that another process reads too."""

import errno
import io
import os
from pathlib import Path

import pytest
from tallybook.application.usage_import.sources import OwnPosition


def test_it_reads_as_an_opened_file_does(tmp_path: Path) -> None:
    """Whatever the position of the descriptor is, which it doesn't move."""
    path = tmp_path / "usage.csv"
    path.write_bytes(bytes(range(256)) * 100)
    with path.open("rb") as opened, path.open("rb") as expected:
        opened.seek(77)
        reader = io.BufferedReader(OwnPosition(opened.fileno()))
        for offset, whence, size in (
            (0, os.SEEK_SET, 10),
            (5, os.SEEK_CUR, 3),
            (-20, os.SEEK_END, 100),
            (100, os.SEEK_END, 5),
            (25_000, os.SEEK_SET, -1),
        ):
            assert reader.seek(offset, whence) == expected.seek(offset, whence)
            assert (reader.read(size), reader.tell()) == (expected.read(size), expected.tell())
        with pytest.raises(OSError, match="Invalid argument") as raised:
            reader.seek(-1)
        assert raised.value.errno == errno.EINVAL
        assert os.lseek(opened.fileno(), 0, os.SEEK_CUR) == 77
        assert os.fstat(reader.fileno()).st_size == 25_600
