"""Customers are found by a part of their names."""

import pytest
from tallybook.application import Metering
from tallybook.domain.errors import InvalidParameter

from .stores import NOW

CUSTOMERS = ("acme", "Acme Asia", "acme-eu", "globex", "pre-ACME", "<script>", "100%", "a_b", "Zoë")


@pytest.fixture
def customers(metering: Metering) -> Metering:
    """A ledger with one event of each customer."""
    metering.meters.configure("calls", formula="count", customer_key="customer")
    for customer in CUSTOMERS:
        metering.record("calls", {"customer": customer}, timestamp=NOW)
    return metering


FOUND = {
    "acme": ["acme", "acme-eu", "Acme Asia", "pre-ACME"],
    "Acme": ["Acme Asia", "acme", "acme-eu", "pre-ACME"],
    "glob": ["globex"],
    "bex": ["globex"],
    "%": ["100%"],
    "_": ["a_b"],
    "<": ["<script>"],
    "oë": ["Zoë"],
    "nobody": [],
    "": sorted(CUSTOMERS),
}


def test_customers_are_found_by_a_part_of_their_names(customers: Metering) -> None:
    """Those that start with the text come first. No character has a special meaning. An event is found at once."""
    assert {text: customers.customers.search(text) for text in FOUND} == FOUND
    assert customers.customers.search("acme", limit=2) == ["acme", "acme-eu"]
    customers.record("calls", {"customer": "initech"}, timestamp=NOW)
    assert customers.customers.search("init") == ["initech"]


def test_invalid_arguments_are_rejected() -> None:
    """The error names the argument."""
    with Metering.open("sqlite://") as metering:
        for text, limit, field in (("a", 0, "limit"), ("a", 1_001, "limit"), ("\0", 1, "text")):
            with pytest.raises(InvalidParameter) as raised:
                metering.customers.search(text, limit=limit)
            assert raised.value.field == field
