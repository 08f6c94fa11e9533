"""The page on HTTP tells of every operation that there is."""

import pytest
from tallybook.application.server.catalogue import operations
from tallybook.application.server.routes import Operation

from ...docs.documents import ROOT

PAGE = (ROOT / "docs" / "http.md").read_text()


@pytest.mark.parametrize("operation", operations(), ids=lambda one: one.name)
def test_an_operation_is_on_the_page(operation: Operation) -> None:
    """With its method, path and scope."""
    assert f"| `{operation.method} {operation.path}` | {operation.scope} |" in PAGE
