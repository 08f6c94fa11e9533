"""The screen Event: a meter event, its verdict and its history; cancel it, or revoke its cancellation."""

from .....domain.access_key import Scope
from .....domain.errors import MeterEventNotFound
from ..registry import ViewContext, ViewRegistry
from ..responses import Page, Redirect
from ..selection import parse_selection

views = ViewRegistry()


@views.get("/event")
def event(context: ViewContext) -> Page:
    """Show a meter event, or the form that finds it."""
    selection, identifier = parse_selection(context), context.params.exact("id")
    values: dict[str, object] = {"selection": selection, "identifier": identifier, "event": None, "other": None}
    if not identifier:
        return Page("event.html", values)
    name = context.params.exact("meter")
    try:
        found = context.metering.event(identifier)
    except MeterEventNotFound as error:
        return Page("event.html", {**values, "other": error.message}, 404)
    derived = context.metering.meters.get(found.event_name).derived_meters
    if name in derived:
        found = context.metering.event(identifier, event_name=name)
    meter = context.metering.meters.get(name if name in derived else found.event_name)
    return Page("event.html", {**values, "event": found, "meter": meter})


@views.post("/event/cancel", Scope.CANCEL)
def cancel(context: ViewContext) -> Redirect:
    """Cancel a meter event."""
    identifier, event_name = context.params.exact("id"), context.params.exact("event_name")
    context.metering.cancel(event_name, identifier, reason=context.params.optional("reason"), by=context.user.by)
    return Redirect(context.url("/event", id=identifier, done="cancelled"))


@views.post("/event/revoke", Scope.CANCEL)
def revoke(context: ViewContext) -> Redirect:
    """Revoke the cancellation of a meter event."""
    identifier, event_name = context.params.exact("id"), context.params.exact("event_name")
    context.metering.revoke_cancel(event_name, identifier, reason=context.params.get("reason"), by=context.user.by)
    return Redirect(context.url("/event", id=identifier, done="revoked"))
