"""C texts of the kernels. What Python and C share has one definition, in Python.

A file of csrc/ defines `kernel_body(me, a)`. Here it gets its constants, tables, the type of `a`,
args_t, whose fields are the arguments and the arrays that stand in them, and the function that
tinygrad calls.
"""
import functools
import re
import typing
from collections.abc import Mapping, Sequence
from importlib import resources

from seed.config import LANES
from seed.wavecore.layout import round_up

INT_ARGUMENTS = {"tokens", "targets", "topk_ids", "length_in", "length_out", "phase_in",
                 "phase_out", "changes", "cu_seqlens", "n_seqs"}
SHAPE = ("D_MODEL", "BATCH", "TIME", "THREADS")   # in a kernel's name
INCLUDE = re.compile(r'^#include "(.+)"\n', re.MULTILINE)

Offsets = dict[str, int]


def segments(sizes: dict[str, int], unit: int = LANES) -> tuple[int, Offsets]:
    """Total floats of a buffer, and the offset of each of its arrays; a multiple of `unit`."""
    offsets, at = {}, 0
    for name, size in sizes.items():
        offsets[name] = at
        at += round_up(size, unit)
    return max(at, 1), offsets


def with_prefix(prefix: str, values: Mapping[str, object]) -> dict[str, object]:
    """As constants of the C text: {"keys": 0} with "PRIVATE" is {"PRIVATE_KEYS": 0}."""
    return {f"{prefix}_{name.upper()}": value for name, value in values.items()}


def kernel_source(file: str, variant: str, constants: Mapping[str, object], outputs: str,
                  inputs: str, arrays: Mapping[str, Offsets] | None = None,
                  counts: Mapping[str, int] | None = None,
                  units: Sequence[typing.NamedTuple] = ()) -> tuple[str, str]:
    """Name and complete C text of a kernel: `variant` of a file in csrc/.

    outputs, inputs: names of the arguments, in order; the kernel may change the outputs. `arrays`
    has the arrays that stand in an argument; `counts` the length of arguments that are several;
    `units` are the rows of the table UNITS. The text is the same on every machine.
    """
    name = "_".join([file.removesuffix(".c"), variant.lower(),
                     *(str(constants[key]) for key in SHAPE if key in constants)])
    defines = {variant: 1, "LANES": LANES, **constants}
    struct, entry = _arguments(name, outputs.split(), inputs.split(), arrays or {}, counts or {})
    return name, "".join([
        *(f"#define {key} {_literal(defines[key])}\n" for key in defines),
        struct, _table(units), whole_text(file), entry])


def _literal(value: object) -> str:
    return f"{value!r}f" if isinstance(value, float) else str(value)


@functools.cache
def c_text(name: str) -> str:
    """Text of a file in csrc/."""
    return (resources.files("seed.wavecore") / "csrc" / name).read_text(encoding="utf-8")


def whole_text(name: str) -> str:
    """Text of a file in csrc/ with its headers."""
    return _with_includes(name, set())


def _with_includes(name: str, included: set[str]) -> str:
    """Text of a file with each header in place of its first #include."""
    def header(match: re.Match[str]) -> str:
        if match[1] in included:
            return ""
        included.add(match[1])
        return _with_includes(match[1], included)
    return INCLUDE.sub(header, c_text(name))


def _arguments(name: str, outputs: list[str], inputs: list[str], arrays: Mapping[str, Offsets],
               counts: Mapping[str, int]) -> tuple[str, str]:
    """The struct args_t, and the function that fills it and runs the team."""
    fields, parameters, values = [], [], []
    for argument in outputs + inputs:
        kind = "int *" if argument in INT_ARGUMENTS else "float *"
        if argument in inputs:
            kind = "const " + kind
        if argument in counts:
            names = [f"{argument}_{i}" for i in range(counts[argument])]
            fields.append(f"{kind}{argument}[{len(names)}];")
            values.append(f".{argument} = {{{', '.join(names)}}}")
        else:
            names = [argument]
            fields.append(f"{kind}{argument};")
            values.append(f".{argument} = {argument}")
        parameters += [kind + n for n in names]
        for array, offset in arrays.get(argument, {}).items():
            fields.append(f"{kind}{array};")
            values.append(f".{array} = {argument} + {offset}")
    struct = f"typedef struct {{\n    {' '.join(fields)}\n}} args_t;\n"
    return struct, (f"\nvoid {name}({', '.join(parameters)}) {{\n"
                    f"    args_t args = {{{', '.join(values)}}};\n    run_team(&args);\n}}\n")


def _table(units: Sequence[typing.NamedTuple]) -> str:
    if not units:
        return ""
    kinds = typing.get_type_hints(type(units[0]))
    fields = " ".join(f"{kind.__name__} {name};" for name, kind in kinds.items())
    rows = ",\n    ".join(f"{{{', '.join(map(_literal, unit))}}}" for unit in units)
    return (f"#define UNIT_COUNT {len(units)}\ntypedef struct {{ {fields} }} unit_t;\n"
            f"static const unit_t UNITS[UNIT_COUNT] = {{\n    {rows}}};\n")
