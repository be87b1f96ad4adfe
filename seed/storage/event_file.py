"""Curves as TensorBoard reads them: an event file is TFRecords of protobuf messages.

A record is its length (8 bytes), a masked CRC-32C of these, the message, a masked CRC-32C of the
message (tensorflow/core/lib/io/record_writer.h). Of the message Event (tensorflow/core/util/
event.proto) are used wall_time = 1, step = 2, file_version = 3 and summary = 5, whose Value has
tag = 1 and simple_value = 2.
"""
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

NAME = "events.out.tfevents.seed"   # a reader looks for `tfevents` in it
VERSION = b"brain.Event:2"
POLYNOMIAL, MASK_DELTA, BITS = 0x82f63b78, 0xa282ead8, 0xffffffff   # CRC-32C, bits reversed
HEAD_BYTES = 8 + 4 + 9              # length, its checksum and the time, before the version
FIXED64, BYTES, FIXED32 = 1, 2, 5   # wire types; 0 is a varint


class Scalar(NamedTuple):
    tag: str
    step: int
    time: float   # Unix
    value: float


def encoded(scalars: Iterable[Scalar]) -> bytes:
    first = _double(1, 0.0) + _bytes(3, VERSION)
    return b"".join(map(_record, [first, *map(_event, scalars)]))


def is_event_file(head: bytes) -> bool:
    """Whether a file that begins so is one."""
    return head[HEAD_BYTES:].startswith(_bytes(3, VERSION))


def _event(scalar: Scalar) -> bytes:
    value = _bytes(1, scalar.tag.encode("utf-8", "replace")) + _float(2, scalar.value)
    return (_double(1, scalar.time) + _varint(2 << 3) + _varint(scalar.step)
            + _bytes(5, _bytes(1, value)))


def _record(message: bytes) -> bytes:
    length = struct.pack("<Q", len(message))
    return (length + struct.pack("<I", masked_crc32c(length)) + message
            + struct.pack("<I", masked_crc32c(message)))


def _varint(number: int) -> bytes:
    """Of a number that is not negative: 7 bits a byte, the lowest first."""
    data = bytearray()
    while number > 0x7f:
        data.append(number & 0x7f | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | BYTES) + _varint(len(data)) + data


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | FIXED64) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | FIXED32) + struct.pack("<f", value)


def _table() -> Iterator[int]:
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
        yield byte


TABLE = tuple(_table())


def crc32c(data: bytes) -> int:
    """Castagnoli's, of RFC 3720."""
    crc = BITS
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xff] ^ crc >> 8
    return crc ^ BITS


def masked_crc32c(data: bytes) -> int:
    """As records have it: rotated by 15 bits, plus a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & BITS
