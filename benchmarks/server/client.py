"""An HTTP client for requests during the load: one connection per request, and numbers as exact decimals."""

import json
from decimal import Decimal
from http.client import HTTPConnection
from typing import Any
from uuid import uuid4

from .http_requests import METERS, encode_form

_TIMEOUT_SECONDS = 30
_FORM, _JSON = "application/x-www-form-urlencoded", "application/json"


class RequestFailed(Exception):
    """The response of the server was not a success."""


class Client:
    """Sends requests to the server on `port` with an access key."""

    def __init__(self, port: int, key: str) -> None:
        self.port = port
        self.key = key

    def create_meters(self) -> dict[str, str]:
        """Create the meters of the load, and return the id of each by its event name."""
        return {event_name: self._create_meter(event_name, formula) for event_name, formula in METERS.items()}

    def open_session(self) -> str:
        """Return a token for the meter event stream."""
        return self._request("POST", "/v2/billing/meter_event_session", "{}", _JSON)["authentication_token"]

    def total(self, meter: str, customer: str, start: int, end: int) -> Decimal:
        """Return the total of a customer in [start, end), in Unix seconds of whole minutes, from its summaries."""
        query = encode_form({"customer": customer, "start_time": start, "end_time": end, "limit": 100})
        listed = self._request("GET", f"/v1/billing/meters/{meter}/event_summaries?{query}")
        if listed["has_more"]:
            raise RequestFailed(f"a range without windows has more than one page of summaries: {listed}")
        return sum((Decimal(summary["aggregated_value"]) for summary in listed["data"]), Decimal(0))

    def _create_meter(self, event_name: str, formula: str) -> str:
        fields = {
            "display_name": event_name,
            "event_name": event_name,
            "default_aggregation": {"formula": formula},
            "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
            "value_settings": {"event_payload_key": "value"},
        }
        return self._request("POST", "/v1/billing/meters", encode_form(fields), _FORM)["id"]

    def _request(self, method: str, path: str, body: str | None = None, kind: str = _FORM) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.key}"}
        if body is not None:
            headers |= {"Content-Type": kind, "Idempotency-Key": str(uuid4())}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            response_body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise RequestFailed(f"{method} {path}: {response.status} {response_body[:500]!r}")
        return json.loads(response_body, parse_float=Decimal, parse_int=Decimal)
