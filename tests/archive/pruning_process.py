"""`python -m tests.archive.pruning_process URL FOLDER`: prunings that are killed.

For each line of the input, `STEP SECONDS`, a forked process prunes the ledger, and is killed SECONDS after it begins
its step STEP: the first step stores the event HistoryPruned, the others replace states. A line of output follows.
"""

import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from tallybook.application import Metering
from tallybook.application.archive import pruning

from ..contract.histories import END
from ..notation import Clock
from .pruning import LIFTED, History

ROWS_PER_TRANSACTION = 25


def main() -> None:
    """Prune for each line of the input."""
    url, folder = sys.argv[1], Path(sys.argv[2])
    for module in ("archived_events", "locations", "verify"):  # before the fork, because importing them takes a second
        import_module(f"tallybook.application.archive.{module}")
    history = History(folder)
    pruning.ROWS_PER_TRANSACTION = ROWS_PER_TRANSACTION
    for line in sys.stdin:
        step, seconds = line.split()
        pid = os.fork()
        if pid == 0:
            _prune(url, history, int(step), float(seconds))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write("killed\n" if os.WIFSIGNALED(status) else "finished\n")
        sys.stdout.flush()


def _prune(url: str, history: History, kill_step: int, seconds: float) -> None:
    steps = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            nonlocal steps
            if steps == kill_step:
                signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))  # SIGALRM ends the process as SIGKILL does
            steps += 1
            return call(*arguments)

        return run

    with Metering.open(url, policy=LIFTED, clock=Clock(END)) as metering:
        ledger = metering._ledger  # pyright: ignore[reportPrivateUsage]
        ledger.append = counted(ledger.append)
        ledger.ledger_recorder.replace_states = counted(ledger.ledger_recorder.replace_states)
        history.prune(metering, keep=timedelta(0))


if __name__ == "__main__":
    main()
