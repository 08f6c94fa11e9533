"""Who, when and how: each command, through each door, stores an author that its caller can't forge."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tallybook.application import Metering
from tallybook.application.system_user import system_user

from ...cli.command_line import CommandLine
from ...notation import Clock
from .api_client import ApiClient

FORGED = "somebody else"
NOW = datetime.now(UTC)
"""The command line reads the clock of the machine, so the other doors do too."""
END = datetime.combine(NOW.date(), datetime.min.time(), UTC) - timedelta(days=1)
START = END - timedelta(days=1)
PERIOD: dict[str, Any] = {"start_time": int(START.timestamp()), "end_time": int(END.timestamp())}
DAY = ("--from", f"{START:%Y-%m-%d}", "--to", f"{END:%Y-%m-%d}")


class Doors(NamedTuple):
    """A ledger, by the library, the command line and the HTTP server."""

    metering: Metering
    tallybook: CommandLine
    api: ApiClient

    @property
    def meter(self) -> str:
        """The path of the meter `calls`."""
        return self.api.meter_path("calls")

    @property
    def period(self) -> str:
        """The path of the closed period."""
        return f"/v1/billing/closed_periods/{self.api.get('/v1/billing/closed_periods')['data'][0]['id']}"

    @property
    def bulk(self) -> str:
        """The id of the bulk cancellation."""
        return self.metering.cancellations.list()[-1].cancellation_id

    @property
    def proposal(self) -> str:
        """The id of the newest proposal."""
        return self.metering.proposals.list()[-1].proposal_id

    @property
    def key(self) -> str:
        """The id of the newest access key."""
        return self.metering.access_keys.list()[-1].id

    def record(self, identifier: str) -> None:
        """Record usage by the library."""
        self.metering.record("calls", {"stripe_customer_id": "acme", "value": "1"}, identifier=identifier,
                             timestamp=START)  # fmt: skip

    def file(self) -> Path:
        """Return a file to import."""
        header = "event_name,timestamp,identifier,payload_stripe_customer_id,payload_value"
        return self.tallybook.write("rows.csv", f"{header}\ncalls,{START:%Y-%m-%dT%H:%M:%SZ},row-1,acme,2\n")


@dataclass(frozen=True)
class Command:
    """A command: the topics of its events, and how each door runs it; None if the door doesn't have it."""

    topics: str
    library: Callable[[Doors], object] | None
    command_line: Callable[[Doors], tuple[object, ...]] | None
    http: Callable[[Doors], object] | None


