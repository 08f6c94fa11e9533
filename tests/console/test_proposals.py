"""The screen Proposals: a change that needs approval is proposed on its page, and somebody else decides on it."""

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import httpx2
import pytest
from tallybook.application import AcceptancePolicy
from tallybook.domain.access_key import Scope
from tallybook.domain.proposed_changes import CancellationProposal

from tallybook import Metering
from tests.http.running_server import RunningServer, create_key, serve
from tests.waiting import wait_until

from .ledgers import END, START, create_ledger

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}
PERIOD = "/console/periods/customer?meter=tokens&customer=acme&period=2026-10"


@pytest.fixture(scope="module")
def ledger_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a ledger in which changes of rules and reopenings need approval."""
    url = create_ledger(tmp_path_factory.mktemp("proposals") / "usage.db")
    with Metering.open(url) as metering:
        metering.proposals.set_policy(["rules", "reopening", "cancellation"], by="ops")
    return url


@pytest.fixture(scope="module")
def server(ledger_url: str) -> Iterator[RunningServer]:
    """A server with the console."""
    with serve(ledger_url, "--console", TALLYBOOK_POLICY__CANCEL_WINDOW="none") as running:
        yield running


class User:
    """A browser that is logged in with an access key of its own."""

    def __init__(self, browser: httpx2.Client) -> None:
        self.browser = browser

    def page(self, path: str) -> str:
        """Return a page."""
        response = self.browser.get(path)
        assert response.status_code == 200, response.text
        return response.text

    def send(self, page: str, action: str, **entered: str) -> httpx2.Response:
        """Send the form with an action that is on a page."""
        form = page[page.index(f'action="/console{action}"') :].partition("</form>")[0]
        hidden = dict(re.findall(r'type="hidden" name="([\w.]+)" value="([^"]*)"', form))
        return self.browser.post(f"/console{action}", data={**hidden, **entered})


@contextmanager
def logged_in(server: RunningServer, ledger_url: str, *scopes: Scope) -> Generator[User]:
    """Log in with a new access key."""
    with httpx2.Client(base_url=server.url, headers=SAME_ORIGIN, timeout=30, follow_redirects=True) as browser:
        browser.post("/console/login", data={"key": create_key(ledger_url, Scope.READ, *scopes), "next": "/console/"})
        yield User(browser)


@pytest.fixture(scope="module")
def proposer(server: RunningServer, ledger_url: str) -> Iterator[User]:
    """A user who may change rules, close periods and approve."""
    with logged_in(server, ledger_url, Scope.RULES, Scope.CLOSE, Scope.APPROVE) as user:
        yield user


@pytest.fixture(scope="module")
def approver(server: RunningServer, ledger_url: str) -> Iterator[User]:
    """A user who may approve, and nothing else."""
    with logged_in(server, ledger_url, Scope.APPROVE) as user:
        yield user


def is_closed(ledger_url: str) -> bool:
    """Return whether the period of the customer is closed."""
    with Metering.open(ledger_url) as metering:
        return bool(metering.periods.list("tokens", "acme", start=START, end=END))


def test_a_reopening_is_proposed_previewed_and_approved(
    proposer: User, approver: User, server: RunningServer, ledger_url: str
) -> None:
    """By somebody else only. The list has it first while it is open, and who decided on it then."""
    page = proposer.page(PERIOD)
    assert 'action="/console/periods/customer/reopen"' not in page
    own = proposer.send(page, "/proposals/reopening", reason="wrong <contract>")
    assert "The change is proposed." in own.text
    assert "wrong &lt;contract&gt;" in own.text
    assert "You proposed it" in own.text
    assert 'action="/console/proposal/approve"' not in own.text
    path = own.url.raw_path.decode().replace("&done=proposed", "")
    forged = own.text.replace("/console/proposal/reject", "/console/proposal/approve")
    rejected = proposer.send(forged, "/proposal/approve")
    assert (rejected.status_code, "somebody else has to approve" in rejected.text) == (403, True)
    assert "Ask somebody else to approve the proposal." in rejected.text
    assert is_closed(ledger_url)

    with logged_in(server, ledger_url) as reader:
        assert "does not have the scope approve" in reader.page(path)
        assert reader.send(forged, "/proposal/approve").status_code == 403
    open_ones = approver.page("/console/proposals")
    assert re.search(r"reopen tokens of acme, 2026-10.*wrong &lt;contract&gt;.*pending", open_ones, re.DOTALL)
    page = approver.page(path)
    assert re.search(r'Would be closed with</dt><dd class="big"><data value="74077\.55">', page), "with the late usage"
    done = approver.send(page, "/proposal/approve")
    assert "its change is made" in done.text
    assert not is_closed(ledger_url)
    again = approver.send(page.replace('name="form_key" value="', 'name="form_key" value="again'), "/proposal/approve")
    assert (again.status_code, "is approved by rk_live" in again.text) == (409, True), again.text


def test_changed_rules_are_proposed_from_their_preview(proposer: User, approver: User, ledger_url: str) -> None:
    """The approver sees the same difference by customer, which is computed on request. A rejection changes nothing."""
    rules = proposer.page("/console/rules?meter=tokens")
    changed = {"formula": "max", "event_time_window": "none"}
    preview = proposer.send(rules, "/rules/preview", **changed).url.raw_path.decode()
    pages: list[str] = []

    def is_shown(user: User, path: str) -> bool:
        pages.append(user.page(path))
        return "Billable then" in pages[-1]

    wait_until(lambda: is_shown(proposer, preview), lambda: pages[-1])
    assert 'action="/console/rules/promote"' not in pages[-1]
    proposed = proposer.send(pages[-1], "/proposals/rules", reason="we bill peaks")
    assert "The change is proposed." in proposed.text
    path = proposed.url.raw_path.decode().replace("&done=proposed", "")
    assert is_shown(approver, path), "the candidate of the proposer is there"
    with Metering.open(ledger_url) as metering:
        (candidate,) = (one.number for one in metering.generations.list() if one.state == "ready")
        metering.generations.drop(candidate)
    page = approver.page(path)
    assert "Billable then" not in page
    started = approver.send(page, "/proposal/preview").url.raw_path.decode()
    wait_until(lambda: is_shown(approver, started), lambda: pages[-1])
    assert re.search(r'">acme</a></th><td>2026-10</td><td>open', pages[-1])
    assert "The proposal is rejected." in approver.send(pages[-1], "/proposal/reject", reason="not agreed").text
    decided = approver.page(path)
    assert re.search(r"Rejected</dt>.*“not agreed”", decided)
    assert "/console/proposal/" not in decided, "nothing is left to decide"
    with Metering.open(ledger_url) as metering:
        assert metering.meters.get("tokens").formula == "sum"


def test_the_way_back_is_proposed_too(proposer: User) -> None:
    """The rules of a retired generation. Who has proposed can withdraw it."""
    page = proposer.page("/console/rules?meter=tokens")
    assert 'action="/console/rules/promote"' not in page
    oldest = page[page.rindex('<form method="post" action="/console/proposals/rules"') :]
    proposed = proposer.send(oldest, "/proposals/rules", reason="a mistake")
    assert "rules of storage: last" in proposed.text
    assert "The proposal is rejected." in proposer.send(proposed.text, "/proposal/reject", reason="no mistake").text


def test_proposals_of_a_program(approver: User, ledger_url: str) -> None:
    """Of each kind, with what it would change. A change of the policy needs the scope `admin` too."""
    with Metering.open(ledger_url, policy=AcceptancePolicy(cancel_window=None)) as metering:
        proposals = metering.proposals
        cancelled = proposals.propose_cancellation("tokens", customer="acme", reason="test usage", by="ada")
        policy = proposals.propose_policy(["rules"], reason="too slow", by="ada")
    page = approver.page(f"/console/proposal?id={cancelled.proposal_id}")
    assert isinstance(cancelled.change, CancellationProposal)
    assert f"{cancelled.change.count} events would be cancelled" in page
    assert re.search(r'>acme</a></th><td>2026-10</td><td class="num">', page)
    page = approver.page(f"/console/proposal?id={policy.proposal_id}")
    assert "change the approval policy: required for rules" in page
    denied = approver.send(page, "/proposal/approve")
    assert (denied.status_code, "scope &#39;admin&#39;" in denied.text) == (403, True)
    page = approver.page("/console/proposals")
    statuses = re.findall(r'<span class="state [a-z]*">(\w+)</span>', page)
    assert statuses == ["pending", "pending", "rejected", "rejected", "approved"]
    last = approver.page("/console/proposals?first=4")
    assert re.findall(r'<span class="state [a-z]*">(\w+)</span>', last) == ["approved"]
    assert approver.browser.get("/console/proposal?id=none").status_code == 404
