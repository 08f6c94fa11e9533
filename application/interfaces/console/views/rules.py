"""The screen Rules: the history of a meter's rules, a change with its preview by customer, and how to undo it."""

import csv
from typing import TextIO

from .....domain.access_key import Scope
from .....domain.decimals import to_plain_string
from .....domain.errors import InvalidEffectiveFrom, InvalidParameter
from .....domain.timestamps import to_iso
from .....projections.models import GenerationState
from ....jobs.tasks import TaskView
from ....queries.comparison import CustomerDifference, GenerationDifference, WindowState
from ....spreadsheet_text import escape_formulas
from ...http.errors import ApiError
from ..error_pages import RejectedForm
from ..registry import ViewContext, ViewRegistry
from ..responses import Download, Page, Redirect
from ..rules_form import FORMULAS, WINDOWS, changed_rules, entered_values, form_values
from ..selection import Selection, parse_selection, parse_time
from ..tasks import newest_task, task_of_page

views = ViewRegistry()
MAX_ROWS = 100


@views.get("/rules")
def rules(context: ViewContext) -> Page:
    """Show the rules of a meter over time, and the form that changes them."""
    selection = parse_selection(context)
    if selection.meter is None:
        return Page("no_meters.html", {"selection": selection})
    return _rules_page(context, selection, {**form_values(selection.meter), "effective_from": ""})


def _rules_page(context: ViewContext, selection: Selection, form: dict[str, str], problem: str | None = None) -> Page:
    """Return the page with the form filled in; with what is not valid in it, if there is a problem."""
    return Page(
        "rules.html",
        {
            "selection": selection, "history": context.metering.meters.history(selection.event_name)[::-1],
            "generations": context.metering.generations.list(), "formulas": FORMULAS, "event_time_windows": WINDOWS,
            "form": form, "problem": problem, "task": newest_task(context, "rebuild"),
        },
        200 if problem is None else 400,
    )  # fmt: skip


@views.post("/rules/preview", Scope.RULES)
def start_preview(context: ViewContext) -> Redirect:
    """Build a candidate under changed rules, in the background."""
    selection, metering = parse_selection(context), context.metering
    meter = metering.meters.get(selection.event_name)
    text = context.params.optional("effective_from")
    try:
        changes = changed_rules(meter, context.params)
        effective_from = None if text is None else parse_time(text, "effective_from", selection.timezone)
        task = metering.tasks.build_candidate(
            meter.event_name, changes, effective_from=effective_from, by=context.user.by
        )
    except (ApiError, InvalidParameter, InvalidEffectiveFrom) as error:
        message = error.error.message if isinstance(error, ApiError) else error.message
        form = entered_values(meter, context.params)
        raise RejectedForm(message, _rules_page(context, selection, form, message)) from error
    return Redirect(context.url("/rules/preview", task=task.id, **selection.params))


@views.get("/rules/preview", Scope.RULES, is_large=True)
def preview(context: ViewContext) -> Page:
    """Show what changed rules would change, by customer; or the progress while they are computed."""
    selection = parse_selection(context)
    task = task_of_page(context)
    number = context.params.number("generation", _generation_of(task))
    generation = next((one for one in context.metering.generations.list() if one.number == number), None)
    values: dict[str, object] = {"selection": selection, "task": task, "generation": generation, "difference": None}
    if generation is None or generation.state is not GenerationState.READY:
        return Page("rules_preview.html", values)
    difference = context.metering.generations.diff(generation.number, timezone=selection.timezone.key)
    rows = _rows(difference, selection.event_name)
    is_open = [row for row in rows if row.state is WindowState.OPEN]
    closed = [row for row in rows if row.state is not WindowState.OPEN]
    sums = next((one for one in difference.meters if one.event_name == selection.event_name), None)
    return Page(
        "rules_preview.html",
        {
            **values, "difference": difference, "sums": sums, "max_rows": MAX_ROWS, "open": is_open, "closed": closed,
            "new_rules": generation.rules.get(selection.event_name),
            "effective_from": generation.effective_from.get(selection.event_name),
        },
    )  # fmt: skip


@views.get("/rules/preview.csv", Scope.RULES, is_large=True)
def preview_csv(context: ViewContext) -> Download:
    """Download what changed rules would change."""
    selection = parse_selection(context)
    difference = context.metering.generations.diff(
        context.params.number("generation", 0), timezone=selection.timezone.key
    )
    rows = _rows(difference, selection.event_name)
    return Download("rules-preview.csv", lambda file: _write_rows(rows, file))


@views.post("/rules/promote", Scope.RULES)
def promote(context: ViewContext) -> Redirect:
    """Make a generation live, and its rules the current ones."""
    number = context.params.number("generation", 0)
    context.metering.generations.promote(
        number, reason=context.params.optional("reason"), by=context.user.by, digest=context.params.optional("digest")
    )
    return Redirect(context.url("/rules", meter=context.params.exact("meter"), done="promoted"))


@views.post("/rules/drop", Scope.RULES)
def drop(context: ViewContext) -> Redirect:
    """Delete a generation that isn't live."""
    number = context.params.number("generation", 0)
    if not number:
        raise ApiError(400, "No generation was named.")
    context.metering.generations.drop(number)
    return Redirect(context.url("/rules", meter=context.params.exact("meter"), done="dropped"))


def _generation_of(task: TaskView | None) -> int:
    """Return the number of the generation that a task has built; 0 if there is none."""
    return int(task.result.get("generation") or 0) if task is not None and task.result is not None else 0


def _rows(difference: GenerationDifference, event_name: str) -> list[CustomerDifference]:
    return [row for row in difference.sorted_by_size if row.event_name == event_name]


def _write_rows(rows: list[CustomerDifference], file: TextIO) -> None:
    writer = csv.writer(file)
    writer.writerow(
        ("customer", "start", "end", "state", "before", "after", "difference", "billable_before", "billable_after")
    )
    for row in rows:
        numbers = (row.before, row.after, row.difference, row.billable_before, row.billable_after)
        cells = escape_formulas(row.customer), to_iso(row.start), to_iso(row.end), str(row.state)
        writer.writerow((*cells, *map(to_plain_string, numbers)))
