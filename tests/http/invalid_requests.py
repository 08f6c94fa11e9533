"""Generates malformed requests of many kinds from a seed."""

import json
import random
from collections.abc import Callable, Sequence
from urllib.parse import quote

from tallybook.application.interfaces.http.catalogue import all_operations

OPERATIONS = all_operations()
COMPLETE_SHARE = 0.8
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "get", "P\x00ST", "G" * 300)
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
MEDIA_TYPES = (FORM, JSON, "", "text/plain", "multipart/form-data", "application/json;;;", "\xff/\xfe", ";", JSON * 50)
ODD_TEXTS = (
    "", "\0", "a\0b", "\ud800", "é", "💥", "%", "%ff", "%00", "{{7*7}}", "' OR 1=1 --", "../../etc/passwd", "x" * 5_001,
    "-1", "1e400", "NaN", "null", "true", "0x10", "9" * 400, "\u202e", "\r\nX: y", "[", "]", "[]", "٣", "mtr_", "cus_1",
)  # fmt: skip
EMPTY_VALUES: tuple[list[object], dict[str, object], list[list[object]]] = ([], {}, [[]])
ODD_VALUES: tuple[object, ...] = (
    *ODD_TEXTS, None, True, 0, -1, 2**63, 10**400, 1.5, float("nan"), float("inf"), *EMPTY_VALUES, {"": ""},
    [None] * 101,
)  # fmt: skip
NAMES = (
    "event_name", "payload", "identifier", "timestamp", "display_name", "default_aggregation", "customer_mapping",
    "value_settings", "event_time_window", "customer", "start_time", "end_time", "value_grouping_window", "limit",
    "starting_after", "ending_before", "expand", "status", "as_of", "as_of_position", "cancel", "type", "events",
    "dimension_filters", "dimension_group_by_keys", "filter", "multiplier", "rounding",
)  # fmt: skip
ODD_JSON = (
    b"", b"null", b"[]", b"1", b'"x"', b"{", b"}", b"{]", b'{"a":}', b'{"a":1,}', b"\xff\xfe{}", b"\xef\xbb\xbf{}",
    b'{"event_name":"\\ud800"}', b'{"\\udfff":1}', b'{"event_name":1e400}', b'{"timestamp":NaN}', b"-", b"1e", b"\0",
    b"[" * 100_000, b'{"payload":' * 50_000, b"9" * 10_000, b'{"event_name":"a","event_name":"b"}',
    b'{"events":[' * 500,
    b'{"timestamp":' + b"9" * 5_000 + b"}", b"{}" * 1_000, b'{"event_name":"\xc3\x28"}', b'"' + b"x" * 100_000,
)  # fmt: skip
HEADERS = (
    "Authorization", "Idempotency-Key", "Content-Type", "Accept", "Host", "Stripe-Version", "Cookie", "X-\xff",
    "Transfer-Encoding", "Content-Length", "Connection", "Expect", "Upgrade", "Content-Encoding", "Range",
    "Stripe-Account",
)  # fmt: skip
ODD_HEADERS = (
    "", " ", "\xff\xfe", "x" * 300, "x" * 40_000, "Bearer", "Basic !!!", "Basic " + "A" * 99, "chunked, chunked", "-1",
    "99999999999999999999", "1, 2", "close", "100-continue", "websocket", "h2c", "gzip", "bytes=0-1", "\x01",
    "a\x00b", "é",
)  # fmt: skip


