"""The `checkpoint` commands: create checkpoints of a ledger, and create and verify proofs.

They open the ledger without its read models, which may be what cannot be opened.
"""

from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import checkpoints_output
from .option_groups import TableOptions, with_option_groups
from .options import DEFAULT_LEDGER, JsonOption, LedgerOption, PublicKeyOption
from .session import confirm_result, print_result, reported_errors, require_ledger
from .terminal import progress_bar, say

if TYPE_CHECKING:
    from ...checkpoints.proofs import InclusionProof
    from ...checkpoints.results import CheckpointVerification
    from ...checkpoints.service import CheckpointService

app = typer.Typer(
    help="Create checkpoints of a ledger, and prove what it contains.", no_args_is_help=True, rich_markup_mode=None
)

CheckpointsOption = Annotated[
    Path,
    typer.Option("--checkpoints", metavar="FILE", help="The checkpoint file. Store it separately from the ledger."),
]
TrustedCheckpointsOption = Annotated[
    Path | None,
    typer.Option("--checkpoints", metavar="FILE", help="Your own copy of the checkpoint file or of one checkpoint."),
]
OptionalCheckpointsOption = Annotated[
    Path | None,
    typer.Option("--checkpoints", metavar="FILE", help="The checkpoint file; those in the ledger by default."),
]
PublishingKeyOption = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="The private key to sign with, see 'tallybook checkpoint key'.")
]
DestinationsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        metavar="PLACE",
        help="Copy the checkpoint: to a checkpoint file, s3://bucket/prefix, or an https:// URL. Repeatable.",
    ),
]
PreviousKeysOption = Annotated[
    list[str] | None,
    typer.Option(
        "--previous-key", metavar="KEY", help="A public key, or its file, that signed earlier checkpoints. Repeatable."
    ),
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="The maximum number.")]
PrivateKeyOption = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="The private key to sign with, see 'tallybook checkpoint key'."),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="The ledger's name in its checkpoints. It cannot be changed. tallybook by default."
    ),
]
FolderOption = Annotated[Path, typer.Option(metavar="FOLDER", help="The folder for the files.")]
IdentifierArgument = Annotated[
    str, typer.Argument(metavar="IDENTIFIER", help="The identifier of the meter event.", show_default=False)
]
EventFileArgument = Annotated[Path, typer.Argument(metavar="EVENT", help="The event file that 'prove' writes.")]
ProofFileArgument = Annotated[Path, typer.Argument(metavar="PROOF", help="The proof file.")]
KeyFileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The file of the private key.")]
EarlierArgument = Annotated[
    int, typer.Argument(metavar="EARLIER", help="The number of events of the earlier checkpoint.")
]
LaterArgument = Annotated[
    int | None,
    typer.Argument(
        metavar="[LATER]", help="The number of events of the later checkpoint. The last checkpoint by default."
    ),
]


