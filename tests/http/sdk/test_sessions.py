"""Meter event sessions and the stream: tokens that are valid for 15 minutes, and only for the stream."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import stripe
from stripe import AuthenticationError, InvalidRequestError, StripeClient, TemporarySessionExpiredError
from tallybook.application import Metering

from .meter_events import create_meter, event_params, record_event, total
from .server_fixture import SdkServer, parse_body
from .server_with_clock import ShiftedClock, sdk_server_with_clock


def test_a_session_has_every_field(server: SdkServer) -> None:
    """It is valid for 15 minutes, and its token is unique."""
    for key, livemode in ((server.key("record"), True), (server.key("admin", test=True), False)):
        session = parse_body(server.client(key).v2.billing.meter_event_session.create())
        assert set(session) == {"id", "object", "authentication_token", "created", "expires_at", "livemode"}
        assert session["object"] == "v2.billing.meter_event_session"
        assert session["livemode"] is livemode
        lives = datetime.fromisoformat(session["expires_at"]) - datetime.fromisoformat(session["created"])
        assert lives == timedelta(minutes=15)


def test_a_stream_takes_a_hundred_events(server: SdkServer, client: StripeClient, event_name: str) -> None:
    """They are included in totals when the stream responds; invalid ones do not affect the others."""
    meter_id = create_meter(client, event_name)
    stream = _stream(server, client)
    stream.create({"events": [event_params(event_name, n) for n in range(100)]})
    assert total(client, meter_id) == 4950
    stream.create(
        {
            "events": [
                event_params(event_name, "x"),
                event_params("nobody's", 1),
                event_params(event_name, 50),
                event_params(event_name, "1e3"),
            ]
        }
    )
    assert total(client, meter_id) == 5000


def test_a_stream_counts_an_identifier_once(server: SdkServer, client: StripeClient, event_name: str) -> None:
    """In one request, in two, and after v1; the first one counts."""
    meter_id = create_meter(client, event_name)
    first = record_event(client, event_name, 1)
    stream = _stream(server, client)
    events = [
        event_params(event_name, 10, identifier=f"{event_name}-a"),
        event_params(event_name, 20, identifier=f"{event_name}-a"),
    ]
    stream.create({"events": [*events, event_params(event_name, 5, identifier=first)]})
    stream.create({"events": events[:1]})
    assert total(client, meter_id) == 11


INVALID_STREAMS: list[tuple[Any, str]] = [
    ([], "events"),
    ([event_params("e", 1)] * 101, "events"),
    ([{"payload": {}}], "events[0][event_name]"),
    ([event_params("e", 1), {"event_name": "e"}], "events[1][payload]"),
    ([event_params("e", 1, colour="red")], "events[0][colour]"),
    ([event_params("e", 1, timestamp="soon")], "events[0][timestamp]"),
    ([event_params("e", 1, timestamp=1)], "events[0][timestamp]"),
    ([event_params("e", 1, timestamp="2026-11-01T00:00:00")], "events[0][timestamp]"),
    ("x", "events"),
]


@pytest.mark.parametrize(("events", "param"), INVALID_STREAMS)
def test_an_invalid_stream_is_rejected(server: SdkServer, client: StripeClient, events: Any, param: str) -> None:
    """Completely, with the parameter of the invalid event."""
    with pytest.raises(InvalidRequestError) as exc_info:
        _stream(server, client).create({"events": events})
    error: Any = exc_info.value
    assert error.http_status == 400
    assert error.json_body["error"]["param"] == param
    assert error.code in {"parameter_invalid", "parameter_missing", "parameter_unknown"}


def test_an_expired_session_is_reported_as_expired(tmp_path: Path) -> None:
    """To the second, with Stripe's type and code; nothing counts, and another session works."""
    clock = ShiftedClock()
    with sdk_server_with_clock(tmp_path, clock) as server:
        client = server.client()
        meter_id = create_meter(client, "tokens")
        stream = _stream(server, client)
        stream.create({"events": [event_params("tokens", 1)]})
        clock.ahead = timedelta(minutes=14, seconds=55)
        stream.create({"events": [event_params("tokens", 1)]})
        clock.ahead = timedelta(minutes=15)
        for _ in range(2):
            with pytest.raises(TemporarySessionExpiredError) as exc_info:
                stream.create({"events": [event_params("tokens", 1)]})
            assert exc_info.value.http_status == 401
            error = cast(Any, exc_info.value).json_body["error"]
            assert set(error) == {"type", "code", "message", "doc_url"}
            assert error["type"] == "temporary_session_expired"
            assert error["code"] == "billing_meter_event_session_expired"
        clock.ahead = timedelta(0)
        assert total(client, meter_id) == 2
        clock.ahead = timedelta(minutes=15)
        _stream(server, client).create({"events": [event_params("tokens", 1, timestamp=clock().isoformat())]})


def test_a_session_ends_with_its_key(server: SdkServer, client: StripeClient, event_name: str) -> None:
    """As soon as the key is revoked; sessions of other keys continue."""
    meter_id, key = create_meter(client, event_name), server.key("record")
    stream = _stream(server, server.client(key))
    stream.create({"events": [event_params(event_name, 1)]})
    with Metering.open(server.ledger) as metering:
        metering.access_keys.revoke(metering.access_keys.authenticate(key).id)
    with pytest.raises(AuthenticationError) as exc_info:
        stream.create({"events": [event_params(event_name, 1)]})
    assert exc_info.value.http_status == 401
    _stream(server, client).create({"events": [event_params(event_name, 1)]})
    assert total(client, meter_id) == 2


def test_a_session_authenticates_only_the_stream(server: SdkServer, client: StripeClient, event_name: str) -> None:
    """And the stream accepts neither access keys nor invented tokens."""
    meter_id = create_meter(client, event_name)
    token = client.v2.billing.meter_event_session.create().authentication_token
    holder = server.client(token)
    for request in (
        holder.v1.billing.meters.list,
        lambda: holder.v1.billing.meters.retrieve(meter_id),
        holder.v2.billing.meter_event_session.create,
        lambda: record_event(holder, event_name, 1),
        lambda: holder.v2.billing.meter_events.create(event_params(event_name, 1)),
    ):
        with pytest.raises(AuthenticationError) as exc_info:
            request()
        assert exc_info.value.http_status == 401
    for invalid_token in (
        server.admin_key,
        server.key("record"),
        token[:-1],
        token + "x",
        token.upper(),
        "mes_live_",
        "mes_",
        token.replace("live", "test"),
    ):
        with pytest.raises(AuthenticationError) as exc_info:
            server.client(invalid_token).v2.billing.meter_event_stream.create({"events": [event_params(event_name, 1)]})
        assert exc_info.value.http_status == 401
    assert total(client, meter_id) == 0


def test_a_session_needs_a_key_that_records(server: SdkServer) -> None:
    """A read key creates none."""
    with pytest.raises(stripe.PermissionError) as exc_info:
        server.client(server.key("read")).v2.billing.meter_event_session.create()
    assert exc_info.value.http_status == 403


def test_a_session_is_for_its_ledger(server: SdkServer, event_name: str) -> None:
    """A session of a test key records to the test ledger."""
    test, live = server.client(server.key("admin", test=True)), server.client()
    in_test, in_live = create_meter(test, event_name), create_meter(live, event_name)
    _stream(server, test).create({"events": [event_params(event_name, 3)]})
    assert (total(test, in_test), total(live, in_live)) == (3, 0)


def _stream(server: SdkServer, client: StripeClient) -> Any:
    token = client.v2.billing.meter_event_session.create().authentication_token
    return server.client(token).v2.billing.meter_event_stream
