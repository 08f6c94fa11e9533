"""The command `tallybook`, which `python -m tallybook` runs too."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C ends it like any command while its modules are imported, which takes a moment."""
    try:
        from .application.interfaces.cli import main as run  # noqa: PLC0415 - the import can be interrupted
    except KeyboardInterrupt:
        sys.stderr.write("tallybook: interrupted: Interrupted.\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
