"""The ids of objects over HTTP. Each says in itself what it is the id of, so that none has to be kept."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

METER, METER_EVENT, CLOSED_PERIOD = "mtr", "mtrevt", "mtrper"


def id_of(kind: str, name: str) -> str:
    """The id of what is called `name`: opaque, and the same for ever."""
    return f"{kind}_{urlsafe_b64encode(name.encode()).decode().rstrip('=')}"


def name_of(kind: str, given: str) -> str | None:
    """The name behind an id; None where it is no id of this kind."""
    encoded = given.removeprefix(f"{kind}_")
    try:
        name = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        return None
    return name if id_of(kind, name) == given else None
