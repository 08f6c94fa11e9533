"""What holds of every operation there is."""

import json

import msgspec
import pytest
from jsonschema import ValidationError
from tallybook.application.server.catalogue import operations

from ..documented import Documented

AS_OF = {"as_of", "as_of_position"}
OF_NOW = {
    "retrieve_projection": "how far the read models are is of now alone",
    "list_meter_event_errors": "what couldn't be counted is no part of the ledger, and never changes",
    "retrieve_meter_event_error": "what couldn't be counted is no part of the ledger, and never changes",
    "list_events": "events never change",
    "retrieve_event": "events never change",
    "list_events_v2": "events never change",
    "retrieve_event_v2": "events never change",
    "list_webhook_endpoints": "endpoints are no part of the ledger",
    "retrieve_webhook_endpoint": "endpoints are no part of the ledger",
}


def test_every_reading_call_takes_as_of() -> None:
    """But those that are named here, with the reason."""
    without = {
        one.name
        for one in operations()
        if one.method == "GET" and not {field.name for field in msgspec.structs.fields(one.takes)} >= AS_OF
    }
    assert without == set(OF_NOW)


def test_names_and_places_are_each_of_one_operation() -> None:
    """Clients are made from them."""
    every = operations()
    assert len({one.name for one in every}) == len(every)
    assert len({(one.method, one.path) for one in every}) == len(every)


@pytest.mark.parametrize(
    "told",
    [
        pytest.param({"object": "list", "data": [{"id": "x"}], "has_more": False, "url": "/"}, id="items-lack-fields"),
        pytest.param({"object": "list", "data": [], "has_more": "no", "url": "/"}, id="another-type"),
        pytest.param({"object": "list", "data": [], "has_more": False, "url": "/", "more": 1}, id="one-field-more"),
        pytest.param({"object": "list", "data": [], "url": "/"}, id="one-field-less"),
    ],
)
def test_an_answer_that_is_not_as_documented_is_found(told: object) -> None:
    """Or else holding all answers against the document would hold nothing."""
    with pytest.raises(ValidationError):
        Documented().check("GET", "/v1/billing/meters", 200, json.dumps(told).encode())
