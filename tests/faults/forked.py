"""A child of this process, to be killed, to have less rights or less room; it ends without a trace in this one."""

import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any, NoReturn


def in_a_child(do: Callable[[], Any]) -> tuple[int, Any]:
    """Do something in a child; give the status it ended with (0 unless it was killed), and what it gave."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _end(do, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        said = told.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code != FAILED, said.decode()
    return code, pickle.loads(said) if said else None


FAILED = 70


def _end(do: Callable[[], Any], writing: int) -> NoReturn:
    """Do it, tell what it gave, and end: nothing of this process is to be tidied up by its child."""
    status = FAILED
    try:
        said = pickle.dumps(do())
        status = 0
    except BaseException:
        said = traceback.format_exc().encode()
    with os.fdopen(writing, "wb") as telling:
        telling.write(said)
    os._exit(status)
