"""What a C source knows of a brain's bodies: tables of their channels, parts and choices, for
c_template/act.c. The borders of levels are those of the runtime, found by the trainer's formula: a
number is read as there, without a logarithm.
"""
import math
from collections.abc import Iterable, Sequence

from seed.body.codec import LEVELS, Codec
from seed.runtime.acting import borders
from seed.wavecore.layout import LANES

Rows = Sequence[Sequence[int]]


def number_text(number: float) -> str:
    """A double in C, exactly."""
    if math.isinf(number):
        return "-__builtin_inf()" if number < 0 else "__builtin_inf()"
    return number.hex()


class BodyTables:
    """Of all bodies, in order. `first`: float of each body's "input" and "control" table among the
    weights."""

    def __init__(self, codecs: Sequence[Codec], first: dict[str, int]):
        self.channels: list[list[int]] = []   # borders, knots, first row
        self.parts: list[list[int]] = []      # size, column, first row, first number
        self.bodies: list[list[int]] = []     # channels, parts, their first, tables, columns, row
        self.numbers: list[float] = []        # that choices stand for
        self.borders: list[list[float]] = []
        kinds: dict[tuple[float, float, bool], int] = {}
        for codec in codecs:
            self.bodies.append([
                len(codec.channels), len(codec.actions), len(self.channels), len(self.parts),
                first[f"{codec.name}.input"], first[f"{codec.name}.control"],
                codec.body.control.rows, codec.body.input_rows - 1])
            row = 0
            for channel in codec.channels:
                kind = channel.low, channel.high, channel.is_log
                kinds.setdefault(kind, len(kinds))
                self.channels.append([kinds[kind], channel.knots, row])
                row += channel.knots
            heads = [head for head in codec.body.control.heads if not head.is_scalar]
            for head, choices in zip(heads, codec.actions, strict=True):
                self.parts.append([len(choices), head.start, row, len(self.numbers)])
                self.numbers += choices
                row += len(choices)
        fields = [{"low": low, "high": high, "is_log": is_log} for low, high, is_log in kinds]
        self.borders = borders(fields)

    def constants(self) -> dict[str, object]:
        columns = max(body[6] for body in self.bodies)
        assert columns % LANES == 0
        return {"BODY_COUNT": len(self.bodies), "LEVELS": LEVELS, "MAX_COLUMNS": columns,
                "MAX_CHANNELS": max(body[0] for body in self.bodies)}

    def c_text(self) -> str:
        levels = ",\n".join(f"{{{_doubles(row)}}}" for row in self.borders)
        return "".join([
            _table("channel_t", "borders, knots, row", "BODY_CHANNELS", self.channels),
            _table("part_t", "size, column, row, number", "BODY_PARTS", self.parts),
            _table("body_t", "channels, parts, first_channel, first_part, input, control, columns,"
                   " begin_row", "BODIES", self.bodies),
            f"static const double CHOICE_NUMBERS[] = {{\n{_doubles(self.numbers)}}};\n",
            f"static const double BORDERS[][{LEVELS + 1}] = {{\n{levels}}};\n\n"])


def _doubles(numbers: Iterable[float]) -> str:
    return ",\n".join(map(number_text, numbers))


def _table(kind: str, fields: str, name: str, rows: Rows) -> str:
    lines = ",\n".join(f"    {{{', '.join(map(str, row))}}}" for row in rows)
    return (f"typedef struct {{\n    int {fields};\n}} {kind};\n"
            f"static const {kind} {name}[] = {{\n{lines}}};\n")


def describe(codecs: Sequence[Codec]) -> list[tuple[str, str]]:
    """A body's name and its sizes, for a person."""
    return [(codec.name, f"{len(codec.channels)} numbers in, {len(codec.actions)} out, of "
             f"{'+'.join(str(len(part)) for part in codec.actions)} choices") for codec in codecs]
