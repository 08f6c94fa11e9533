"""Who asks a server beside the load: one connection a request, and figures as exact decimals."""

import json
from decimal import Decimal
from http.client import HTTPConnection
from typing import Any
from uuid import uuid4

from .posts import METERS, form

_PATIENCE_SECONDS = 30
_FORM, _JSON = "application/x-www-form-urlencoded", "application/json"


class Refused(Exception):
    """The server answered with something else than a success."""


class Client:
    """Asks the server on `port` with a key."""

    def __init__(self, port: int, key: str) -> None:
        self.port = port
        self.key = key

    def create_meters(self) -> dict[str, str]:
        """Configure the meters that the load is recorded under; the id of each by its event name."""
        return {event_name: self._create_meter(event_name, formula) for event_name, formula in METERS.items()}

    def open_session(self) -> str:
        """A token to stream events with."""
        return self._ask("POST", "/v2/billing/meter_event_session", "{}", _JSON)["authentication_token"]

    def figure(self, meter: str, customer: str, start: int, end: int) -> Decimal:
        """What a customer used in [start, end), both at whole minutes, in Unix seconds: all its summaries together."""
        query = form({"customer": customer, "start_time": start, "end_time": end, "limit": 100})
        listed = self._ask("GET", f"/v1/billing/meters/{meter}/event_summaries?{query}")
        if listed["has_more"]:
            raise Refused(f"one range without windows has more than one page of summaries: {listed}")
        return sum((Decimal(summary["aggregated_value"]) for summary in listed["data"]), Decimal(0))

    def _create_meter(self, event_name: str, formula: str) -> str:
        fields = {
            "display_name": event_name,
            "event_name": event_name,
            "default_aggregation": {"formula": formula},
            "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
            "value_settings": {"event_payload_key": "value"},
        }
        return self._ask("POST", "/v1/billing/meters", form(fields), _FORM)["id"]

    def _ask(self, method: str, path: str, body: str | None = None, kind: str = _FORM) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.key}"}
        if body is not None:
            headers |= {"Content-Type": kind, "Idempotency-Key": str(uuid4())}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_SECONDS)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise Refused(f"{method} {path}: {answer.status} {said[:500]!r}")
        return json.loads(said, parse_float=Decimal, parse_int=Decimal)
