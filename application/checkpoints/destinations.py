"""Where published checkpoints are stored outside the ledger: in a file, in an object store, or at a URL."""

import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC
from pathlib import Path
from typing import Any, Protocol

from ...domain.errors import CheckpointDestinationUnavailable, InvalidCheckpointFile, InvalidParameter
from ..redaction import has_user_info, redact_invalid_url
from .checkpoint_file import CheckpointFile, SignedCheckpoint
from .leaves import LeafHashFile
from .merkle import HASH_BYTES

TIMEOUT_SECONDS = 30
_HTTP = ("http://", "https://")


class CheckpointDestination(Protocol):
    """A place outside the ledger. Each method raises CheckpointDestinationUnavailable if it can't be used."""

    def last(self) -> SignedCheckpoint | None:
        """Return the last checkpoint there; None if there is none, or if the place can't be read."""
        ...

    def add(self, signed: SignedCheckpoint) -> None:
        """Store a checkpoint. Adding it again changes nothing."""
        ...


class FileDestination:
    """A checkpoint file, as `CheckpointService.create` writes it, with the hashes of the leaves next to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = CheckpointFile(path)
        self.leaves = LeafHashFile.for_checkpoints(path)

    def last(self) -> SignedCheckpoint | None:
        """Return the last checkpoint of the file. Raises InvalidCheckpointFile."""
        if not self.path.exists():
            return None
        checkpoints = self._file.read()
        return checkpoints.all[-1] if checkpoints.all else None

    def add(self, signed: SignedCheckpoint) -> None:
        """Append a checkpoint, durably. Raises InvalidCheckpointFile."""
        with self._file.locked():
            checkpoints = self._file.read()
            if not checkpoints.all or checkpoints.all[-1].checkpoint.size < signed.checkpoint.size:
                self._file.append(checkpoints, signed.note)

    def store_leaves(self, start: int, leaves: Iterator[bytes]) -> None:
        """Store leaf hashes from `start` on, if the file has those before.

        A file that is lost is written again by `CheckpointService.create`.
        """
        try:
            count = self.leaves.path.stat().st_size // HASH_BYTES
        except FileNotFoundError:
            count = 0
        if count >= start:
            self.leaves.replace_from(start, leaves)


class ObjectStoreDestination:
    """A prefix of an object store: one object for each checkpoint, created once and never replaced.

    A bucket with object lock (a default retention) keeps them from being deleted, too.
    """

    def __init__(self, store: Any, url: str) -> None:
        self._store = store
        self._url = url

    def last(self) -> SignedCheckpoint | None:
        """Return the checkpoint of the last object: their names sort by the number of events."""
        import obstore  # noqa: PLC0415 - an extra

        try:
            pages: Any = obstore.list(self._store)  # pyright: ignore[reportUnknownMemberType]
            names = [entry["path"] for page in pages for entry in page if entry["path"].endswith(_OBJECT_SUFFIX)]
            if not names:
                return None
            text = bytes(obstore.get(self._store, max(names)).bytes()).decode()
        except Exception as error:
            raise self._unavailable(error) from error
        try:
            return SignedCheckpoint.parse(text)
        except ValueError as error:
            raise InvalidCheckpointFile(
                f"{self._url}/{max(names)} is no checkpoint: {error}.", field="destination", value=self._url
            ) from error

    def add(self, signed: SignedCheckpoint) -> None:
        """Create the object of a checkpoint, unless it exists."""
        import obstore  # noqa: PLC0415 - an extra
        from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415

        data = str(signed.note).encode()
        try:
            with suppress(AlreadyExistsError):
                obstore.put(self._store, _object_name(signed), data, mode="create", use_multipart=False)
                return
            stored = bytes(obstore.get(self._store, _object_name(signed)).bytes())
        except Exception as error:
            raise self._unavailable(error) from error
        if stored != data:
            raise InvalidCheckpointFile(
                f"{self._url}/{_object_name(signed)} is another checkpoint.", field="destination", value=self._url
            )

    def _unavailable(self, error: Exception) -> CheckpointDestinationUnavailable:
        from ..object_stores import first_line  # noqa: PLC0415 - an extra

        return CheckpointDestinationUnavailable(
            f"{self._url} can't be used for checkpoints: {first_line(error)}.", field="destination", value=self._url
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Lets a redirect be an error: it would be followed by a GET request, which stores nothing."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


class UrlDestination:
    """A URL that gets each checkpoint in a POST request. What it has can't be read again.

    Its query may be a secret, and is never shown.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def last(self) -> SignedCheckpoint | None:
        """Return None."""
        return None

    def add(self, signed: SignedCheckpoint) -> None:
        """Send a checkpoint. Any status of 200 to 299 means that it is stored there."""
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked by `resolve_destination`
            self._url, str(signed.note).encode(), {"Content-Type": "text/plain; charset=utf-8"}, method="POST"
        )
        try:
            with _OPENER.open(request, timeout=TIMEOUT_SECONDS):
                pass
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise CheckpointDestinationUnavailable(
                f"The checkpoint can't be sent to {_without_query(self._url)}: {_reason(error)}.", field="destination"
            ) from None  # the message of the error may have the query


def resolve_destination(destination: str | Path) -> CheckpointDestination:
    """Return the destination of a path, of an object store's URL like s3://bucket/prefix, or of an HTTP URL.

    Raises InvalidParameter.
    """
    if isinstance(destination, Path):
        return FileDestination(destination)
    if "://" not in destination:
        return FileDestination(Path(destination))
    if destination.startswith(_HTTP):
        _require_host_alone(destination)
        return UrlDestination(destination)
    try:
        from ..object_stores import open_object_store  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise InvalidParameter(
            "Checkpoints in an object store need an extra: pip install 'tallybook[archive]'.", field="destination"
        ) from None
    url = destination.rstrip("/")
    return ObjectStoreDestination(
        open_object_store(url, InvalidParameter, "destination", f"{url!r} can't be used", _ADVICE), url
    )


def _require_host_alone(url: str) -> None:
    """Raise InvalidParameter if an HTTP URL has no host, or a user before it."""
    shown = redact_invalid_url(url)
    try:
        has_host = bool(urllib.parse.urlsplit(url).hostname)
    except ValueError:
        has_host = False
    if not has_host:
        raise InvalidParameter(f"The URL {shown!r} has no valid host.", field="destination", value=shown)
    if has_user_info(url):
        raise InvalidParameter(
            f"The URL {shown!r} has a user or a password, which would be stored and logged: leave them out. A receiver "
            "can be given a secret in the query, which is never shown.",
            field="destination",
            value=shown,
        )


_ADVICE = "Use a path, or a URL like s3://bucket/prefix."
_OBJECT_SUFFIX = ".checkpoint"


def _object_name(signed: SignedCheckpoint) -> str:
    checkpoint = signed.checkpoint
    return f"{checkpoint.size:019}-{checkpoint.time.astimezone(UTC):%Y%m%dT%H%M%SZ}{_OBJECT_SUFFIX}"


def _without_query(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"


def _reason(error: Exception) -> str:
    """Return why a request failed, without the message of the error, which may have the URL."""
    if isinstance(error, urllib.error.HTTPError):
        return f"status {error.code}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return getattr(reason, "strerror", None) or type(reason).__name__
