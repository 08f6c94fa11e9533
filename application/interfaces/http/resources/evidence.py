"""Evidence packs: a customer's totals with all that proves them, as a zip file to download."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import msgspec
from msgspec import Meta

from .....domain.errors import InvalidCheckpointFile, InvalidParameter, InvalidSigningKey
from ....checkpoints.destinations import FileDestination, resolve_destination
from ...job_settings import CheckpointSettings
from ..api_types import Customer, Name, Parameters, UnixTime, from_unix
from ..downloads import WrittenDownload
from ..errors import ApiError
from ..ledgers import RequestContext
from ..meter_visibility import require_visible_rules
from ..operations import OperationRegistry

operations = OperationRegistry("Evidence")
ZIP_MEDIA_TYPE = "application/zip"


class RetrieveEvidence(Parameters, kw_only=True):
    """The customer and the range of time of a pack, and its meters: all on which the customer has usage if none."""

    customer: Customer
    end_time: UnixTime
    meters: Annotated[list[Name], Meta(max_length=1_000)] = msgspec.field(default_factory=list[Name])
    start_time: UnixTime


@operations.get("/v1/billing/evidence", is_large=True, media_type=ZIP_MEDIA_TYPE)
def retrieve_evidence(context: RequestContext[RetrieveEvidence]) -> WrittenDownload:
    """Download an evidence pack: a zip file that proves the totals of a customer by the server's last checkpoint.

    It is the file that `tallybook evidence` writes with the server's key. The server needs a signing key, and a
    checkpoint file as a destination.
    """
    params, settings = context.params, context.ledger.checkpoint_settings
    if settings is None:
        raise ApiError(
            400, "This server has no signing key for checkpoints of this ledger: set TALLYBOOK_CHECKPOINT__KEY.",
            code="invalid_signing_key",
        )  # fmt: skip
    checkpoints = _checkpoint_file(settings)
    require_visible_rules(context, params.meters or None)
    with TemporaryDirectory(prefix="tallybook-") as folder:
        path = Path(folder) / "evidence.zip"
        try:
            pack = context.ledger.metering.evidence.write(
                path, params.customer, from_unix(params.start_time), from_unix(params.end_time),
                checkpoints=checkpoints, meters=params.meters or None, key=settings.key,
            )  # fmt: skip
        except (InvalidCheckpointFile, InvalidSigningKey) as error:  # of the server, not of the request
            raise RuntimeError(error.message) from error
        except InvalidParameter as error:
            if error.field == "file":
                raise RuntimeError(error.message) from error
            raise
        file = path.open("rb")  # it is read after its folder is removed
    return WrittenDownload("evidence.zip", file, pack.size_bytes, ZIP_MEDIA_TYPE)


def _checkpoint_file(settings: CheckpointSettings) -> Path:
    """Return the first checkpoint file among the destinations. Raises ApiError if there is none."""
    destinations = map(resolve_destination, settings.places)
    file = next((place.path for place in destinations if isinstance(place, FileDestination)), None)
    if file is None:
        raise ApiError(
            400, "This server has no checkpoint file to prove with: name a path in TALLYBOOK_CHECKPOINT__DESTINATIONS.",
            code="invalid_checkpoint_file",
        )  # fmt: skip
    if not file.exists():
        raise ApiError(
            400, "There is no checkpoint yet: the server creates one every TALLYBOOK_CHECKPOINT__INTERVAL_SECONDS, and "
            "POST /v1/billing/checkpoints creates one now.",
            code="invalid_checkpoint_file",
        )  # fmt: skip
    return file
