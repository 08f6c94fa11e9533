"""The command line."""

import sys

from .output import OutputError, check_output

INSTALL_HINT = "The command line needs an extra: pip install 'tallybook[cli]'"
_EXTRA_PACKAGES = {"typer", "rich", "click"}


def main() -> None:
    """Run the command line.

    Exit status: 0 success, 1 error or difference, 2 invalid command line, 130 ended by Ctrl-C.
    """
    sys.stdout = check_output()
    try:
        from .app import app  # noqa: PLC0415 - reports a missing extra

        app(prog_name="tallybook")
    except KeyboardInterrupt:  # before a command has started, which takes a moment for its imports
        sys.stderr.write("tallybook: interrupted: Interrupted.\n")
        sys.exit(130)
    except OutputError as error:
        if not error.is_closed_pipe:  # a program that has read enough, like head, is no error to report
            sys.stderr.write(f"tallybook: output_error: The output could not be written: {error}.\n")
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA_PACKAGES:
            raise
        sys.stderr.write(f"{INSTALL_HINT}\n")
        sys.exit(2)
