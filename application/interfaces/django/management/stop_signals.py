"""Commands that run until Ctrl-C or SIGTERM."""

from signal import SIGINT, SIGTERM, signal
from threading import Event


def stop_on_signals() -> Event:
    """Return an event that Ctrl-C and SIGTERM set, instead of ending the process."""
    stop = Event()

    def request_stop(_signal: int, _frame: object) -> None:
        stop.set()

    for number in (SIGINT, SIGTERM):
        signal(number, request_stop)
    return stop
