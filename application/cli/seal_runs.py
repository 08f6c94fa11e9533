"""Runs of the commands about seals. They open the ledger alone, as its read models could be what can't be opened."""

from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import typer

from ...domain.errors import InvalidProof, TallybookError
from ..ledger import Ledger
from ..ledger_url import locate
from ..metering import utc_now
from ..seals import checking
from ..seals.keys import PrivateKey
from ..seals.proof import EventProof
from ..seals.proving import prove_growth
from ..seals.results import ProvedEvent, ProvedGrowth, SealVerification, SealView
from ..seals.seal_file import SealFile
from ..seals.sealing import DEFAULT_NAME, Sealer
from .plain import as_json as written_as_json
from .session import check_presence, told
from .terminal import progress, say
from .wording import number, when

Answer = TypeVar("Answer")


def run_seal(url: str, as_json: bool, seals: Path, key: Path | None, name: str | None) -> None:
    """Seal the ledger at `url`."""
    with _refusing(as_json), _sealer(url) as sealer, progress("sealing") as advance:
        sealed = sealer.seal(seals, key=key, name=name, advance=advance)
    _answer(sealed, as_json, lambda one: say(f"sealed: {_seal(one)}"))


def verify_seals(url: str, as_json: bool, seals: Path, key: str | None) -> SealVerification:
    """Hold the ledger at `url` against its seals."""
    with _refusing(as_json), _sealer(url) as sealer, progress("verifying seals") as advance:
        return sealer.verify(seals, key=key, advance=advance)


def run_prove(url: str, as_json: bool, identifier: str, seals: Path, folder: Path) -> None:
    """Write the events of a meter event and their proofs."""
    with _refusing(as_json), _sealer(url) as sealer:
        proofs = sealer.prove(identifier, seals)
    try:
        files = [file for proof in proofs for file in _write(proof, folder)]
    except OSError as error:
        raise typer.BadParameter(f"{folder} can't be written to: {error.strerror}.", param_hint="'--folder'") from None
    _answer(files, as_json, lambda files: [say(f"written: {file}") for file in files])


def run_check_proof(as_json: bool, event: Path, proof: Path, seals: Path | None, key: str | None) -> None:
    """Check a proof of an event."""
    _require_trust(seals, key)
    with _refusing(as_json):
        proved = checking.check_proof(_read(event), _text(proof), seals=seals, key=key)
    _answer(proved, as_json, _show_event)


def run_prove_growth(earlier: int, later: int | None, seals: Path) -> None:
    """Print a proof that one seal only adds to another."""
    with _refusing(as_json=False):
        typer.echo(str(prove_growth(SealFile(seals).read_some(), earlier, later)), nl=False)


def run_check_growth(as_json: bool, proof: Path, seals: Path | None, key: str | None) -> None:
    """Check a proof that one seal only adds to another."""
    _require_trust(seals, key)
    with _refusing(as_json):
        proved = checking.check_growth(_text(proof), seals=seals, key=key)
    _answer(proved, as_json, _show_growth)


def run_seal_key(file: Path, name: str | None) -> None:
    """Print a public key."""
    with _refusing(as_json=False):
        made = PrivateKey.read if file.exists() else PrivateKey.make
        say(str(made(file, name or DEFAULT_NAME).public))


@contextmanager
def _sealer(url: str) -> Generator[Sealer]:
    check_presence(url)
    with closing(Ledger(locate(url))) as ledger:
        yield Sealer(ledger, utc_now)


@contextmanager
def _refusing(as_json: bool) -> Generator[None]:
    """Tell a refusal on stderr, and end the command with status 1."""
    try:
        yield
    except TallybookError as error:
        told(error, in_json=as_json)
        raise typer.Exit(1) from None


def _answer(value: Answer, as_json: bool, show: Callable[[Answer], object]) -> None:
    if as_json:
        typer.echo(written_as_json(value))
    else:
        show(value)


def _require_trust(seals: Path | None, key: str | None) -> None:
    if seals is None and key is None:
        raise typer.BadParameter("A proof shows nothing by itself: give --seals, or --key.")


def _write(proof: EventProof, folder: Path) -> list[Path]:
    event, proof_file = (folder / f"position-{proof.position}.{kind}" for kind in ("event", "tlog-proof"))
    event.write_bytes(proof.event)
    proof_file.write_bytes(str(proof).encode())
    return [event, proof_file]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidProof(f"{file} can't be read: {error.strerror}.", field="proof", value=file) from error


def _text(file: Path) -> str:
    try:
        return _read(file).decode()
    except UnicodeDecodeError as error:
        raise InvalidProof(f"{file} is not text.", field="proof", value=file) from error


def show_seals(found: SealVerification) -> None:
    """How many seals match, and the first position that doesn't."""
    for note in found.notes:
        say(f"note: {note}")
    last = found.seals[-1]
    say(f"{number(found.agreeing)} of {number(len(found.seals))} seals match, the last one of {_seal(last)}")
    _say_unchecked(*found.seals)
    if found.difference is None:
        said = "all as they were sealed" if found.sealed else "so nothing is held by them yet"
        say(f"{number(found.sealed)} of {number(found.events)} events are sealed, {said}")
    else:
        say(f"differs: {found.difference.message}")


def _show_event(proved: ProvedEvent) -> None:
    say(f"proved: position {proved.position} is under the seal of {_seal(proved.seal)}")
    _say_unchecked(proved.seal)
    say(f"  {proved.topic}, {proved.originator_id}, version {proved.originator_version}")
    say(f"  {proved.state}")


def _show_growth(proved: ProvedGrowth) -> None:
    say("proved: the later seal has all events of the earlier one, unchanged")
    say(f"  earlier  {_seal(proved.earlier)}")
    say(f"  later    {_seal(proved.later)}")
    _say_unchecked(proved.earlier, proved.later)


def _say_unchecked(*seals: SealView) -> None:
    """A name below a seal says nothing by itself, so that there is a signature is told, and not whose."""
    if any(one.unchecked_signatures and not one.signed_by for one in seals):
        say("note: signature not checked: give --key")


def _seal(seal: SealView) -> str:
    signed = f", signed by {', '.join(seal.signed_by)}" if seal.signed_by else ""
    return f"{number(seal.size)} events at {when(seal.time)}{signed}"