@app.command()
def create(
    checkpoints: CheckpointsOption,
    key: PrivateKeyOption = None,
    name: NameOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Append a checkpoint of all events to a file.

    'tallybook verify --checkpoints' then finds every later change of these events. If the ledger does not match its
    earlier checkpoints, no checkpoint is created.
    """
    with (
        reported_errors(as_json=as_json),
        _open_service(ledger) as service,
        progress_bar("creating a checkpoint") as advance,
    ):
        checkpoint = service.create(checkpoints, key=key, name=name, progress=advance)
    confirm_result(checkpoint, checkpoints_output.show_created, as_json=as_json)


@app.command()
def key(file: KeyFileArgument, name: NameOption = None) -> None:
    """Print the public key of a key file. Create the key if the file does not exist.

    Any Ed25519 private key in PEM format works, for example one of OpenSSL.
    """
    with reported_errors(as_json=False):
        from ...checkpoints.service import DEFAULT_NAME  # noqa: PLC0415
        from ...checkpoints.signing_keys import PrivateKey  # noqa: PLC0415 - loads the domain

        load_or_generate = PrivateKey.load if file.exists() else PrivateKey.generate
        public_key = str(load_or_generate(file, name or DEFAULT_NAME).public_key)
    confirm_result(public_key, say, as_json=False)


@app.command()
def publish(
    key: PublishingKeyOption,
    to: DestinationsOption = None,
    name: NameOption = None,
    previous_keys: PreviousKeysOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Create, sign and copy a checkpoint of new events.

    It is stored in the ledger, and copied to places outside. Only events since the last checkpoint are read. 'tallybook
    serve' and 'tallybook projection run' do this on a schedule if TALLYBOOK_CHECKPOINT__KEY is set.
    """
    with (
        reported_errors(as_json=as_json),
        _open_service(ledger) as service,
        progress_bar("creating a checkpoint") as advance,
    ):
        published = service.publish(key, to or (), name=name, previous_keys=previous_keys or (), progress=advance)
    confirm_result(published, checkpoints_output.show_published, as_json=as_json)


@app.command("list")
@with_option_groups
def list_checkpoints(limit: LimitOption = 10, ledger: LedgerOption = DEFAULT_LEDGER, *, output: TableOptions) -> None:
    """List the published checkpoints, the last one first."""
    with reported_errors(as_json=output.as_json), _open_service(ledger) as service:
        stored = [signed.checkpoint for signed in service.list(limit=limit)]
    show = output.show(checkpoints_output.show_stored, lambda tables: tables.checkpoints)
    print_result(stored, show, as_json=output.as_json)


@app.command()
def prove(
    identifier: IdentifierArgument,
    checkpoints: OptionalCheckpointsOption = None,
    folder: FolderOption = Path(),
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Prove that the last checkpoint has a meter event.

    It is the last one in the file, or of those that the ledger stores itself. Writes an event file and a proof file for
    each of its stored events: the recording, and the cancellation if any.
    """
    with reported_errors(as_json=as_json), _open_service(ledger) as service:
        proofs = service.prove(identifier) if checkpoints is None else service.prove_inclusion(identifier, checkpoints)
    try:
        files = [file for proof in proofs for file in _write_proof(proof, folder)]
    except OSError as error:
        raise typer.BadParameter(f"Cannot write to {folder}: {error.strerror}.", param_hint="'--folder'") from None
    confirm_result(files, lambda files: [say(f"written: {file}") for file in files], as_json=as_json)


@app.command("verify-proof")
def verify_proof(
    event: EventFileArgument,
    proof: ProofFileArgument,
    checkpoints: TrustedCheckpointsOption = None,
    key: PublicKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify that a checkpoint has an event.

    Needs no ledger, but the checkpoint or the public key from a source that you trust.
    """
    _require_trust_anchor(checkpoints, key)
    with reported_errors(as_json=as_json):
        from ...checkpoints.verify_proof import verify_inclusion  # noqa: PLC0415 - loads the domain

        verified = verify_inclusion(_read_bytes(event), _read_text(proof), checkpoints=checkpoints, key=key)
    print_result(verified, checkpoints_output.show_verified_event, as_json=as_json)


@app.command("prove-consistency")
def prove_consistency(earlier: EarlierArgument, checkpoints: CheckpointsOption, later: LaterArgument = None) -> None:
    """Prove that a checkpoint extends an earlier one.

    Prints the proof that the later checkpoint only adds events to the earlier one.
    """
    with reported_errors(as_json=False):
        from ...checkpoints import prove  # noqa: PLC0415 - loads the domain
        from ...checkpoints.checkpoint_file import CheckpointFile  # noqa: PLC0415

        proof = prove.prove_consistency(CheckpointFile(checkpoints).read_nonempty(), earlier, later)
        typer.echo(str(proof), nl=False)


@app.command("verify-consistency")
def verify_consistency(
    proof: ProofFileArgument,
    checkpoints: TrustedCheckpointsOption = None,
    key: PublicKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify that a checkpoint extends an earlier one.

    The proof shows that the later checkpoint only adds events to the earlier one. Verification needs no ledger, but the
    earlier checkpoint or the public key from a source that you trust.
    """
    _require_trust_anchor(checkpoints, key)
    with reported_errors(as_json=as_json):
        from ...checkpoints import verify_proof as verification  # noqa: PLC0415 - loads the domain

        verified = verification.verify_consistency(_read_text(proof), checkpoints=checkpoints, key=key)
    print_result(verified, checkpoints_output.show_verified_consistency, as_json=as_json)


def verify_checkpoints(
    url: str, as_json: bool, checkpoints: Path, key: str | None, witnesses: Sequence[str]
) -> "CheckpointVerification":
    """Compare the ledger at `url` with its checkpoints."""
    with (
        reported_errors(as_json=as_json),
        _open_service(url) as service,
        progress_bar("verifying checkpoints") as advance,
    ):
        return service.verify(checkpoints, key=key, witnesses=witnesses, progress=advance)


@contextmanager
def _open_service(url: str) -> Generator["CheckpointService"]:
    from ...archive.archived_events import connect_archive  # noqa: PLC0415 - loads the domain
    from ...checkpoints.service import CheckpointService  # noqa: PLC0415
    from ...clock import utc_now  # noqa: PLC0415
    from ...ledger.ledger import Ledger  # noqa: PLC0415
    from ...storage.url import resolve_store  # noqa: PLC0415

    require_ledger(url)
    with closing(connect_archive(Ledger(resolve_store(url)))) as ledger:
        yield CheckpointService(ledger, utc_now)


def _require_trust_anchor(checkpoints: Path | None, key: str | None) -> None:
    if checkpoints is None and key is None:
        raise typer.BadParameter("A proof alone proves nothing: use --checkpoints or --key.")


def _write_proof(proof: "InclusionProof", folder: Path) -> list[Path]:
    from ...storage.private_files import private_opener_without_links  # noqa: PLC0415 - loads the domain

    contents = {"event": proof.event, "tlog-proof": str(proof).encode()}
    files = {folder / f"position-{proof.position}.{suffix}": data for suffix, data in contents.items()}
    for path, data in files.items():
        with open(path, "wb", opener=private_opener_without_links) as file:
            file.write(data)
    return list(files)


def _read_bytes(file: Path) -> bytes:
    from ....domain.errors import InvalidProof  # noqa: PLC0415 - loads the domain

    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidProof(f"Cannot read {file}: {error.strerror}.", field="proof", value=file) from error


def _read_text(file: Path) -> str:
    from ....domain.errors import InvalidProof  # noqa: PLC0415 - loads the domain

    try:
        return _read_bytes(file).decode()
    except UnicodeDecodeError as error:
        raise InvalidProof(f"{file} is not text.", field="proof", value=file) from error
