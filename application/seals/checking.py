"""Checking proofs with nothing but themselves and what the one who checks them holds: seals, or a public key."""

from pathlib import Path
from typing import cast

import msgspec

from ...domain.errors import InvalidParameter, InvalidProof
from ...domain.texts import shown
from .growth import GrowthProof
from .keys import PublicKey
from .places import place
from .proof import EventProof
from .results import ProvedEvent, ProvedGrowth, SealView
from .seal_file import Seal, SealFile

_Heading = tuple[int, str, int, str]


def check_proof(
    event: bytes, proof: str, *, seals: str | Path | None = None, key: str | Path | None = None
) -> ProvedEvent:
    """Check that a stored event is under a seal; give the event as it is stored.

    The seal is in the proof. It has to be one in `seals`, a file of seals or of one checkpoint, or be signed by `key`,
    a public key or a file that holds one; both where both are given. Raises InvalidProof.
    """
    if not isinstance(cast(object, event), bytes):
        raise InvalidProof(
            f"'event' must be the bytes that were sealed, not {shown(event)}.", field="event", value=event
        )
    parsed = EventProof.parse(_document(proof), event)
    verified = _require_trust([parsed.seal], seals, key)
    heading, _, state = event.partition(b"\n")
    try:
        position, stream, version, topic = msgspec.json.decode(heading, type=_Heading)
    except msgspec.MsgspecError as error:
        raise InvalidProof("What was sealed is no event that Tallybook writes.", field="event", value=event) from error
    if position != parsed.position:
        raise InvalidProof(
            f"The event says that it is at position {position}, and was sealed at {parsed.position}.",
            field="event",
            value=event,
        )
    seal = SealView.of(parsed.seal, verified)
    return ProvedEvent(position, stream, version, topic, state.decode(errors="replace"), seal)


def check_growth(proof: str, *, seals: str | Path | None = None, key: str | Path | None = None) -> ProvedGrowth:
    """Check that a later seal only adds events to an earlier one; give both.

    The earlier one has to be one in `seals`, or both be signed by `key`; all of it where both are given. Of a later one
    that isn't signed the root is shown, and its size and time are only said. Raises InvalidProof.
    """
    parsed = GrowthProof.parse(_document(proof))
    _require_trust([parsed.earlier], seals, None if seals else key)
    verified = None if key is None else _require_trust([parsed.earlier, parsed.later], None, key)
    return ProvedGrowth(SealView.of(parsed.earlier, verified), SealView.of(parsed.later, verified))


def _document(proof: object) -> str:
    if not isinstance(proof, str):
        raise InvalidProof(f"'proof' must be the text of a proof, not {shown(proof)}.", field="proof", value=proof)
    return proof


def _require_trust(proved: list[Seal], seals: str | Path | None, key: str | Path | None) -> PublicKey | None:
    """Raise InvalidProof unless the seals are held, and signed; give the key by which they are, if any is given."""
    if seals is None and key is None:
        raise InvalidParameter(
            "A proof shows nothing by itself: give the seals that you hold, or the public key.", field="seals"
        )
    held = None if seals is None else {one.checkpoint for one in SealFile(place(seals, "seals")).read_held()}
    public = None if key is None else PublicKey.read(key)
    for seal in proved:
        if held is not None and seal.checkpoint not in held:
            raise InvalidProof(
                f"The seal in the proof, of {seal.checkpoint.size} events, is none of those in {seals}.", field="seals"
            )
        if public is not None and not public.has_signed(seal.note):
            raise InvalidProof(f"The seal in the proof is not signed by {public}.", field="key")
    return public
