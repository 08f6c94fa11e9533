"""The dispatchers of a server: a thread for each of its desks, of which one in all processes dispatches at a time."""

import asyncio
import logging
import threading
from contextlib import suppress

from ....domain.errors import TallybookError
from ..desk import Desk
from ..desks import Desks
from .courier import Tell
from .dispatching import Term
from .settings import WebhookSettings

DOING = "dispatching webhooks"
_log = logging.getLogger("tallybook.server")


class Webhooks:
    """Tells of what happens at both desks of a server."""

    def __init__(self, desks: Desks, settings: WebhookSettings, tell: Tell) -> None:
        self._dispatchers = [Dispatcher(desks, settings, tell, livemode=livemode) for livemode in (True, False)]

    def close(self) -> None:
        """End at once. What isn't delivered yet is delivered after the next start, or by another process."""
        for dispatcher in self._dispatchers:
            dispatcher.stop()
        for dispatcher in self._dispatchers:
            dispatcher.join()


class Dispatcher(threading.Thread):
    """Dispatches for one desk, from when its ledger is there, whenever no other process does."""

    def __init__(self, desks: Desks, settings: WebhookSettings, tell: Tell, *, livemode: bool) -> None:
        super().__init__(name=f"tallybook-webhooks-{'live' if livemode else 'test'}")
        self._desks = desks
        self._settings = settings
        self._tell = tell
        self._livemode = livemode
        self._stopping = threading.Event()
        self._term: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self.start()

    def stop(self) -> None:
        """Let it end soon."""
        self._stopping.set()
        if self._term is not None:
            loop, stop = self._term
            with suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(stop.set)

    def run(self) -> None:
        """Dispatch, wait for one's turn, or for the ledger to be there again."""
        is_looked_for = True
        while not self._stopping.is_set():
            pause = self._settings.take_over_seconds
            try:
                if self._desks.is_open(livemode=self._livemode) or (
                    is_looked_for and self._desks.is_there(livemode=self._livemode)
                ):
                    pause = self._dispatch(self._desks.of(livemode=self._livemode))
                else:
                    is_looked_for = False  # from now on it is begun here, or by another process that dispatches
                    pause = self._settings.look_every_seconds
            except* TallybookError as errors:
                _log.warning("Webhooks wait until the ledger can be asked again: %s", _first(errors))
            except* Exception:
                _log.exception("Dispatching webhooks failed; it is tried again.")
            self._stopping.wait(pause)

    def _dispatch(self, desk: Desk) -> float:
        """Dispatch, if nobody else does; give after how many seconds to look again."""
        with desk.keeper.alone(DOING) as is_alone:
            if is_alone:
                asyncio.run(self._serve(desk))
        return 0 if is_alone else self._settings.take_over_seconds

    async def _serve(self, desk: Desk) -> None:
        stop = asyncio.Event()
        self._term = asyncio.get_running_loop(), stop
        if self._stopping.is_set():
            stop.set()
        await Term(desk, self._settings, self._tell, stop).run()


def _first(errors: BaseExceptionGroup[TallybookError]) -> TallybookError:
    """The first error of those that ended all tasks."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
