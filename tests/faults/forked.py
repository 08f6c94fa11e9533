"""Runs a function in a forked child process, which can be killed or run with fewer rights or less disk space."""

import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any, NoReturn


def run_in_child(function: Callable[[], Any]) -> tuple[int, Any]:
    """Run a function in a child; return its exit status (0 unless it was killed) and the result of the function."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _run_and_exit(function, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code != FAILED_STATUS, data.decode()
    return code, pickle.loads(data) if data else None


FAILED_STATUS = 70


def _run_and_exit(function: Callable[[], Any], writing: int) -> NoReturn:
    """Send the result to the parent and exit without cleanup, since the resources belong to the parent."""
    status = FAILED_STATUS
    try:
        data = pickle.dumps(function())
        status = 0
    except BaseException:
        data = traceback.format_exc().encode()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(data)
    os._exit(status)