BY = ("--on-behalf-of", FORGED)
COMMANDS: dict[str, Command] = {
    "configure": Command(
        "Configured",
        lambda doors: doors.metering.meters.configure("calls", by=FORGED),
        lambda _: ("meter", "configure", "calls"),
        lambda doors: doors.api.post("/v1/billing/meters/configure", event_name="calls"),
    ),
    "derive": Command(
        "Configured DerivedMeterAdded",
        lambda doors: doors.metering.meters.configure("all", source="calls", formula="count", by=FORGED),
        lambda _: ("meter", "configure", "all", "--source", "calls", "--formula", "count"),
        lambda doors: doors.api.post(
            "/v1/billing/meters/configure", event_name="all", source="calls", default_aggregation={"formula": "count"}
        ),
    ),
    "rename": Command(
        "Renamed",
        lambda doors: doors.metering.meters.rename("calls", "Calls", by=FORGED),
        lambda _: ("meter", "rename", "calls", "Calls"),
        lambda doors: doors.api.post(doors.meter, display_name="Calls"),
    ),
    "deactivate": Command(
        "Deactivated",
        lambda doors: doors.metering.meters.deactivate("calls", by=FORGED),
        lambda _: ("meter", "deactivate", "calls"),
        lambda doors: doors.api.post(f"{doors.meter}/deactivate"),
    ),
    "reactivate": Command(
        "Reactivated",
        lambda doors: doors.metering.meters.reactivate("calls", by=FORGED),
        lambda _: ("meter", "reactivate", "calls"),
        lambda doors: doors.api.post(f"{doors.meter}/reactivate"),
    ),
    "record": Command(
        "UsageRecorded",
        lambda doors: doors.record("a"),
        lambda _: ("record", "calls", "stripe_customer_id=acme", "value=1", "--identifier", "a",
                   "--timestamp", START.isoformat()),
        lambda doors: doors.api.send_json(
            "/v1/billing/meter_events",
            doors.api.keys["record"],
            {"event_name": "calls", "identifier": "a", "timestamp": PERIOD["start_time"],
             "payload": {"stripe_customer_id": "acme", "value": "1"}},
        ),
    ),
    "cancel": Command(
        "EventCancelled",
        lambda doors: doors.metering.cancel("calls", "a", by=FORGED),
        lambda _: ("cancel", "calls", "a", *BY),
        lambda doors: doors.api.post(
            "/v1/billing/meter_event_adjustments", event_name="calls", type="cancel", cancel={"identifier": "a"},
            by=FORGED, reason="sent by a test",
        ),
    ),
    "revoke": Command(
        "CancelRevoked",
        lambda doors: doors.metering.revoke_cancel("calls", "a", reason="no test", by=FORGED),
        lambda _: ("cancel", "calls", "a", "--revoke", "--reason", "no test", *BY),
        lambda doors: doors.api.post(
            "/v1/billing/meter_event_adjustments/revoke", event_name="calls", cancel={"identifier": "a"},
            reason="no test", by=FORGED,
        ),
    ),
    "cancel many": Command(
        "EventCancelled EventsCancelled EventsCancelledPart",
        lambda doors: doors.metering.cancellations.cancel_many("calls", customer="acme", reason="why", by=FORGED),
        lambda _: ("cancel-many", "calls", "--customer", "acme", "--reason", "why", "--yes", *BY),
        lambda doors: doors.api.post(
            "/v1/billing/meter_event_cancellations", event_name="calls", customer="acme", reason="why", by=FORGED
        ),
    ),
    "revoke many": Command(
        "CancelRevoked EventsCancelRevoked EventsCancelRevokedPart",
        lambda doors: doors.metering.cancellations.revoke(doors.bulk, reason="no", by=FORGED),
        lambda doors: ("cancellation", "revoke", doors.bulk, "--reason", "no", *BY),
        lambda doors: doors.api.post(
            f"/v1/billing/meter_event_cancellations/{doors.bulk}/revoke", reason="no", by=FORGED
        ),
    ),
    "close": Command(
        "PeriodClosed",
        lambda doors: doors.metering.periods.close("calls", "acme", START, END, by=FORGED),
        lambda _: ("period", "close", "calls", "acme", *DAY),
        lambda doors: doors.api.post(
            "/v1/billing/closed_periods", customer="acme", meter=doors.meter.rpartition("/")[2], **PERIOD
        ),
    ),
    "settle": Command(
        "AdjustmentSettled",
        lambda doors: doors.metering.periods.settle("calls", "acme", START, END, document="CN-1", by=FORGED),
        lambda _: ("period", "settle", "calls", "acme", *DAY, "--document", "CN-1", "--on-behalf-of", FORGED),
        lambda doors: doors.api.post(
            "/v1/billing/period_adjustments/"
            f"{doors.api.get('/v1/billing/period_adjustments', meter=doors.meter.rpartition('/')[2])['data'][0]['id']}"
            "/settle", document="CN-1", by=FORGED,
        ),
    ),
    "reopen": Command(
        "PeriodReopened",
        lambda doors: doors.metering.periods.reopen(
            "calls", "acme", START, END, reason="late", by=FORGED, withdraw_settlements=True
        ),
        lambda _: ("period", "reopen", "calls", "acme", *DAY, "--reason", "late", "--withdraw-settlements", *BY),
        lambda doors: doors.api.post(
            f"{doors.period}/reopen", reason="late", by=FORGED, withdraw_settlements=True
        ),
    ),
    "run": Command(
        "BillingRunClosed BillingRunStarted PeriodClosed",
        lambda doors: doors.metering.periods.run(START, END, by=FORGED),
        lambda _: ("period", "run", *DAY, "--on-behalf-of", FORGED),
        None,
    ),
    "change rules": Command(
        "RulesChanged",
        lambda doors: doors.metering.rules.change("calls", {"formula": "max"}, reason="why", by=FORGED),
        lambda _: ("rules", "change", "calls", "--formula", "max", "--reason", "why", "--yes", *BY),
        lambda doors: doors.api.post(
            f"{doors.meter}/rules", default_aggregation={"formula": "max"}, reason="why", by=FORGED
        ),
    ),
    "import": Command(
        "ImportFinished ImportStarted UsageRecorded",
        None,
        lambda doors: ("import", doors.file(), *BY),
        None,
    ),
    "create key": Command(
        "AccessKeyCreated",
        lambda doors: doors.metering.access_keys.create(["read"], by=FORGED),
        lambda _: ("key", "create", *BY),
        lambda doors: doors.api.post("/v1/billing/access_keys", scopes=["read"], by=FORGED),
    ),
    "revoke key": Command(
        "AccessKeyRevoked",
        lambda doors: doors.metering.access_keys.revoke(doors.key, by=FORGED),
        lambda doors: ("key", "revoke", doors.key, *BY),
        lambda doors: doors.api.post(f"/v1/billing/access_keys/{doors.key}/revoke", by=FORGED),
    ),
    "require approval": Command(
        "ApprovalPolicySet",
        lambda doors: doors.metering.proposals.set_policy(["rules"], by=FORGED),
        lambda _: ("proposal", "require", "rules", *BY),
        lambda doors: doors.api.post("/v1/billing/approval_policy", required=["rules"], by=FORGED),
    ),
    "require more": Command(
        "ApprovalPolicyChanged",
        lambda doors: doors.metering.proposals.set_policy(["rules", "reopening"], by=FORGED),
        lambda _: ("proposal", "require", "rules", "reopening", *BY),
        lambda doors: doors.api.post("/v1/billing/approval_policy", required=["rules", "reopening"], by=FORGED),
    ),
    "propose": Command(
        "ChangeProposed",
        lambda doors: doors.metering.proposals.propose_policy(["rules"], reason="why", by=FORGED),
        lambda _: ("propose", "policy", "--require", "rules", "--reason", "why", *BY),
        lambda doors: doors.api.post("/v1/billing/proposals/policy", required=["rules"], reason="why", by=FORGED),
    ),
    "reject": Command(
        "ProposalRejected",
        lambda doors: doors.metering.proposals.reject(doors.proposal, reason="why", by=FORGED),
        lambda doors: ("proposal", "reject", doors.proposal, "--reason", "why", *BY),
        lambda doors: doors.api.post(f"/v1/billing/proposals/{doors.proposal}/reject", reason="why", by=FORGED),
    ),
}  # fmt: skip
"""All commands, in an order in which each can be run."""


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime.now(UTC))


