"""A brain as one C source: the weights, and a step in the trainer's own order of sums, which gives
its bits. It needs no library and no memory but a struct for the state.

c_template/ has the code; here stand the numbers before it. A matrix (columns, depth) lies in groups
of GROUP columns, each [depth][columns], so that a step reads it from its first float to its last.
The bytes of the file depend on the checkpoint alone.
"""
import re
from collections.abc import Collection
from importlib import resources

import numpy as np

import seed
from seed.config import L2_EPS, LANES, SIGMOID_STRETCH, TURN_SCALE, ModelConfig
from seed.curriculum.vocab import END
from seed.evaluation import TrainedBrain
from seed.export.c_bodies import BodyTables, describe
from seed.wavecore.layout import (BODIES, Array, Block, blocks, proj_columns, round_up,
                                  state_pairs)

MARK = b"/* Seed Brain in C: "
GROUP = 64            # columns of a matrix that lie together
BYTES_PER_LINE = 32
DIGITS = np.frombuffer(b"01234567", np.uint8)   # which an octal number would continue with
MATRICES = {"in_proj", "qkv_proj", "out_proj"}
FLAGS = ("-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno")


def _escape(byte: int, is_before_digit: bool) -> str:
    """A byte within a string of C. No "?", which may be a part of a trigraph."""
    character = chr(byte)
    if byte in b"\"\\?":
        return "\\" + character
    if 32 <= byte < 127:
        return character
    return f"\\{byte:03o}" if is_before_digit else f"\\{byte:o}"


ESCAPES = [_escape(byte, is_before) for is_before in (False, True) for byte in range(256)]


def grouped(matrix: np.ndarray) -> np.ndarray:
    """The floats of a (columns, depth) matrix, columns a multiple of LANES, in the order of use."""
    return np.concatenate([matrix[first:first + GROUP].T.reshape(-1)
                           for first in range(0, len(matrix), GROUP)])


class Weights:
    """All floats of a brain in the order of its file, and where each array begins."""

    def __init__(self, config: ModelConfig, params: dict[str, np.ndarray],
                 bodies: Collection[str]):
        self.pieces: list[np.ndarray] = []
        self.size = 0
        self.constants: dict[str, int] = {}   # offsets; of a layer's arrays, within their block
        self.first: dict[str, int] = {}       # float of each block of a layer, each table of a body
        for block in blocks(config):
            if block.kind in ("embedding", "norm"):
                name = "EMBEDDING" if block.kind == "embedding" else "NORM_F"
                self.constants[name] = self.size
                self._add(params[block.name], is_matrix=block.kind == "embedding")
            else:
                self._add_block(block, params)
        if "A" in config.layer_kinds:
            self.constants["ROPE"] = self.size
            self._add(_rope(config), is_matrix=False)
        if config.rotary_steps and "S" in config.layer_kinds:
            from seed.wavecore.rotary import turn_table   # imports tinygrad
            self.constants["TURNS"] = self.size
            self._add(turn_table(config.rotary_steps), is_matrix=False)
        for name in bodies:
            for table in ("input", "control"):
                self.first[f"{name}.{table}"] = self.size
                self._add(params[f"{BODIES}{name}.{table}"], is_matrix=table == "control")

    def _add_block(self, block: Block, params: dict[str, np.ndarray]) -> None:
        self.first[block.name] = self.size
        for array in block.arrays:
            self.constants[f"{block.kind}_{array.name}".upper()] = (
                self.size - self.first[block.name])
            self._add(_padded(array, params[block.key(array)]), array.name in MATRICES)

    def _add(self, values: np.ndarray, is_matrix: bool) -> None:
        floats = np.zeros(round_up(values.size), np.float32)
        floats[:values.size] = grouped(values) if is_matrix else values.reshape(-1)
        self.pieces.append(floats)
        self.size += floats.size

    def c_text(self) -> str:
        """A string: compilers read one much faster than as many numbers, and it is no longer.
        gcc and clang have no limit for one, and would warn that ISO C has."""
        data = np.concatenate(self.pieces).astype("<f4").view(np.uint8)
        is_before_digit = np.isin(np.append(data[1:], 0), DIGITS)
        tokens = [ESCAPES[i] for i in (data + 256 * is_before_digit).tolist()]
        lines = ["".join(tokens[i:i + BYTES_PER_LINE])
                 for i in range(0, len(tokens), BYTES_PER_LINE)]
        text = "\n".join(f'    "{line}"' for line in lines)
        return (f"#pragma GCC diagnostic push\n"
                f"#pragma GCC diagnostic ignored \"-Woverlength-strings\"\n"
                f"static const union {{\n    char bytes[{len(tokens) + 1}];\n"
                f"    float numbers[{self.size}];\n}} __attribute__((aligned(64))) WEIGHTS = {{\n"
                f"{text}}};\n#pragma GCC diagnostic pop\n")


def _padded(array: Array, values: np.ndarray) -> np.ndarray:
    rows = max(array.padded_rows - array.shape[0], 0)
    return np.pad(values, [(0, rows), *[(0, 0)] * (values.ndim - 1)]) if rows else values


def _rope(config: ModelConfig) -> np.ndarray:
    """(p/2, 2, slots): the cosines and the sines of each pair's angle in all slots."""
    from seed.wavecore.rotary import rope_table   # imports tinygrad
    window, half = config.sliding_window, config.head_dim // 2
    table = np.zeros((half, 2, round_up(window)), np.float32)
    table[:, :, :window] = rope_table(config, 1).reshape(window, 2, half).transpose(2, 1, 0)
    return table


