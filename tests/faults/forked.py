"""A child of this process, to be killed, to have less rights or less room; it ends without a trace in this one."""

import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any, NoReturn


def run_in_child(function: Callable[[], Any]) -> tuple[int, Any]:
    """Do something in a child; give the status it ended with (0 unless it was killed), and what it gave."""
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
    """Do it, tell what it gave, and end: nothing of this process is to be tidied up by its child."""
    status = FAILED_STATUS
    try:
        data = pickle.dumps(function())
        status = 0
    except BaseException:
        data = traceback.format_exc().encode()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(data)
    os._exit(status)