@pytest.fixture
def doors(metering: Metering, api: ApiClient, tmp_path: Path) -> Doors:
    return Doors(metering, CommandLine(tmp_path), api)


def stored_since(metering: Metering, position: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the topic and the state of each event after a position."""
    ledger = metering._ledger  # pyright: ignore[reportPrivateUsage]
    for _, topic, state in ledger.read_page(position, 1_000):
        yield topic, json.loads(state)


def run_all(doors: Doors, run: Callable[[Command], bool]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Run each command that a door has, and yield its name, and the topic and state of each of its events."""
    for name, command in COMMANDS.items():
        if name == "settle":
            doors.record("late")
        head = doors.metering.catch_up()
        if not run(command):
            if command.library is not None:
                command.library(doors)
            continue
        events = list(stored_since(doors.metering, head))
        assert " ".join(sorted({topic for topic, _ in events})) == command.topics, name
        yield from ((name, topic, state) for topic, state in events)


def check_author(name: str, topic: str, state: dict[str, Any], author: tuple[str, str | None], stated: bool) -> None:
    """Check who, how and when. The events of an import and of a bulk cancellation say it once, in its first event."""
    by, via = author
    recorded_at = datetime.fromisoformat(state["recorded_at"])
    assert NOW <= recorded_at <= datetime.now(UTC), name
    if name == "import" and topic == "UsageRecorded":
        assert "by" not in state
        return
    assert state["by"] == by, (name, topic)
    assert state.get("via") == (None if "cancellation_id" in state else via), (name, topic)
    is_part = topic.endswith("Part") or "cancellation_id" in state or topic in ("ImportFinished", "PeriodClosed")
    if stated and not is_part:
        assert state["on_behalf_of"] == FORGED, (name, topic)


def test_the_library(doors: Doors) -> None:
    """The author is who the program says acts; a name that a call states is stored beside it."""

    def run(command: Command) -> bool:
        if command.library is None:
            return False
        with doors.metering.acting_as("alice"):
            command.library(doors)
        return True

    for name, topic, state in run_all(doors, run):
        via = None if topic == "UsageRecorded" else f"library:{system_user()}"
        check_author(name, topic, state, ("alice", via), name != "record")


def test_the_library_without_an_author(doors: Doors) -> None:
    """The author is the one that a call states, or nobody, by a process of this user of the operating system."""
    doors.metering.meters.configure("calls")
    doors.metering.meters.rename("calls", "Calls", by="ops")
    doors.record("a")
    configured, renamed, recorded = (state for topic, state in stored_since(doors.metering, 0) if "Key" not in topic)
    assert ("by" in configured, configured["via"]) == (False, f"library:{system_user()}")
    assert (renamed["by"], renamed["via"]) == ("ops", f"library:{system_user()}")
    assert set(recorded) == {"recorded_at", "event_name", "payload", "occurred_at"}


def test_the_command_line(doors: Doors) -> None:
    """The author is the user of the operating system, whatever the options and the environment say."""
    doors.tallybook.environment |= {"USER": FORGED, "LOGNAME": FORGED, "USERNAME": FORGED, "SUDO_USER": FORGED}

    def run(command: Command) -> bool:
        if command.command_line is None:
            return False
        doors.tallybook.run(*command.command_line(doors))
        return True

    for name, topic, state in run_all(doors, run):
        stated = command_line_states_a_name(name, doors)
        check_author(name, topic, state, (system_user(), "command_line"), stated)


def command_line_states_a_name(name: str, doors: Doors) -> bool:
    """Return whether the arguments of a command name somebody else."""
    command_line = COMMANDS[name].command_line
    return command_line is not None and FORGED in command_line(doors)


def test_http(doors: Doors) -> None:
    """The author is the access key, by the request; a name in the request is stored beside it."""

    def run(command: Command) -> bool:
        if command.http is None:
            return False
        command.http(doors)
        return True

    stated = {
        "cancel", "revoke", "cancel many", "revoke many", "settle", "reopen", "change rules", "create key",
        "revoke key", "require approval", "require more", "propose", "reject",
    }  # fmt: skip
    for name, topic, state in run_all(doors, run):
        via = state.get("via")
        assert via is None or via.startswith("req_")
        key = doors.api.author("record" if name == "record" else "admin")
        check_author(name, topic, state, (key, via if name != "record" else state["via"]), name in stated)
        if name == "cancel":
            assert state["reason"] == "sent by a test"


def test_events_name_the_request_that_the_response_names(doors: Doors) -> None:
    """So that the access log of the server leads to them."""
    response = doors.api.send("POST", "/v1/billing/meters/configure", event_name="calls")
    ((_, state),) = stored_since(doors.metering, doors.metering.catch_up() - 1)
    assert state["via"] == response.headers["request-id"]
