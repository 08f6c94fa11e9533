"""The jobs of a ledger: `metering.jobs`."""

import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from ...domain.authorship import authorship
from ...domain.errors import JobNotFound
from ...domain.timestamps import to_microseconds
from ..clock import utc_now
from ..ledger.ledger import Ledger
from ..validation import optional_note
from .job import Job, require_job_name
from .scheduler import POLL_SECONDS, Scheduler
from .store import JobStore, Pause
from .views import JobView


class JobService:
    """Runs jobs, and shows those that any process runs on the ledger."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime] = utc_now) -> None:
        self._ledger = ledger
        self._clock = clock

    def now(self) -> datetime:
        """Return the time by the clock of the jobs: that of the computer, whatever clock the ledger has."""
        return self._clock()

    def list(self) -> list[JobView]:
        """Return all jobs by name, also those that other processes run."""
        store = self._store()
        pauses, now = store.pauses(), to_microseconds(self._clock())
        return [JobView.from_state(name, state, pauses.get(name), now) for name, state in store.all().items()]

    def get(self, name: str) -> JobView:
        """Return a job. Raises JobNotFound."""
        name = require_job_name(name)
        job = next((job for job in self.list() if job.name == name), None)
        if job is None:
            raise JobNotFound(f"There is no job {name!r}.", field="name", value=name)
        return job

    def pause(self, name: str, *, by: str | None = None) -> JobView:
        """Pause a job, in all processes: a run in progress is stopped within seconds, and none is started.

        `by` is stored with the author, if `acting_as` has set one. Pausing it again changes nothing. Raises
        JobNotFound.
        """
        author, paused = authorship(optional_note(by, "by")), self.get(name)
        names = [name for name in (author["by"], author.get("on_behalf_of")) if name]
        by = " on behalf of ".join(names) or None
        self._store().pause(paused.name, Pause(to_microseconds(self._clock()), by))
        return self.get(name)

    def resume(self, name: str) -> JobView:
        """Resume a paused job. It runs at once if it is due. Raises JobNotFound."""
        self._store().resume(self.get(name).name)
        return self.get(name)

    def forget(self, name: str) -> None:
        """Delete what is stored about a job that is not run any more. Raises JobNotFound."""
        self._store().delete(self.get(name).name)

    def run(
        self, jobs: Sequence[Job], stop: threading.Event | None = None, *, poll_seconds: float = POLL_SECONDS
    ) -> None:
        """Run jobs until `stop` is set; forever if it is None.

        Any number of processes may run the same jobs: each run is in one of them, and another one takes over if that
        dies. The states of the jobs are read every `poll_seconds`. Raises the error of an essential job,
        InvalidParameter if two jobs have the same name, and DatabasePermissionDenied if the database user may not store
        their states.
        """
        Scheduler(self._store(), jobs, self._clock, poll_seconds=poll_seconds).run(stop or threading.Event())

    def _store(self) -> JobStore:
        return JobStore(self._ledger.key_value_store())
