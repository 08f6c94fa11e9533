"""The HistoryPruning aggregate: the states of old usage left the ledger, and are in an archive.

Invariant: the position never decreases from one pruning to the next, and an archive has all events up to it. So the
last pruning says where the state of every pruned event is.
"""

from datetime import datetime, timedelta

from .acceptance_policy import AcceptancePolicy
from .aggregate import Aggregate
from .errors import InvalidParameter
from .plain_types import plain_timedelta
from .text import abbreviated_repr

STREAM_PREFIX = "history/"
DEFAULT_KEEP = timedelta(days=400)


class HistoryPruning(Aggregate):
    """One pruning of the history."""

    class HistoryPruned(Aggregate.Created):
        """The states of usage up to `position` may be replaced by their leaf hashes. They are in `archive`, a URL.

        `headings` is the digest of the streams, versions and topics of all events up to that position. The archive
        ended at `archived_position` then, with the root `root`. A signed checkpoint of `checkpoint_size` events matched
        it.
        """

        position: int
        headings: str
        archive: str
        archived_position: int
        root: str
        checkpoint_size: int
        by: str | None

    def __init__(
        self, position: int, headings: str, archive: str, archived_position: int, root: str, checkpoint_size: int,
        by: str | None,
    ) -> None:  # fmt: skip
        self.position = position
        self.headings = headings
        self.archive = archive
        self.archived_position = archived_position
        self.root = root
        self.checkpoint_size = checkpoint_size
        self.pruned_by = by

    @staticmethod
    def stream_id(number: int) -> str:
        """Return the id of the stream of the pruning with this number, so that ids are in the order of numbers."""
        return f"{STREAM_PREFIX}{number:06}"

    @property
    def number(self) -> int:
        """The number of the pruning: 1 for the first one of the ledger."""
        return int(self.id.removeprefix(STREAM_PREFIX))

    @classmethod
    def prune(
        cls, previous: "HistoryPruning | None", position: int, *, headings: str, archive: str, archived_position: int,
        root: str, checkpoint_size: int, by: str | None, at: datetime,
    ) -> "HistoryPruning":  # fmt: skip
        """Prune up to a position, which is not less than that of the previous pruning."""
        return cls._create(
            cls.HistoryPruned, id=cls.stream_id(1 if previous is None else previous.number + 1), timestamp=at,
            position=position, headings=headings, archive=archive, archived_position=archived_position, root=root,
            checkpoint_size=checkpoint_size, by=by,
        )  # fmt: skip


def require_keep(keep: object, policy: AcceptancePolicy) -> timedelta:
    """Return how long usage stays in the ledger.

    Raises InvalidParameter if usage would be pruned that the policy lets change, because it is reported late or
    cancelled.
    """
    least = max(policy.max_age or timedelta(0), policy.cancel_window or timedelta(0))
    duration = plain_timedelta(keep)
    if duration is not None and duration >= least:
        return duration
    required, found = ("", _days(duration)) if duration is not None else ("a timedelta of ", abbreviated_repr(keep))
    raise InvalidParameter(
        f"'keep' must be {required}at least {_days(least)}, the age of usage and of cancellations that the policy "
        f"accepts, not {found}.",
        field="keep",
        value=keep,
    )


def _days(duration: timedelta) -> str:
    return f"{duration.total_seconds() / 86_400:g} days"
