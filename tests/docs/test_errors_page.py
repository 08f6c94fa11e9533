"""The page of refusals and the code tell the same."""

import inspect
import re

from tallybook.domain import errors

from tests.docs.documents import ROOT


def test_every_refusal_is_on_the_page() -> None:
    """docs/errors.md lists each error class with its code and its sentence, and nothing else."""
    page = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.+) \|$", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    code = [
        (error.code, error_name, inspect.getdoc(error))
        for error_name, error in vars(errors).items()
        if inspect.isclass(error) and issubclass(error, errors.TallybookError) and error is not errors.TallybookError
    ]
    assert page == code


def test_codes_tell_refusals_apart() -> None:
    """No two error classes share a code."""
    codes = [error.code for error in errors.TallybookError.__subclasses__()]
    assert len(codes) == len(set(codes))
