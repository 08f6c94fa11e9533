"""Multi-worker mode: a supervisor starts worker processes and replaces those that end."""

import asyncio
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from socket import socket
from tempfile import TemporaryDirectory

from prometheus_client import multiprocess

from ..settings import ServerSettings
from .worker import READY

METRICS_DIR_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable with the directory of the metrics that the workers share."""
WORKER_MODULE = f"{__package__}.worker"
_MIN_RESTART_DELAY, _MAX_RESTART_DELAY = 0.1, 10.0
_log = logging.getLogger("tallybook.server")


def supervise(
    settings: ServerSettings, listener: socket, *, ready: Callable[[], None], worker_module: str = WORKER_MODULE
) -> int:
    """Serve with several workers until SIGTERM or SIGINT, and return the exit status.

    A worker runs the module `worker_module`.
    """
    with TemporaryDirectory(prefix="tallybook-") as metrics_dir:
        return asyncio.run(_Supervisor(settings, listener, metrics_dir, worker_module).run(ready))


class _Supervisor:
    def __init__(self, settings: ServerSettings, listener: socket, metrics_dir: str, worker_module: str) -> None:
        self._settings = settings
        self._listener = listener
        self._metrics_dir = metrics_dir
        self._worker_module = worker_module
        self._shutdown_event = asyncio.Event()
        self._workers: set[Process] = set()
        self._statuses: list[int] = []

    async def run(self, ready: Callable[[], None]) -> int:
        """Run the configured number of workers until shutdown, and return the exit status."""
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signal_number, self._shutdown)
        start_tasks = [asyncio.create_task(self._start()) for _ in range(self._settings.workers)]
        workers = await asyncio.gather(*start_tasks)
        if all(workers) and not self._shutdown_event.is_set():
            ready()
        elif not self._shutdown_event.is_set():
            _log.error("A worker process did not start.")
            self._statuses.append(1)
            self._shutdown()
        await asyncio.gather(*(self._replace_dead_workers(worker) for worker in workers if worker is not None))
        return max(self._statuses, default=0)

    def _shutdown(self) -> None:
        """Terminate all workers; they finish accepted requests first."""
        self._shutdown_event.set()
        self._listener.close()
        for worker in self._workers:
            with suppress(ProcessLookupError):
                worker.terminate()

    async def _replace_dead_workers(self, worker: Process | None) -> None:
        """Replace a worker whenever it exits, until shutdown."""
        delay = _MIN_RESTART_DELAY
        while True:
            if worker is not None:
                status = await worker.wait()
                self._remove_worker(worker)
                if self._shutdown_event.is_set():
                    self._statuses.append(0 if status == 0 else 1)
                    return
                _log.error("Worker process %d exited with status %d; starting another one.", worker.pid, status)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._shutdown_event.wait(), delay)
            if self._shutdown_event.is_set():
                return
            worker = await self._start()
            delay = _MIN_RESTART_DELAY if worker is not None else min(2 * delay, _MAX_RESTART_DELAY)

    async def _start(self) -> Process | None:
        """Start a worker and return it when it is ready; None if it exited before."""
        if self._shutdown_event.is_set():
            return None
        descriptor = self._listener.fileno()
        try:
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self._worker_module, str(descriptor),
                stdin=PIPE, stdout=PIPE, pass_fds=[descriptor], start_new_session=True,
                env={**os.environ, METRICS_DIR_VARIABLE: self._metrics_dir},
            )  # fmt: skip
        except OSError as error:  # out of memory or processes; the other workers continue
            _log.error("A worker process cannot be started: %s", error)
            return None
        assert worker.stdin is not None
        assert worker.stdout is not None
        self._workers.add(worker)
        if self._shutdown_event.is_set():  # set while the process was starting
            worker.terminate()
        worker.stdin.write(f"{self._settings.model_dump_json()}\n".encode())
        if await worker.stdout.readline() == f"{READY}\n".encode():
            return worker
        await worker.wait()
        self._remove_worker(worker)
        return None

    def _remove_worker(self, worker: Process) -> None:
        self._workers.discard(worker)
        multiprocess.mark_process_dead(worker.pid, self._metrics_dir)  # pyright: ignore[reportUnknownMemberType]