def _state_arrays(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Layers and floats of each array of the state: everything that a step leaves to the next."""
    c, ssm, attention = config, *(config.layer_kinds.count(kind) for kind in "SA")
    channels = c.ssm_heads * (2 * c.d_state + c.head_dim)
    arrays = {"conv": (ssm, (c.d_conv - 1) * channels),
              "ssm": (ssm, c.ssm_heads * c.d_state * c.head_dim),
              "phase": (ssm, c.ssm_heads * state_pairs(c)),
              "keys": (attention, c.d_model * _key_columns(c)),
              "values": (attention, c.sliding_window * c.d_model)}
    return {name: shape for name, shape in arrays.items() if shape[0] and shape[1]}


def _integers(parts: int) -> list[str]:
    """The other fields of the state; of a brain that acts, what it has last chosen."""
    acting = ["body", "has_chosen", f"choices[{parts}]"] if parts else []
    return ["at", "length", *acting]


def _state(config: ModelConfig, parts: int) -> str:
    fields = [f"float {name}[{layers}][{size}]"
              for name, (layers, size) in _state_arrays(config).items()]
    lines = "".join(f"    {field};\n" for field in (
        *fields, f"int32_t {', '.join(_integers(parts))}"))
    return (f"typedef struct {{\n{lines}}} brain_state;\n"
            f"#define BRAIN_END {END}   /* the byte that ends an answer */\n")


def state_bytes(config: ModelConfig, parts: int) -> int:
    """The size of the struct; `parts`: of an action, 0 if the brain does not act."""
    floats = sum(layers * size for layers, size in _state_arrays(config).values())
    return 4 * (floats + (4 + parts if parts else 2))


def _key_columns(config: ModelConfig) -> int:
    """Every key stands there twice, so that a window is always in one piece."""
    return config.sliding_window + round_up(config.sliding_window)


def _constants(config: ModelConfig) -> dict[str, object]:
    c, kinds = config, config.layer_kinds
    constants: dict[str, object] = {
        "LANES": LANES, "GROUP": GROUP, "SSM_LAYERS": kinds.count("S"),
        "ATTENTION_LAYERS": kinds.count("A"), "N_LAYERS": c.n_layers,
        "WINDOW": c.sliding_window, "D_MODEL": c.d_model, "D_FF": c.d_ff, "HEAD_DIM": c.head_dim,
        "NORM_EPS": c.stream_eps, "ROTARY_STEPS": c.rotary_steps if "S" in kinds else 0}
    if "S" in kinds:
        constants |= {
            "D_STATE": c.d_state, "D_CONV": c.d_conv, "SSM_HEADS": c.ssm_heads,
            "SSM_COLUMNS": round_up(proj_columns(c)),
            "BETA_MAX": float(c.beta_max), "SIGMOID_STRETCH": SIGMOID_STRETCH,
            "DELTA": float(c.transition == "delta"),
            "OUT_NORM_EPS": c.norm_eps, "L2_EPS": L2_EPS}
        if c.rotary_steps:
            constants["PARTS_PER_UNIT"] = TURN_SCALE * c.rotary_steps
    if "A" in kinds:
        constants |= {"KEY_COLUMNS": _key_columns(c), "ATTENTION_HEADS": c.attn_heads,
                      "SCALE": c.head_dim ** -0.5}
    return constants


def _layers(config: ModelConfig, first: dict[str, int]) -> str:
    kinds = config.layer_kinds
    rows = [f"{{{int(kind == 'A')}, {kinds[:i].count(kind)}, {first[f'layers.{i}.mixer']}, "
            f"{first[f'layers.{i}.mlp']}}}" for i, kind in enumerate(kinds)]
    return ("static const struct {\n    int is_attention, index;\n    uint32_t mixer, mlp;\n"
            "} LAYERS[N_LAYERS] = {\n    " + ",\n    ".join(rows) + "};\n")


def _template(name: str) -> str:
    return (resources.files("seed.export") / "c_template" / name).read_text(encoding="utf-8")


def _brain(config: ModelConfig) -> str:
    turns = _template("rotary.c") if config.rotary_steps else ""
    return _template("brain.c").replace('#include "rotary.c"\n', turns)


def _plain(text: str) -> str:
    """A text that cannot end a comment, or go on in the next line."""
    return re.sub(r"[^\w .+-]", "_", text, flags=re.ASCII)


def c_source(trained: TrainedBrain) -> bytes:
    """The file of a brain."""
    config = trained.profile.model
    codecs = [facts.codec for facts in trained.bodies.values()]
    weights = Weights(config, trained.params, trained.bodies)
    tables = BodyTables(codecs, weights.first) if codecs else None
    constants = _constants(config) | weights.constants | (tables.constants() if tables else {})
    defines = "".join(f"#define {name} {value!r}{'f' * isinstance(value, float)}\n"
                      for name, value in constants.items())
    parts = max((len(codec.actions) for codec in codecs), default=0)
    head = _template("head.txt").format(
        name=_plain(trained.profile.name), step=trained.step, version=_plain(seed.__version__),
        sha256=_plain(trained.sha256 or "unknown"), flags=" ".join(FLAGS),
        weights=4 * weights.size, state=state_bytes(config, parts), bodies="".join([
            *(f" * Body {i}, {_plain(name)}: {sizes}.\n"
              for i, (name, sizes) in enumerate(describe(codecs))), " *\n" * bool(codecs)]))
    return "".join([
        MARK.decode(), head, _state(config, parts), _template("brain.h"),
        _template("act.h") if tables else "", "#endif\n\n#ifndef BRAIN_DECLARATIONS\n", defines,
        "\n", _layers(config, weights.first), tables.c_text() if tables else "", weights.c_text(),
        "\n", _brain(config), _template("act.c") if tables else "", "#endif\n"]).encode()
