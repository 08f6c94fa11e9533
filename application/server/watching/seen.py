"""What is seen of a request: nothing of what it says, and of its key only the id."""

from typing import NamedTuple


class Seen(NamedTuple):
    """An answered request. `path` is its operation's, without what stands in its places."""

    request_id: str
    operation: str
    method: str
    path: str
    client: str
    status: int
    seconds: float
    bytes_in: int
    bytes_out: int
    key: str = ""
    events: int = 0
