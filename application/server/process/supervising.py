"""Supervising workers: they share one socket, each that dies is replaced, and all end with their supervisor."""

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

from .settings import ServerSettings
from .worker import READY

MEASURES = "PROMETHEUS_MULTIPROC_DIR"
"""The variable with the folder in which the workers count together."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_log = logging.getLogger("tallybook.server")


def supervise(settings: ServerSettings, listening: socket, *, ready: Callable[[], None]) -> int:
    """Serve with several workers until SIGTERM or SIGINT; give the exit status."""
    with TemporaryDirectory(prefix="tallybook-") as folder:
        return asyncio.run(_Supervisor(settings, listening, folder).run(ready))


class _Supervisor:
    def __init__(self, settings: ServerSettings, listening: socket, folder: str) -> None:
        self._settings = settings
        self._listening = listening
        self._folder = folder
        self._ending = asyncio.Event()
        self._running: set[Process] = set()
        self._statuses: list[int] = []

    async def run(self, ready: Callable[[], None]) -> int:
        """Keep as many workers as there are to be, until the end; give the exit status."""
        loop = asyncio.get_running_loop()
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, self._end)
        firsts = [asyncio.create_task(self._start()) for _ in range(self._settings.workers)]
        started = await asyncio.gather(*firsts)
        if all(started) and not self._ending.is_set():
            ready()
        elif not self._ending.is_set():
            _log.error("A worker could not start.")
            self._statuses.append(1)
            self._end()
        await asyncio.gather(*(self._keep(first) for first in started if first is not None))
        return max(self._statuses, default=0)

    def _end(self) -> None:
        """Have all workers answer what they accepted, and end."""
        self._ending.set()
        self._listening.close()
        for worker in self._running:
            with suppress(ProcessLookupError):
                worker.terminate()

    async def _keep(self, worker: Process | None) -> None:
        """Wait for a worker's end, and put another in its place, until all is to end."""
        pause = _SHORTEST_PAUSE
        while True:
            if worker is not None:
                status = await worker.wait()
                self._forget(worker)
                if self._ending.is_set():
                    self._statuses.append(0 if status == 0 else 1)
                    return
                _log.error("Worker %d ended with status %d; another takes its place.", worker.pid, status)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause)
            if self._ending.is_set():
                return
            worker = await self._start()
            pause = _SHORTEST_PAUSE if worker is not None else min(2 * pause, _LONGEST_PAUSE)

    async def _start(self) -> Process | None:
        """A worker that serves; None where it ended before that."""
        if self._ending.is_set():
            return None
        descriptor = self._listening.fileno()
        try:
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"{__package__}.worker", str(descriptor),
                stdin=PIPE, stdout=PIPE, pass_fds=[descriptor], start_new_session=True,
                env={**os.environ, MEASURES: self._folder},
            )  # fmt: skip
        except OSError as error:  # there is no memory, or no process, to be had; the other workers go on
            _log.error("No process can be started: %s", error)
            return None
        assert worker.stdin is not None
        assert worker.stdout is not None
        self._running.add(worker)
        if self._ending.is_set():  # which it has become meanwhile
            worker.terminate()
        worker.stdin.write(f"{self._settings.model_dump_json()}\n".encode())
        if await worker.stdout.readline() == f"{READY}\n".encode():
            return worker
        await worker.wait()
        self._forget(worker)
        return None

    def _forget(self, worker: Process) -> None:
        self._running.discard(worker)
        multiprocess.mark_process_dead(worker.pid, self._folder)  # pyright: ignore[reportUnknownMemberType]
