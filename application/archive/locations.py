"""Where an archive is, as callers state it."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ...domain.errors import InvalidArchive
from ...domain.plain_types import plain_text
from ...domain.text import abbreviated_repr
from ..checkpoints.paths import require_path
from ..object_stores import is_object_store
from .destinations import Destination
from .folder import FolderDestination
from .object_store import ObjectStoreDestination, open_destination


def resolve_destination(destination: object, retry_timeout: timedelta | None = None) -> Destination:
    """Return the destination of a path, a URL, or an object store of the package obstore. Raise InvalidArchive."""
    if is_object_store(destination):
        return ObjectStoreDestination(destination)
    text = plain_text(destination)
    if text is None or "://" not in text:
        return FolderDestination(require_path(destination, "destination"))
    if not text.startswith("file://"):
        return open_destination(text, retry_timeout)
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise InvalidArchive(
            f"{abbreviated_repr(text)} is not the URL of a folder: write file:///an/absolute/path.",
            field="destination",
            value=text,
        )
    return FolderDestination(Path(unquote(parts.path)))


def archive_url(destination: Destination) -> str:
    """Return a URL by which any process can open an archive. Raise InvalidArchive if there is none."""
    if isinstance(destination, FolderDestination):
        return destination.path.resolve().as_uri()
    if "://" not in destination.location:
        raise InvalidArchive(
            "The ledger stores where its history is, so name the archive by a URL such as s3://bucket/prefix.",
            field="destination",
            value=destination.location,
        )
    return destination.location
