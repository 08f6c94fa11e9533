"""Commands that run until they are stopped."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def stop_on_signals() -> Generator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set, instead of ending the process."""
    stop = threading.Event()

    def request_stop(_signal: int, _frame: object) -> None:
        stop.set()

    previous_handlers = {
        signal_number: signal.signal(signal_number, request_stop) for signal_number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for signal_number, handler in previous_handlers.items():
            signal.signal(signal_number, handler)
