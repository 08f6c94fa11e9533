"""The program of a process that reads a usage file for the process that started it.

It is run as a script and imports only the standard library at first. The arguments are the entries of `sys.path`.
Requests arrive pickled on standard input, and messages leave on standard output: see `reader_service.py`.
"""

import os
import sys
from importlib.util import find_spec, module_from_spec


def main() -> None:
    """Read files until standard input ends."""
    sys.path[:] = sys.argv[1:]
    messages = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints goes to standard error, because standard output holds messages
    for name in ("tallybook.application", "tallybook.domain"):
        _skip_names_of(name)
    from tallybook.application.usage_import.reader_service import serve  # noqa: PLC0415 - only with this sys.path

    serve(sys.stdin.buffer, messages)


def _skip_names_of(package: str) -> None:
    """Let the modules of a package be imported without the names that it exports, which takes 0.4 seconds."""
    spec = find_spec(package)
    assert spec is not None
    sys.modules[package] = module_from_spec(spec)  # which is not executed


if __name__ == "__main__":
    main()
