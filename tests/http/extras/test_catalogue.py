"""Rules that hold for every operation."""

import json

import msgspec
import pytest
from jsonschema import ValidationError
from tallybook.application.interfaces.http.catalogue import all_operations

from ..openapi_document import OpenApiDocument

AS_OF = {"as_of", "as_of_position"}
CURRENT_ONLY = {
    "retrieve_projection": "how far the read models are is of now alone",
    "list_meter_event_errors": "what couldn't be counted is no part of the ledger, and never changes",
    "retrieve_meter_event_error": "what couldn't be counted is no part of the ledger, and never changes",
    "list_events": "events never change",
    "retrieve_event": "events never change",
    "list_events_v2": "events never change",
    "retrieve_event_v2": "events never change",
    "list_checkpoints": "checkpoints never change",
    "retrieve_checkpoint": "checkpoints never change",
    "retrieve_checkpoint_proof": "a proof is by the last checkpoint",
    "retrieve_evidence": "a pack is as of the last checkpoint",
    "list_jobs": "jobs are no part of the ledger",
    "retrieve_job": "jobs are no part of the ledger",
    "list_tasks": "tasks are no part of the ledger",
    "retrieve_task": "tasks are no part of the ledger",
    "list_access_keys": "access keys are those of now: the history has what became of them",
    "retrieve_access_key": "access keys are those of now: the history has what became of them",
    "retrieve_approval_policy": "the policy is that of now: the history has its changes",
    "list_proposals": "proposals are those of now: the history has what became of them",
    "retrieve_proposal": "proposals are those of now: the history has what became of them",
    "retrieve_usage_import": "uploaded files are no part of the ledger",
    "retrieve_rejected_rows": "uploaded files are no part of the ledger",
    "list_history": "it lists the events of the ledger by their positions",
    "search_customers": "names of customers are no part of a total",
    "list_webhook_endpoints": "endpoints are no part of the ledger",
    "retrieve_webhook_endpoint": "endpoints are no part of the ledger",
}


def test_every_reading_call_takes_as_of() -> None:
    """The exceptions are listed here, with the reason."""
    without = {
        operation.name
        for operation in all_operations()
        if operation.method == "GET"
        and not {field.name for field in msgspec.structs.fields(operation.params_type)} >= AS_OF
    }
    assert without == set(CURRENT_ONLY)


def test_names_and_paths_are_unique_per_operation() -> None:
    """Client generators need this."""
    all_operations_list = all_operations()
    assert len({operation.name for operation in all_operations_list}) == len(all_operations_list)
    assert len({(operation.method, operation.path) for operation in all_operations_list}) == len(all_operations_list)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"object": "list", "data": [{"id": "x"}], "has_more": False, "url": "/"}, id="items-lack-fields"),
        pytest.param({"object": "list", "data": [], "has_more": "no", "url": "/"}, id="another-type"),
        pytest.param({"object": "list", "data": [], "has_more": False, "url": "/", "more": 1}, id="one-field-more"),
        pytest.param({"object": "list", "data": [], "url": "/"}, id="one-field-less"),
    ],
)
def test_an_undocumented_response_is_detected(body: object) -> None:
    """Otherwise the check of responses against the document would have no effect."""
    with pytest.raises(ValidationError):
        OpenApiDocument().check("GET", "/v1/billing/meters", 200, json.dumps(body).encode())
