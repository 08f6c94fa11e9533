"""The generated reference pages are those that the code generates now."""

from pathlib import Path

import pytest
from tallybook.domain import errors
from tallybook.domain.access_key import Scope

from tests.docs.documents import ROOT, name
from tests.docs.reference import PAGES, error_categories


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_committed_page_is_the_generated_one(page: Path) -> None:
    """If this fails, run `python -m tests.docs.reference` and commit the result."""
    assert page.read_text(encoding="utf-8") == PAGES[page]()


def test_error_codes_are_unique() -> None:
    """No two error classes share a code, and each is in a category."""
    categories = error_categories()
    leaves = [error for category in categories for error in category.__subclasses__()]
    classes = [*categories, *(error for error in leaves if error.__module__.startswith(f"{errors.__name__}."))]
    assert len({error.code for error in classes}) == len(classes)
    defined = {
        error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.TallybookError)
    }
    assert defined == {errors.TallybookError, *classes}


@pytest.mark.parametrize("document", ["SECURITY.md", "docs/http.md"])
def test_all_scopes_are_documented(document: str) -> None:
    """On the line that lists the scopes of an access key."""
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    assert any(all(f"`{scope}`" in line for scope in Scope) for line in lines)
