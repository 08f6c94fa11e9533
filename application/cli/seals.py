"""The commands that seal a ledger, prove what is in it, and check such proofs without it."""

from pathlib import Path
from typing import Annotated

import typer

from .options import DEFAULT_LEDGER, AsJson, Ledger

Seals = Annotated[
    Path, typer.Option("--seals", metavar="FILE", help="The file of seals; keep it where the ledger isn't.")
]
Held = Annotated[
    Path | None,
    typer.Option("--seals", metavar="FILE", help="The seals, or the one checkpoint, that you hold yourself."),
]
SealsToVerify = Annotated[
    Path | None, typer.Option("--seals", metavar="FILE", help="The file of seals that the ledger should still match.")
]
Private = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="A private key to sign with, as of 'tallybook seal-key'.")
]
Public = Annotated[
    str | None, typer.Option("--key", metavar="KEY", help="The public key that has to have signed, or its file.")
]
Name = Annotated[
    str | None, typer.Option(metavar="NAME", help="The ledger's name in its seals, for good; tallybook by default.")
]
Folder = Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write the files.")]
Identifier = Annotated[str, typer.Argument(metavar="IDENTIFIER", help="The meter event's name.", show_default=False)]
Event = Annotated[Path, typer.Argument(metavar="EVENT", help="The event's file, as 'prove' writes it.")]
Proof = Annotated[Path, typer.Argument(metavar="PROOF", help="The proof's file.")]
KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key is, or is to be.")]
Earlier = Annotated[int, typer.Argument(metavar="EARLIER", help="How many events the earlier seal is of.")]
Later = Annotated[
    int | None, typer.Argument(metavar="[LATER]", help="How many the later one is of; the last seal's by default.")
]


def seal(
    seals: Seals, key: Private = None, name: Name = None, ledger: Ledger = DEFAULT_LEDGER, as_json: AsJson = False
) -> None:
    """Append a seal of all events to a file outside the ledger.

    Whatever is changed in the ledger afterwards, 'tallybook verify' finds it. A ledger that no longer matches its
    earlier seals is refused.
    """
    from .seal_runs import run_seal  # noqa: PLC0415 - loads the domain

    run_seal(ledger, as_json, seals, key, name)


def seal_key(file: KeyFile, name: Name = None) -> None:
    """Print a key's public part; make the key if it isn't there.

    Any Ed25519 key in PEM will do, like those of OpenSSL.
    """
    from .seal_runs import run_seal_key  # noqa: PLC0415

    run_seal_key(file, name)


def prove(
    identifier: Identifier,
    seals: Seals,
    folder: Folder = Path(),
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Write the proof that a meter event is under the last seal.

    Two files for each of its stored events, its recording and its cancel if it has one: the event, and the proof.
    """
    from .seal_runs import run_prove  # noqa: PLC0415

    run_prove(ledger, as_json, identifier, seals, folder)


def check_proof(event: Event, proof: Proof, seals: Held = None, key: Public = None, as_json: AsJson = False) -> None:
    """Check the proof that an event is under a seal.

    It needs no ledger, but the seal or the public key from where you trust it.
    """
    from .seal_runs import run_check_proof  # noqa: PLC0415

    run_check_proof(as_json, event, proof, seals, key)


def prove_growth(earlier: Earlier, seals: Seals, later: Later = None) -> None:
    """Print the proof that a later seal only adds to an earlier one."""
    from .seal_runs import run_prove_growth  # noqa: PLC0415

    run_prove_growth(earlier, later, seals)


def check_growth(proof: Proof, seals: Held = None, key: Public = None, as_json: AsJson = False) -> None:
    """Check the proof that a later seal only adds to an earlier one.

    It needs no ledger, but the earlier seal or the public key from where you trust it.
    """
    from .seal_runs import run_check_growth  # noqa: PLC0415

    run_check_growth(as_json, proof, seals, key)