class InvalidRequests:
    """An iterator of malformed requests."""

    def __init__(self, seed: int, key: str) -> None:
        self._random = random.Random(seed)
        self._key = key
        self._complete: Sequence[Callable[[], bytes]] = (
            self._form,
            self._json,
            self._mixed_json,
            self._query,
            self._path,
        )
        self._broken: Sequence[Callable[[], bytes]] = (
            self._bytes, self._mutated, self._headers, self._chunked, self._truncated,
        )  # fmt: skip

    def request(self) -> tuple[bytes, bool]:
        """Return the next request and whether it is complete: a server may wait for the rest of an incomplete one."""
        is_whole = self._random.random() < COMPLETE_SHARE
        return self._random.choice(self._complete if is_whole else self._broken)(), is_whole

    def _bytes(self) -> bytes:
        return self._random.randbytes(self._random.randrange(1, 300))

    def _mutated(self) -> bytes:
        """Return a valid request with some bytes changed."""
        request = bytearray(self._json())
        for _ in range(self._random.randrange(1, 8)):
            request[self._random.randrange(min(len(request), 200))] = self._random.randrange(256)
        return bytes(request)

    def _form(self) -> bytes:
        pairs = "&".join(
            f"{self._name()}={quote(self._text(), safe='[]')}" for _ in range(self._random.randrange(1, 6))
        )
        return self._request("POST", self._operation("POST"), pairs.encode("utf-8", "surrogatepass"), FORM)

    def _json(self) -> bytes:
        if self._random.random() < 0.5:
            return self._request("POST", self._operation("POST"), self._random.choice(ODD_JSON), JSON)
        values = {self._random.choice(NAMES): self._value(3) for _ in range(self._random.randrange(1, 6))}
        return self._request("POST", self._operation("POST"), json.dumps(values).encode(), JSON)

    def _mixed_json(self) -> bytes:
        """Return an almost valid body with one invalid value."""
        event: dict[str, object] = {"event_name": "tokens", "payload": {"stripe_customer_id": "cus_9", "value": "1"}}
        event[self._random.choice(("identifier", "timestamp", "payload", "event_name", "x"))] = self._odd_value()
        body = {"events": [event]} if self._random.random() < 0.3 else event
        return self._request(
            "POST", self._operation("POST"), json.dumps(body).encode(), self._random.choice(MEDIA_TYPES)
        )

    def _query(self) -> bytes:
        pairs = "&".join(f"{self._name()}={quote(self._text())}" for _ in range(self._random.randrange(1, 6)))
        method = self._random.choice(("GET", "GET", "POST", "HEAD"))
        return self._request(method, f"{self._operation('GET')}?{pairs}".replace(" ", "+"), b"", "")

    def _path(self) -> bytes:
        path = self._random.choice((
            "/", "*", "//", "/v1", "/v2/", "/v1/billing/meters/", "/v1/billing/meters//event_summaries", "/%2e%2e/",
            "x",
            f"/v1/billing/meters/{quote(self._text(), safe='')}", f"/{quote(self._text(), safe='')}", "http://[/",
            f"/v1/billing/meters/{'x' * 20_000}", "/v1/billing/meters/%FF%FE", "/\xff", "/v1/billing/meters#x", "?",
        ))  # fmt: skip
        return self._request(self._random.choice(METHODS), path, b"", "")

    def _headers(self) -> bytes:
        lines = [
            f"{self._random.choice(HEADERS)}: {self._random.choice(ODD_HEADERS)}"
            for _ in range(self._random.randrange(9))
        ]
        if self._random.random() < 0.1:
            lines += ["X: y"] * 300
        return self._request(self._random.choice(METHODS[:7]), self._operation("POST"), b"{}", JSON, *lines)

    def _chunked(self) -> bytes:
        head = self._head("POST", self._operation("POST"), JSON, "Transfer-Encoding: chunked")
        return head + self._random.choice((
            b"0\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n", b"zz\r\n{}\r\n", b"ffffffffffffffffff\r\n{}",
            b"-1\r\n{}\r\n0\r\n\r\n",
            b"2\n{}\n0\n\n", b"2;x=y\r\n{}\r\n0\r\nTrailer: x\r\n\r\n", b"\r\n\r\n", b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        ))  # fmt: skip

    def _truncated(self) -> bytes:
        request = self._json()
        return request[: self._random.randrange(1, min(len(request), 2_000))]

    def _request(self, method: str, path: str, body: bytes, media_type: str, *lines: str) -> bytes:
        return self._head(method, path, media_type, f"Content-Length: {len(body)}", *lines) + body

    def _head(self, method: str, path: str, media_type: str, *lines: str) -> bytes:
        authorization = [f"Authorization: Bearer {self._key}"] if self._random.random() < 0.9 else []
        head = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Type: {media_type}", *authorization, *lines]
        return "\r\n".join([*head, "", ""]).encode("latin-1", "replace")

    def _operation(self, method: str) -> str:
        chosen = self._random.choice([operation.path for operation in OPERATIONS if operation.method == method])
        return chosen.replace("{id}", self._random.choice(("mtr_dG9rZW5z", "mtr_none", "%00", "é")))

    def _name(self) -> str:
        brackets = "".join(self._random.choice(("", "[", "]", "[]", "[0]", "[a]", "[a][b]", "%5B", "[[")) for _ in "12")
        return self._random.choice((*NAMES, "", "=", "&", "x")) + brackets

    def _text(self) -> str:
        text = self._random.choice(ODD_TEXTS)
        return text.encode("utf-8", "replace").decode()

    def _odd_value(self) -> object:
        return self._random.choice(ODD_VALUES)

    def _value(self, depth: int) -> object:
        if depth and self._random.random() < 0.4:
            return {self._random.choice((*NAMES, "")): self._value(depth - 1) for _ in range(3)}
        return self._odd_value()
