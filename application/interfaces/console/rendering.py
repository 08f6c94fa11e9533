"""Templates of the console, and how they show numbers, times and rules: as the command line does."""

import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ...history_results import Authorship
from ..calendar_periods import format_period
from ..formatting import (
    format_author,
    format_count,
    format_difference,
    format_number,
    format_quantity,
    format_rules,
    format_time,
)
from ..import_text import format_dialect
from .query_string import console_url
from .registry import ViewContext
from .tasks import progress_text

STATIC_FILES: Mapping[str, str] = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_PACKAGE = __name__.rpartition(".")[0]
SHORT_DIGEST = 12
SCREENS = (
    ("/usage", "Usage"), ("/why", "Why this figure"), ("/event", "Event"), ("/periods", "Periods"),
    ("/rules", "Rules"), ("/compare", "Compare"), ("/history", "History"),
    ("/proposals", "Proposals"), ("/import", "Import"), ("/trust", "Trust"),
)  # fmt: skip
DONE: Mapping[str, str] = {
    "approved": "The proposal is approved, and its change is made.",
    "cancelled": "The event is cancelled. It no longer counts.",
    "closed": "The period is closed.",
    "dropped": "The generation is deleted.",
    "promoted": "The generation is live.",
    "proposed": "The change is proposed. It is made when somebody else approves it.",
    "rejected": "The proposal is rejected. Nothing was changed.",
    "reopened": "The period is open again. The next closing is billed in full.",
    "settled": "The adjustment is settled.",
    "revoked": "The cancellation is revoked. The event counts again.",
}
"""Sentences about changes, by the value of the parameter `done`."""


def render(template: str, values: Mapping[str, object], context: ViewContext | None, *, has_login: bool) -> bytes:
    """Return a page as UTF-8. Without a context, no user is logged in."""
    common: dict[str, object] = {
        "context": context, "has_login": has_login, "selection": None, "done": _done(context),
    }  # fmt: skip
    return _environment().get_template(template).render({**common, **values}).encode()


@cache
def static_file(name: str) -> bytes:
    """Return the content of a static file."""
    return Path(str(files(_PACKAGE).joinpath("static", name))).read_bytes()


@cache
def static_version(name: str) -> str:
    """Return the part of a static file's URL that changes with its content, so that browsers may store it forever."""
    return sha256(static_file(name)).hexdigest()[:SHORT_DIGEST]


def number(value: Decimal | int | None) -> Markup:
    """Return an exact number with thousands separators; without them it is the value of the element."""
    if value is None:
        return Markup('<span class="none">&ndash;</span>')
    plain = format(value, "f") if isinstance(value, Decimal) else str(value)
    return Markup('<data value="{}">{}</data>').format(plain, format_number(value))


def difference(value: Decimal | None) -> Markup:
    """Return a number with its sign."""
    if value is None:
        return number(None)
    kind = "up" if value > 0 else "down" if value < 0 else "same"
    return Markup('<data class="{}" value="{}">{}</data>').format(kind, format(value, "f"), format_difference(value))


def time_element(at: datetime | None, timezone: tzinfo | None = None) -> Markup:
    """Return a time to the second, in a timezone or in UTC; the title has it exactly."""
    if at is None:
        return number(None)
    exact = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    shown = format_time(at.replace(microsecond=0), None if timezone is None or str(timezone) == "UTC" else timezone)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, exact, shown)


def _topic(event: str) -> str:
    """Return the topic of a stored event in words, such as "Event cancelled"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", event).capitalize()


def _author(author: Authorship) -> str:
    return format_author(author.by, author.on_behalf_of, author.approved_by)


def _done(context: ViewContext | None) -> str | None:
    """Return the sentence about the change from which a form has led to the page."""
    return None if context is None else DONE.get(context.params.get("done"))


def _static_url(name: str) -> str:
    return console_url(f"/static/{name}", v=static_version(name))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(_PACKAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        number=number, difference=difference, time=time_element, rules=format_rules, quantity=format_quantity,
        topic=_topic, author=_author, progress=progress_text, dialect=format_dialect,
    )  # fmt: skip
    helpers: dict[str, Any] = {
        "count": format_count, "form_key": lambda: secrets.token_urlsafe(16), "period_text": format_period,
        "static": _static_url, "screens": SCREENS, "url": console_url,
    }  # fmt: skip
    environment.globals.update(helpers)
    return environment
