"""Exported files whose description another has written, with a right checksum."""
import json

from seed.runtime import seal


def described(data: bytes, change: dict | str) -> bytes:
    """The sealed file with another description, of the same number of bytes."""
    start = data.index(b'{"blake2b":"')
    old, end = json.JSONDecoder().raw_decode(data[start:].decode(errors="replace"))
    if isinstance(change, dict):
        changed = {key: value for key, value in {**old, **change}.items()
                   if value != "absent"}
        text = json.dumps({**changed, "profile": {}, "made_by": ""}, separators=(",", ":"))
    else:
        text = f'{{"blake2b":"{"0" * 32}"{change}'
    assert len(text) <= end
    return seal(data[:start] + text.ljust(end).encode() + data[start + end:])
