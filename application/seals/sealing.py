"""Sealing a ledger, verifying it by its seals, and proving what is in it."""

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain
from pathlib import Path

from ...domain.errors import InvalidKey, InvalidParameter, InvalidSealFile, LedgerDiffersFromSeals
from ...domain.instants import in_utc
from ...domain.texts import shown
from ..arguments import text
from ..ledger import Ledger
from .checkpoint import ORIGIN, Checkpoint
from .growth import GrowthProof
from .keys import PrivateKey, PublicKey
from .leaf_hashes import LeafHashes
from .ledger_leaves import OutOfOrder, hash_pages
from .merkle import Tree
from .note import Note
from .places import place
from .proof import EventProof
from .proving import prove_events, prove_growth
from .results import SealVerification, SealView
from .seal_file import Seal, SealFile, Seals
from .verification import Advance, Comparison, at_position, check_order, compare

DEFAULT_NAME = "tallybook"


def _silently(_done: int, _total: int) -> None:
    pass


class Sealer:
    """Seals a ledger in a file outside of it. It only reads the ledger, and never what an event says."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self.ledger = ledger
        self.clock = clock

    def seal(
        self,
        file: str | Path,
        *,
        key: str | Path | None = None,
        name: str | None = None,
        advance: Advance = _silently,
    ) -> SealView:
        """Append a seal of all events of now to `file`, which is begun where it isn't there; on disk on return.

        First all of the ledger is compared with the earlier seals. `key` is a file with the private key to sign with.
        `name` is the ledger's in its seals, "tallybook" by default; the first seal fixes it, and whether all are
        signed. Raises LedgerDiffersFromSeals, InvalidSealFile or InvalidKey, with nothing sealed.
        """
        seal_file = SealFile(place(file, "file"))
        key_file = None if key is None else place(key, "key")
        with seal_file.locked():
            seals = seal_file.read()
            origin = _origin(seals, name)
            private = None if key_file is None else PrivateKey.read(key_file, origin)
            _require_same_signer(seals, private)
            tree = self._sealable(seals, self.ledger.head(), advance)
            at = in_utc(self.clock(), "clock").replace(microsecond=0)
            checkpoint = str(Checkpoint(origin, tree.size, tree.root(), at))
            note = Note(checkpoint) if private is None else private.sign(checkpoint)
            seal_file.append(seals, note)
        return SealView.of(Seal.parse(str(note)), None if private is None else private.public)

    def verify(
        self, file: str | Path, *, key: str | Path | None = None, advance: Advance = _silently
    ) -> SealVerification:
        """Compare all of the ledger with its seals, and give the first position that differs, if any does.

        With `key`, a public key or a file that holds one, every seal has to be signed by it. Raises InvalidSealFile or
        InvalidKey.
        """
        seals = SealFile(place(file, "file")).read_some()
        public = None if key is None else PublicKey.read(key)
        if public is not None:
            seals.require_signatures(public)
        head, sealed = self.ledger.head(), seals.all[-1].checkpoint.size
        found = self._compare(seals, advance)
        agreeing = next((count for count, agrees in enumerate(found.agreeing) if not agrees), len(seals.all))
        return SealVerification(
            events=max(head, 0),
            sealed=sealed,
            seals=tuple(SealView.of(one, public) for one in seals.all),
            agreeing=agreeing,
            difference=found.difference or check_order(self.ledger, sealed + 1, head),
            notes=_notes(seals, found),
        )

    def prove(self, identifier: str, file: str | Path) -> tuple[EventProof, ...]:
        """A proof for each stored event of a meter event: its recording, and its cancel if it was cancelled.

        By the last seal in `file`. Raises InvalidIdentifier where there is no such event, NotSealed where any of it was
        stored after that seal, LedgerDiffersFromSeals where it isn't as it was sealed, InvalidSealFile.
        """
        return prove_events(self.ledger, text(identifier, "identifier", 100), SealFile(place(file, "file")).read_some())

    def prove_growth(self, file: str | Path, earlier: int, later: int | None = None) -> GrowthProof:
        """A proof that the seal of `later` events, or the last, only adds events to the seal of `earlier` events.

        Raises NotSealed where `file` has no such seal, or InvalidSealFile.
        """
        return prove_growth(SealFile(place(file, "file")).read_some(), earlier, later)

    def _sealable(self, seals: Seals, head: int, advance: Advance) -> Tree:
        """The tree of all events up to `head`, their hashes kept; refused where they aren't as they were sealed."""
        found = self._compare(seals, advance)
        if found.difference is not None:
            raise LedgerDiffersFromSeals(found.difference.message, field="position", value=found.difference.first)
        tree = found.tree
        kept = hash_pages(self.ledger, found.kept + 1, tree.size) if found.kept < tree.size else iter(())
        try:
            LeafHashes.beside(seals.path).replace_from(found.kept, chain(kept, self._grown(tree, head, advance)))
        except OutOfOrder as broken:
            difference = at_position(broken.position, broken.wrong)
            raise LedgerDiffersFromSeals(difference.message, field="position", value=difference.first) from broken
        return tree

    def _grown(self, tree: Tree, head: int, advance: Advance) -> Iterator[list[bytes]]:
        for page in hash_pages(self.ledger, tree.size + 1, head):
            tree.extend(page)
            advance(tree.size, head)
            yield page

    def _compare(self, seals: Seals, advance: Advance) -> Comparison:
        found = compare(self.ledger, [one.checkpoint for one in seals.all], LeafHashes.beside(seals.path), advance)
        for count, (agrees, then) in enumerate(zip(found.agreeing, found.agreeing[1:], strict=False), 1):
            if then and not agrees:
                raise InvalidSealFile(
                    f"{seals.path}: seal {count} was changed: the ledger agrees with the one after it.",
                    field="file",
                    value=seals.path,
                )
        return found


def _origin(seals: Seals, name: object) -> str:
    origin = seals.all[0].checkpoint.origin if seals.all else name or DEFAULT_NAME
    if not isinstance(origin, str) or ORIGIN.fullmatch(origin) is None or name not in (None, origin):
        raise InvalidParameter(
            f"A name is ASCII without spaces and '+', and the same in all seals; {shown(name)} can't be that of these.",
            field="name",
            value=name,
        )
    return origin


def _require_same_signer(seals: Seals, private: PrivateKey | None) -> None:
    if private is not None:
        seals.require_signatures(private.public)
    elif any(one.note.signatures for one in seals.all):
        raise InvalidKey(f"The seals in {seals.path} are signed; give the key for this one too.", field="key")


def _notes(seals: Seals, found: Comparison) -> tuple[str, ...]:
    notes: list[str] = []
    if seals.is_unfinished:
        notes.append(f"The last seal in {seals.path} was never finished; the next one takes its place.")
    if found.difference is None and found.kept < found.tree.size:
        notes.append(f"{LeafHashes.beside(seals.path).path} is missing or changed; the next seal makes it again.")
    return tuple(notes)
