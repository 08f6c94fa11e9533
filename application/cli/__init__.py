"""The command line: the calls of Metering with the same words."""

import sys

INSTALL = "The command line needs its extra: pip install 'tallybook[cli]'"
_EXTRA = {"typer", "rich", "click", "ijson"}


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 refused or differs, 2 wrong usage."""
    try:
        from .commands import app  # noqa: PLC0415 - only here can its absence be told

        app(prog_name="tallybook")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(f"{INSTALL}\n")
        sys.exit(2)
