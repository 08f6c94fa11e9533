"""Meter event sessions and the stream: tokens that live for a quarter of an hour, and open nothing else."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import stripe
from stripe import AuthenticationError, InvalidRequestError, StripeClient, TemporarySessionExpiredError
from tallybook.application import Metering

from .clocked import MovedClock, clocked_place
from .place import Place, body
from .usage import create_meter, report, total, use


def test_a_session_has_every_field(server: Place) -> None:
    """It lives for 15 minutes, and its token is that of nobody else."""
    for key, livemode in ((server.key("record"), True), (server.key("admin", test=True), False)):
        session = body(server.client(key).v2.billing.meter_event_session.create())
        assert set(session) == {"id", "object", "authentication_token", "created", "expires_at", "livemode"}
        assert session["object"] == "v2.billing.meter_event_session"
        assert session["livemode"] is livemode
        lives = datetime.fromisoformat(session["expires_at"]) - datetime.fromisoformat(session["created"])
        assert lives == timedelta(minutes=15)


def test_a_stream_takes_a_hundred_events(server: Place, client: StripeClient, event_name: str) -> None:
    """They are in the figures when the stream has answered; what can't be counted spoils nothing else."""
    meter_id = create_meter(client, event_name)
    stream = _stream(server, client)
    stream.create({"events": [use(event_name, n) for n in range(100)]})
    assert total(client, meter_id) == 4950
    stream.create({"events": [use(event_name, "x"), use("nobody's", 1), use(event_name, 50), use(event_name, "1e3")]})
    assert total(client, meter_id) == 5000


def test_a_stream_counts_an_identifier_once(server: Place, client: StripeClient, event_name: str) -> None:
    """In one request, in two, and whether it came in v1 before; the first one counts."""
    meter_id = create_meter(client, event_name)
    first = report(client, event_name, 1)
    stream = _stream(server, client)
    events = [use(event_name, 10, identifier=f"{event_name}-a"), use(event_name, 20, identifier=f"{event_name}-a")]
    stream.create({"events": [*events, use(event_name, 5, identifier=first)]})
    stream.create({"events": events[:1]})
    assert total(client, meter_id) == 11


NO_STREAM: list[tuple[Any, str]] = [
    ([], "events"),
    ([use("e", 1)] * 101, "events"),
    ([{"payload": {}}], "events[0][event_name]"),
    ([use("e", 1), {"event_name": "e"}], "events[1][payload]"),
    ([use("e", 1, colour="red")], "events[0][colour]"),
    ([use("e", 1, timestamp="soon")], "events[0][timestamp]"),
    ([use("e", 1, timestamp=1)], "events[0][timestamp]"),
    ([use("e", 1, timestamp="2026-11-01T00:00:00")], "events[0][timestamp]"),
    ("x", "events"),
]


@pytest.mark.parametrize(("events", "param"), NO_STREAM)
def test_a_stream_that_is_none_is_refused(server: Place, client: StripeClient, events: Any, param: str) -> None:
    """As a whole, naming the parameter of the event that it is in."""
    with pytest.raises(InvalidRequestError) as refused:
        _stream(server, client).create({"events": events})
    error: Any = refused.value
    assert error.http_status == 400
    assert error.json_body["error"]["param"] == param
    assert error.code in {"parameter_invalid", "parameter_missing", "parameter_unknown"}


def test_an_expired_session_is_told_so(tmp_path: Path) -> None:
    """To the second, with Stripe's type and code; nothing is counted, and another session goes on."""
    clock = MovedClock()
    with clocked_place(tmp_path, clock) as server:
        client = server.client()
        meter_id = create_meter(client, "tokens")
        stream = _stream(server, client)
        stream.create({"events": [use("tokens", 1)]})
        clock.ahead = timedelta(minutes=14, seconds=55)
        stream.create({"events": [use("tokens", 1)]})
        clock.ahead = timedelta(minutes=15)
        for _ in range(2):
            with pytest.raises(TemporarySessionExpiredError) as refused:
                stream.create({"events": [use("tokens", 1)]})
            assert refused.value.http_status == 401
            error = cast(Any, refused.value).json_body["error"]
            assert set(error) == {"type", "code", "message", "doc_url"}
            assert error["type"] == "temporary_session_expired"
            assert error["code"] == "billing_meter_event_session_expired"
        clock.ahead = timedelta(0)
        assert total(client, meter_id) == 2
        clock.ahead = timedelta(minutes=15)
        _stream(server, client).create({"events": [use("tokens", 1, timestamp=clock().isoformat())]})


def test_a_session_ends_with_its_key(server: Place, client: StripeClient, event_name: str) -> None:
    """At once, when that is revoked; other keys' sessions go on."""
    meter_id, key = create_meter(client, event_name), server.key("record")
    stream = _stream(server, server.client(key))
    stream.create({"events": [use(event_name, 1)]})
    with Metering.open(server.ledger) as metering:
        metering.revoke_access_key(metering.authenticate(key).id)
    with pytest.raises(AuthenticationError) as refused:
        stream.create({"events": [use(event_name, 1)]})
    assert refused.value.http_status == 401
    _stream(server, client).create({"events": [use(event_name, 1)]})
    assert total(client, meter_id) == 2


def test_a_session_opens_the_stream_alone(server: Place, client: StripeClient, event_name: str) -> None:
    """And the stream opens to nothing else: no key, whatever it may do, and no token that is made up."""
    meter_id = create_meter(client, event_name)
    token = client.v2.billing.meter_event_session.create().authentication_token
    holder = server.client(token)
    for ask in (
        holder.v1.billing.meters.list,
        lambda: holder.v1.billing.meters.retrieve(meter_id),
        holder.v2.billing.meter_event_session.create,
        lambda: report(holder, event_name, 1),
        lambda: holder.v2.billing.meter_events.create(use(event_name, 1)),
    ):
        with pytest.raises(AuthenticationError) as refused:
            ask()
        assert refused.value.http_status == 401
    for wrong in (server.admin_key, server.key("record"), token[:-1], token + "x", token.upper(), "mes_live_", "mes_",
                  token.replace("live", "test")):  # fmt: skip
        with pytest.raises(AuthenticationError) as refused:
            server.client(wrong).v2.billing.meter_event_stream.create({"events": [use(event_name, 1)]})
        assert refused.value.http_status == 401
    assert total(client, meter_id) == 0


def test_a_session_needs_a_key_that_records(server: Place) -> None:
    """Who may read only begins none."""
    with pytest.raises(stripe.PermissionError) as refused:
        server.client(server.key("read")).v2.billing.meter_event_session.create()
    assert refused.value.http_status == 403


def test_a_session_is_for_its_ledger(server: Place, event_name: str) -> None:
    """A session of a key for tests sends to the ledger for tests."""
    test, live = server.client(server.key("admin", test=True)), server.client()
    in_test, in_live = create_meter(test, event_name), create_meter(live, event_name)
    _stream(server, test).create({"events": [use(event_name, 3)]})
    assert (total(test, in_test), total(live, in_live)) == (3, 0)


def _stream(server: Place, client: StripeClient) -> Any:
    token = client.v2.billing.meter_event_session.create().authentication_token
    return server.client(token).v2.billing.meter_event_stream
