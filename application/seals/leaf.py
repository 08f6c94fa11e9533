"""What is sealed of a stored event: all of its row."""

import msgspec

from ..stores.store import StoredBytes

_AS_WRITTEN = "text integer text blob"
_encode = msgspec.json.Encoder().encode


def leaf_data(row: StoredBytes) -> bytes:
    """The bytes that are hashed: a line of JSON, [position, stream, version, topic], and below it the state.

    No two rows have the same. One that Tallybook doesn't write, with text that is no UTF-8 or a value of another type
    than its column's, is told as a JSON object of types and hexadecimal bytes instead: it can be hashed, and is no
    other row's.
    """
    position, stream, version, topic, state, types = row
    if types == _AS_WRITTEN:
        try:
            return _encode((position, stream.decode(), int(version), topic.decode())) + b"\n" + state
        except UnicodeDecodeError:
            pass
    values = [(value or b"").hex() for value in (stream, version, topic, state)]  # a NULL is told by its type
    return _encode({"position": position, "types": types, "values": values})
