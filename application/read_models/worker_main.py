"""The program of a worker process: call functions for the process that started it.

It is run as a script and imports only the standard library, because importing `tallybook.application` takes longer than
the rest of the start. The arguments are the entries of `sys.path`. Functions arrive pickled on standard input; their
results leave pickled on standard output.
"""

import os
import pickle
import sys
from contextlib import suppress

READY_MESSAGE = b"a worker of Tallybook is ready\n"


def main() -> None:
    """Answer calls until standard input ends."""
    sys.path[:] = sys.argv[1:]
    responses = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a function prints goes to standard error, because standard output holds results
    responses.write(READY_MESSAGE)
    responses.flush()
    with suppress(EOFError, BrokenPipeError, pickle.UnpicklingError):  # the parent process is gone
        while True:
            function, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301 - the pipe of the parent process
            pickle.dump(function(*arguments), responses, pickle.HIGHEST_PROTOCOL)
            responses.flush()


if __name__ == "__main__":
    main()
