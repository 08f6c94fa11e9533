"""The text of the program check.py: the parts in `checker/`, joined to one file."""

import hashlib
from functools import cache
from pathlib import Path

PARTS = ("signatures", "stored_events", "counting", "closings", "program")
"""The parts in the order in which they use each other."""
_HEADING = '''#!/usr/bin/env python3
"""Check an evidence pack of Tallybook, with Python 3.8 or later and nothing else installed.

    python -I -S check.py [PACK] [--key KEY] [--checkpoint FILE]

PACK is the zip file, or the folder that it was extracted to: that of this program by default. KEY is the public key of
the ledger, or a file with it, and FILE a file of checkpoints, from a source that you trust. The exit status is 0 if
everything holds, 1 if something was changed, and 2 for a wrong command line.
"""

from __future__ import annotations
'''


@cache
def check_program() -> bytes:
    """Return the program, which is the same in all packs of a version."""
    folder = Path(__file__).with_name("checker")
    return (_HEADING + "".join(_part((folder / f"{name}.py").read_text()) for name in PARTS)).encode()


@cache
def check_program_sha256() -> str:
    """Return the SHA-256 of the program."""
    return hashlib.sha256(check_program()).hexdigest()


def _part(source: str) -> str:
    """Return a part without its imports of other parts; its docstring becomes a comment."""
    docstring, *lines = source.split("\n")
    body = [line for line in lines if not line.startswith(("from .", "from __future__"))]
    return "\n\n# " + docstring.strip('"') + "\n".join(["", *body])
