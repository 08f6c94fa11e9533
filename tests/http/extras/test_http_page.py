"""The HTTP page of the documentation lists every operation."""

import pytest
from tallybook.application.interfaces.http.catalogue import all_operations
from tallybook.application.interfaces.http.operations import Operation

from ...docs.documents import ROOT

PAGE = (ROOT / "docs" / "http.md").read_text()


@pytest.mark.parametrize("operation", all_operations(), ids=lambda one: one.name)
def test_an_operation_is_on_the_page(operation: Operation) -> None:
    """With its method, path and scope."""
    assert f"| `{operation.method} {operation.path}` | {operation.scope} |" in PAGE
