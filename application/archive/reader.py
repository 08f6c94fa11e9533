"""An archive that was exported: its segments, as the manifest names them."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ...domain.errors import InvalidArchive
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.checkpoint_file import CheckpointFile
from ..checkpoints.paths import require_path
from ..checkpoints.signing_keys import PublicKey
from .manifest import ArchiveSegment, Manifest
from .results import ArchiveVerification

if TYPE_CHECKING:
    from obstore.store import ObjectStore

    from .destinations import Destination
    from .ledger_rows import RowReader

INSTALL_HINT = "An archive needs an extra: pip install 'tallybook[archive]'."
_EXTRA_PACKAGES = ("obstore", "pyarrow")


def no_progress(_done: int, _total: int) -> None:
    """Do nothing."""


def has_extra() -> bool:
    """Return whether the packages of the extra `archive` are installed."""
    return all(find_spec(package) is not None for package in _EXTRA_PACKAGES)


def require_extra() -> None:
    """Raise InvalidArchive if the packages of the extra `archive` are not installed."""
    if not has_extra():
        raise InvalidArchive(INSTALL_HINT, field="destination")


def require_archive(destination: "Destination") -> "Destination":
    """Return a destination. Raise InvalidArchive if there is no archive, or ArchiveUnavailable."""
    if not destination.read_manifest().data:
        raise InvalidArchive(
            f"There is no archive at {destination.location}; create it with 'tallybook archive export'.",
            field="destination",
            value=destination.location,
        )
    return destination


class ArchiveReader:
    """The archive at a destination: the path of a folder, a URL, or a store of the package obstore."""

    def __init__(self, destination: "Destination") -> None:
        self.destination = destination

    @classmethod
    def open(cls, destination: "str | Path | ObjectStore") -> Self:
        """Open the archive at `destination`. Raises InvalidArchive if there is none, or ArchiveUnavailable."""
        require_extra()
        from .locations import resolve_destination  # noqa: PLC0415 - an extra

        return cls(require_archive(resolve_destination(destination)))

    @property
    def location(self) -> str:
        """The path or the URL of the archive."""
        return self.destination.location

    @property
    def segments(self) -> Sequence[ArchiveSegment]:
        """The segments, in the order of their positions, as the manifest has them now. Raises ArchiveMismatch."""
        return tuple(self._manifest().segments)

    @property
    def files(self) -> Sequence[str]:
        """The paths or URLs of the segments' Parquet files, for other programs to read."""
        return [self.destination.url(segment.file) for segment in self.segments]

    @property
    def last_position(self) -> int:
        """The last archived position. Raises ArchiveMismatch."""
        return self._manifest().last

    def _manifest(self) -> Manifest:
        return Manifest.parse(self.destination.read_manifest().data, self.location)


def verify_archive(
    archive: ArchiveReader,
    ledger: "RowReader | None",
    checkpoints: str | Path | None,
    key: str | Path | None,
    progress: Callable[[int, int], None],
    previous_keys: Sequence[str | Path] = (),
) -> ArchiveVerification:
    """Verify an archive, against a ledger if there is one, and against the checkpoints in a file."""
    from .verify import Verifier  # noqa: PLC0415 - an extra

    parsed: Sequence[Checkpoint] = ()
    if checkpoints is not None:
        signed_checkpoints = CheckpointFile(require_path(checkpoints, "checkpoints")).read_nonempty()
        if key is not None:
            signed_checkpoints.require_signatures(PublicKey.load(key), [*map(PublicKey.load, previous_keys)])
        parsed = [signed_checkpoint.checkpoint for signed_checkpoint in signed_checkpoints.all]
    return Verifier(archive.destination, parsed, ledger, progress).run()
