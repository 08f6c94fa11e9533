"""A console of several processes: a session is valid in each of them, and so is its end."""

import httpx2

from tallybook import Metering
from tests.http.running_server import create_key, serve
from tests.postgres import Database

REQUESTS = 8
"""Each on a connection of its own, so that both processes handle some."""


def test_all_workers_know_a_session_and_a_revoked_key(postgres: Database) -> None:
    """Every request is answered alike, whichever process accepts its connection."""
    url = postgres.fresh_url()
    with Metering.open(url) as metering:
        metering.meters.configure("tokens")
    key = create_key(url, "read")
    with serve(url, "--console", "--workers", "2") as server:
        login = httpx2.post(
            f"{server.url}/console/login", data={"key": key}, headers={"Sec-Fetch-Site": "same-origin"}, timeout=30
        )
        cookies = {"tallybook_session": login.cookies["tallybook_session"]}

        def statuses() -> list[int]:
            pages = f"{server.url}/console/usage?meter=tokens"
            return [httpx2.get(pages, cookies=cookies, timeout=30, verify=False).status_code for _ in range(REQUESTS)]

        assert statuses() == [200] * REQUESTS
        with Metering.open(url) as metering:
            metering.access_keys.revoke(metering.access_keys.authenticate(key).id)
        assert statuses() == [303] * REQUESTS
