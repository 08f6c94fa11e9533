"""Running a projection from the command line, until a signal ends it."""

import signal
import threading

from .session import Session
from .terminal import say
from .wording import number


def run_projection(session: Session) -> None:
    """Keep the read models up to date until Ctrl-C or SIGTERM, which end it in good order."""
    stop = threading.Event()

    def end(_sign: int, _frame: object) -> None:
        stop.set()

    before = {sign: signal.signal(sign, end) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        session.answer(
            {"position": session.metering.catch_up()},
            lambda reached: say(f"projecting: at position {number(reached['position'])}"),
        )
        session.metering.run_projection(stop)
        session.answer(
            {"position": session.metering.catch_up()},
            lambda reached: say(f"stopped: at position {number(reached['position'])}"),
        )
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
