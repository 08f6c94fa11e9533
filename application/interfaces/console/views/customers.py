"""Customer search, for the field that completes names as they are typed."""

from ..registry import ViewContext, ViewRegistry
from ..responses import Data

views = ViewRegistry()
MAX_SUGGESTIONS = 12


@views.get("/customers")
def search(context: ViewContext) -> Data:
    """Return the customers whose names contain a text."""
    return Data(context.metering.customers.search(context.params.get("q"), limit=MAX_SUGGESTIONS))
