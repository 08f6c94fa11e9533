"""Checkpoints that the ledger stores itself, and proofs by the last one."""

from typing import Literal

import msgspec

from ....checkpoints.checkpoint import to_base64
from ....checkpoints.checkpoint_file import SignedCheckpoint
from ....checkpoints.proofs import InclusionProof
from ..api_types import Id, ListObject, ListParameters, Parameters, to_unix
from ..errors import ApiError, missing_object
from ..ledgers import RequestContext
from ..object_ids import decode_id, encode_id
from ..operations import OperationRegistry
from ..pagination import list_response, resolve_cursors

URL = "/v1/billing/checkpoints"
CHECKPOINT_PREFIX = "mtrckpt"
LATEST = "latest"
operations = OperationRegistry("Checkpoints")
_MAX_DIGITS = 18


class CheckpointObject(msgspec.Struct, kw_only=True):
    """A checkpoint of the first `size` events. `note` is its signed text."""

    id: str
    object: Literal["billing.checkpoint"] = "billing.checkpoint"
    created: int
    livemode: bool
    note: str
    origin: str
    root: str
    size: int


class EventProof(msgspec.Struct, kw_only=True):
    """A stored event as it is hashed, and its inclusion proof, by https://c2sp.org/tlog-proof."""

    event: str
    position: int
    proof: str


class CheckpointProof(msgspec.Struct, kw_only=True):
    """The proofs of the stored events of a meter event: its recording, and its cancellations if any."""

    object: Literal["billing.checkpoint_proof"] = "billing.checkpoint_proof"
    checkpoint: str
    identifier: str
    livemode: bool
    proofs: list[EventProof]


class ListCheckpoints(ListParameters, kw_only=True):
    """A list of checkpoints."""


class RetrieveCheckpointProof(Parameters, kw_only=True):
    """The identifier of a meter event."""

    identifier: Id


@operations.get(URL)
def list_checkpoints(context: RequestContext[ListCheckpoints]) -> ListObject[CheckpointObject]:
    """List the checkpoints that the ledger stores, the last one first."""
    checkpoints, params = context.ledger.metering.checkpoints, context.params
    after, before = resolve_cursors(params, _size_of)
    if before is not None:
        later = [one for one in checkpoints.list(limit=10_000) if one.checkpoint.size > before]
        page, has_more = later[-params.limit :], len(later) > params.limit
    else:
        found = checkpoints.list(limit=params.limit + 1, before=after)
        page, has_more = found[: params.limit], len(found) > params.limit
    return list_response([_to_object(one, context.ledger.livemode) for one in page], URL, has_more=has_more)


@operations.get(URL + "/{id}")
def retrieve_checkpoint(context: RequestContext[Parameters]) -> CheckpointObject:
    """Retrieve a checkpoint by its id, or the last one with the id `latest`."""
    object_id = context.path_parameters["id"]
    size = None if object_id == LATEST else _size_of(object_id)
    if size is not None or object_id == LATEST:
        found = context.ledger.metering.checkpoints.list(limit=1, before=None if size is None else size + 1)
        if found and size in (None, found[0].checkpoint.size):
            return _to_object(found[0], context.ledger.livemode)
    raise missing_object("checkpoint", object_id)


@operations.post(URL)
def create_checkpoint(context: RequestContext[Parameters]) -> CheckpointObject:
    """Create a checkpoint of all events now, and copy it to the destinations of the server's settings.

    Without new events, the last checkpoint is returned. The server needs a signing key.
    """
    ledger = context.ledger
    if ledger.checkpoint_settings is None:
        raise ApiError(
            400, "This server has no signing key for checkpoints of this ledger: set TALLYBOOK_CHECKPOINT__KEY.",
            code="invalid_signing_key",
        )  # fmt: skip
    settings = ledger.checkpoint_settings
    assert settings.key is not None
    published = ledger.metering.checkpoints.publish(
        settings.key, settings.places, name=settings.name, previous_keys=settings.accepted_keys
    )
    return _to_object(published.signed_checkpoint, ledger.livemode)


@operations.get("/v1/billing/checkpoint_proof")
def retrieve_checkpoint_proof(context: RequestContext[RetrieveCheckpointProof]) -> CheckpointProof:
    """Prove by the last checkpoint that the ledger has a meter event.

    `tallybook checkpoint verify-proof` verifies the proof.
    """
    ledger, identifier = context.ledger, context.params.identifier
    proofs = ledger.metering.checkpoints.prove(identifier)
    return CheckpointProof(
        checkpoint=_id_of(proofs[0].signed_checkpoint),
        identifier=identifier,
        livemode=ledger.livemode,
        proofs=[_to_proof(proof) for proof in proofs],
    )


def _size_of(object_id: str) -> int | None:
    number = decode_id(CHECKPOINT_PREFIX, object_id)
    return int(number) if number is not None and number.isdecimal() and len(number) <= _MAX_DIGITS else None


def _id_of(signed: SignedCheckpoint) -> str:
    return encode_id(CHECKPOINT_PREFIX, str(signed.checkpoint.size))


def _to_object(signed: SignedCheckpoint, livemode: bool) -> CheckpointObject:
    checkpoint = signed.checkpoint
    return CheckpointObject(
        id=_id_of(signed),
        created=to_unix(checkpoint.time),
        livemode=livemode,
        note=str(signed.note),
        origin=checkpoint.origin,
        root=to_base64(checkpoint.root),
        size=checkpoint.size,
    )


def _to_proof(proof: InclusionProof) -> EventProof:
    return EventProof(event=proof.event.decode(), position=proof.position, proof=str(proof))
