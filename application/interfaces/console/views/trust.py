"""The screen Trust: whether the read models are up to date and right, checkpoints, proofs, rejected events, keys."""

from itertools import islice
from pathlib import Path
from typing import TextIO

from .....domain.access_key import Scope
from .....domain.timestamps import from_microseconds
from ....access_keys.views import AccessKeyView
from ....checkpoints.checkpoint_file import CheckpointFile
from ....checkpoints.results import CheckpointView
from ....jobs.job import JobValue
from ....metering import Metering
from ...http.errors import ApiError
from ...http.rejected_events import REJECTED_EVENT_KIND, decode_rejected
from ...http.webhooks.deliveries import next_due
from ...http.webhooks.endpoints import EndpointStore
from ..registry import ViewContext, ViewRegistry
from ..responses import Download, Page, Redirect
from ..selection import parse_selection
from ..tasks import newest_task

views = ViewRegistry()
VERIFICATION, CHECKPOINTS = "verification", "checkpoint-verification"
MAX_REJECTED, MAX_CHECKPOINTS = 50, 50


@views.get("/trust")
def trust(context: ViewContext) -> Page:
    """Show the state of the ledger, to those who have to rely on it."""
    ledger, metering = context.user.ledger, context.metering
    live = next(one for one in metering.generations.list() if one.state == "live")
    rejected = ledger.key_values.scan(REJECTED_EVENT_KIND, limit=MAX_REJECTED, newest_first=True)
    values: dict[str, object] = {
        "selection": parse_selection(context), "live": live, "task": newest_task(context, VERIFICATION),
        "checked": newest_task(context, CHECKPOINTS),
        "rejected": [(from_microseconds(entry.at), decode_rejected(entry.body)) for entry in rejected],
        "checkpoint_file": _checkpoint_file(context), "checkpoints": _checkpoints(context), "keys": None,
        "endpoints": None,
    }  # fmt: skip
    if context.user.allows(Scope.ADMIN):
        values["keys"] = _access_keys(context)
        values["endpoints"] = [
            (endpoint, next_due(ledger.key_values, endpoint.id)) for endpoint in EndpointStore(ledger.key_values).all()
        ]
    return Page("trust.html", values)


@views.post("/trust/verify", Scope.ADMIN)
def verify(context: ViewContext) -> Redirect:
    """Compare the read models, the closed periods and the checkpoints with the ledger, in the background."""
    metering, file = context.metering, _checkpoint_file(context)
    metering.tasks.verify(by=context.user.by)
    if file is not None:
        metering.tasks.start(CHECKPOINTS, lambda _: _verify_checkpoints(metering, file), by=context.user.by)
    return Redirect(context.url("/trust"))


@views.get("/trust/proof", is_large=True)
def proof(context: ViewContext) -> Download:
    """Download the proof that a checkpoint covers a stored event of a meter event, or the event that it proves."""
    file, number = _checkpoint_file(context), context.params.number("number", 0)
    if file is None:
        raise ApiError(404, "The console was started without a checkpoint file.")
    identifier = context.params.exact("id")
    found = next(islice(context.metering.checkpoints.prove_inclusion(identifier, file), number, None), None)
    if found is None:
        raise ApiError(404, "The meter event has no such stored event.")
    if context.params.is_set("event"):
        text = found.event.decode()
        return Download(f"{number}.event", lambda output: _write(output, text), "application/json")
    text = str(found)
    return Download(f"{number}.tlog-proof", lambda output: _write(output, text), "text/plain; charset=utf-8")


@views.get("/trust/consistency", is_large=True)
def consistency(context: ViewContext) -> Download:
    """Download the proof that the last checkpoint only adds events to an earlier one."""
    file, size = _checkpoint_file(context), context.params.number("earlier", 0)
    if file is None:
        raise ApiError(404, "The console was started without a checkpoint file.")
    text = str(context.metering.checkpoints.prove_consistency(file, size))
    return Download(f"consistency-{size}.txt", lambda output: _write(output, text), "text/plain; charset=utf-8")


def _access_keys(context: ViewContext) -> list[AccessKeyView]:
    """Return the access keys of the user's mode; to the user of this computer all, as the command line does.

    The live ledger stores those of both modes.
    """
    user = context.user
    keys = context.ledgers.for_mode(livemode=True).metering.access_keys.list()
    return [key for key in keys if user.access_key is None or key.livemode == user.ledger.livemode]


def _write(output: TextIO, text: str) -> None:
    output.write(text)


def _verify_checkpoints(metering: Metering, file: Path) -> dict[str, JobValue]:
    """Compare the ledger with its checkpoints; return how many match, and the first difference."""
    checked = metering.checkpoints.verify(file)
    difference = "" if checked.difference is None else checked.difference.message
    return {"matching": checked.matching_checkpoints, "checkpoints": len(checked.checkpoints), "difference": difference}


def _checkpoint_file(context: ViewContext) -> Path | None:
    """Return the checkpoint file, which is that of the live ledger."""
    return context.checkpoint_file if context.user.ledger.livemode else None


def _checkpoints(context: ViewContext) -> list[CheckpointView]:
    """Return the last checkpoints, the newest first."""
    file = _checkpoint_file(context)
    if file is None:
        return []
    return [CheckpointView.from_signed_checkpoint(one, None) for one in CheckpointFile(file).read().all[::-1]][
        :MAX_CHECKPOINTS
    ]
