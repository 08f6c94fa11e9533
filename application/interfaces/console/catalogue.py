"""The list of all views."""

from collections.abc import Sequence

from .registry import RegisteredView, ViewRegistry
from .views import (
    compare,
    customer_period,
    customers,
    embed,
    event,
    explanation,
    history,
    imports,
    periods,
    proposals,
    rules,
    trust,
    usage,
)

REGISTRIES: Sequence[ViewRegistry] = (
    usage.views, customers.views, explanation.views, event.views, periods.views, customer_period.views, rules.views,
    compare.views, embed.views, history.views, imports.views, trust.views, proposals.views,
)  # fmt: skip


def all_views() -> list[RegisteredView]:
    """Return all views."""
    return [view for registry in REGISTRIES for view in registry]
