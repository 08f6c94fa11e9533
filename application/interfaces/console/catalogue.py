"""The list of all views."""

from collections.abc import Sequence

from .registry import RegisteredView, ViewRegistry
from .views import customers, event, explanation, usage

REGISTRIES: Sequence[ViewRegistry] = (usage.views, customers.views, explanation.views, event.views)


def all_views() -> list[RegisteredView]:
    """Return all views."""
    return [view for registry in REGISTRIES for view in registry]
