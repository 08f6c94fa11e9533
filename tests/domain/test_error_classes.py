"""Every class of errors is raised by a test, and has a code of its own."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tallybook.application import TallybookError
from tallybook.domain import errors

from .ledger_errors import FILE_ERRORS
from .test_errors import ERRORS

ROOT = Path(__file__).parents[2]
RAISED_IN_OTHER_TESTS: Mapping[type[TallybookError], str] = {
    errors.ApprovalRequired: "tests/application/test_proposals.py",
    errors.ApproverNotIndependent: "tests/application/test_proposals.py",
    errors.ArchiveInUse: "tests/archive/test_export.py",
    errors.BackupNotSupported: "tests/contract/test_backup.py",
    errors.BillingRunInProgress: "tests/contract/test_billing_runs.py",
    errors.CheckpointDestinationUnavailable: "tests/contract/test_published_checkpoints.py",
    errors.CheckpointInProgress: "tests/contract/test_published_checkpoints.py",
    errors.ClockBehind: "tests/contract/test_clocks.py",
    errors.CopyNotSupported: "tests/contract/test_copy.py",
    errors.DatabasePermissionDenied: "tests/docs/test_roles.py",
    errors.InvalidImportFile: "tests/application/test_import_files.py",
    errors.InvalidUsageSource: "tests/object_import/test_objects.py",
    errors.LedgerNotEmpty: "tests/contract/test_copy.py",
    errors.ProposalClosed: "tests/application/test_proposals.py",
    errors.ProposalNotFound: "tests/application/test_proposals.py",
    errors.ProposalOutdated: "tests/application/test_proposals.py",
    errors.TaskInProgress: "tests/contract/test_tasks.py",
    errors.TooManyProposals: "tests/application/test_proposals.py",
    errors.TooManyUploads: "tests/application/test_uploads.py",
    errors.UsageSourceUnavailable: "tests/object_import/test_s3.py",
}
"""The errors that need a second process, a server, files or another clock, and a test that raises each of them."""


def error_classes(base: type[TallybookError] = TallybookError) -> Iterator[type[TallybookError]]:
    """Return all classes of errors, categories included."""
    for error_class in base.__subclasses__():
        if error_class.__module__.startswith(f"{errors.__name__}."):
            yield error_class
            yield from error_classes(error_class)


def test_every_error_class_is_raised_by_a_test() -> None:
    """A new class needs a row in a table of errors, or a line above, unless it is a category."""
    covered_codes = {code for code, _, _ in ERRORS} | {code for code, _, _ in FILE_ERRORS}
    covered_codes |= {error_class.code for error_class in RAISED_IN_OTHER_TESTS}
    assert covered_codes == {
        error_class.code for error_class in error_classes() if TallybookError not in error_class.__bases__
    }


@pytest.mark.parametrize("error_class", RAISED_IN_OTHER_TESTS)
def test_the_other_tests_name_the_error(error_class: type[TallybookError]) -> None:
    text = (ROOT / RAISED_IN_OTHER_TESTS[error_class]).read_text()
    assert error_class.__name__ in text or error_class.code in text


def test_each_error_class_has_its_own_code() -> None:
    """No two classes share a code, categories included."""
    codes = [error_class.code for error_class in error_classes()]
    assert len(set(codes)) == len(codes)
    assert TallybookError.code not in codes
