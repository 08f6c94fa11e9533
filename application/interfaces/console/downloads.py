"""Writes the downloads of views to temporary files."""

import os
import tempfile
from io import TextIOWrapper
from typing import IO, cast

from ..http.downloads import WrittenDownload
from .responses import Download, FileDownload

_SPOOL_BYTES = 1024 * 1024


def write_download(download: Download | FileDownload) -> WrittenDownload:
    """Write a download to a temporary file, in memory if it is short."""
    file = cast(IO[bytes], tempfile.SpooledTemporaryFile(_SPOOL_BYTES))  # noqa: SIM115 - closed when it is sent
    try:
        if isinstance(download, FileDownload):
            file.writelines(download.parts)
        else:
            text = TextIOWrapper(file, "utf-8", newline="")
            download.write(text)
            text.flush()
            text.detach()
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return WrittenDownload(download.name, file, size, download.media_type)
