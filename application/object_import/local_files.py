"""The files below a local folder, wherever its symbolic links lead."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_TEMPORARY_NAME = re.compile(r"#\d+$")
"""A file that obstore, or another program with the same library, is writing. It can't be read."""


class LocalFile(NamedTuple):
    """A file: its path below the folder, in which bytes that are not UTF-8 are surrogates.

    With `is_skipped`, it is a symbolic link that is not followed, or a temporary file.
    """

    key: str
    is_skipped: bool = False


def local_files(folder: Path) -> Iterator[LocalFile]:
    """Yield the files in a folder and in its folders. Raise OSError.

    A symbolic link is followed if it leads to a file or a folder below `folder`, but not to a folder that it is in, nor
    to one that another link has led to: links could lead back and forth for ever.
    """
    root = Path(os.path.realpath(folder))
    followed: set[Path] = set()
    folders: list[tuple[str, tuple[Path, ...]]] = [("", (root,))]
    while folders:
        prefix, parents = folders.pop()
        try:
            with os.scandir(folder / prefix) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:  # it was deleted after it was listed
            continue
        for entry in found:
            key, target = prefix + entry.name, parents[-1] / entry.name
            if entry.is_symlink():
                target = Path(os.path.realpath(entry.path))
                if not target.is_relative_to(root) or target.is_symlink() or target in (*parents, *followed):
                    yield LocalFile(key, is_skipped=True)
                    continue
            if target.is_dir():
                if entry.is_symlink():
                    followed.add(target)
                folders.append((f"{key}/", (*parents, target)))
            elif target.is_file():
                yield LocalFile(key, is_skipped=_TEMPORARY_NAME.search(key) is not None)
