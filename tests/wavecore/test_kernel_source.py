"""What Python and C share has one definition, and it is in Python."""
import re
from pathlib import Path

import pytest

from seed import config
from seed.config import ModelConfig, TrainConfig
from seed.wavecore import fast, fast_optim, fast_ticks, kernel_source, layout, loss, model

CSRC = sorted((Path(fast.__file__).parent / "csrc").iterdir())
DEFINE = re.compile(r"^ *#define (\w+)", re.MULTILINE)
# Defined once for each kind of CPU.
BY_CPU = {"RELAX", "TILE_ROWS", "TILE_PANELS", "HOLD_NUMBER", "PARTS", "LOAD_PART", "STORE_PART"}
NUMBER = re.compile(r"(?<![\w.])(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?(?=f?\b)")


def python_constants() -> dict[str, list[float]]:
    """Numbers in capitals, and tuples of them."""
    constants = {}
    for module in (config, fast, fast_optim, kernel_source, loss, model):
        for name, value in vars(module).items():
            numbers = value if isinstance(value, tuple) else (value,)
            if name.isupper() and all(isinstance(n, (int, float)) for n in numbers):
                constants[name] = [abs(n) for n in numbers]
    return constants


@pytest.fixture
def texts(monkeypatch) -> dict[str, str]:
    """C texts of all kernels of one shape."""
    texts: dict[str, str] = {}
    for module in (fast, fast_optim, fast_ticks):
        monkeypatch.setattr(module, "launcher", texts.__setitem__)
    shape = ModelConfig(d_model=32)
    for kind, kernels in fast.KERNELS.items():
        kernels(shape, layout.KINDS[kind].block_fn(shape, kind), 1, 5, 2)
    fast.Packer(shape, layout.mlp_block(shape, "mlp"))
    fast.Embedding(shape, 1, 5, 2)
    fast.Head(shape, 1, 5, 2).launch_soft(3, 2.0, 0.5)
    fast_ticks.TickEmbedding(shape, 5, 3, 7, 2)
    fast_ticks.TickHead(shape, 5, layout.head_table([64], [2, 3]), 2)
    fast_optim.OptimizerKernels(layout.blocks(shape), TrainConfig(), 1.0, 2)
    return texts


def test_no_kernel_defines_a_name_twice(texts):
    assert len(texts) == 30
    for name, text in texts.items():
        defined = [macro for macro in DEFINE.findall(text) if macro not in BY_CPU]
        assert len(defined) == len(set(defined)), name


def test_no_c_file_defines_a_constant_that_python_has():
    constants = python_constants()
    assert {"LANES", "ROW_TILE", "MAX_CHUNK", "QUERIES", "L2_EPS", "SIGMOID_STRETCH",
            "HIDDEN_SCORE", "NS_COEFFICIENTS"} <= constants.keys()
    fractions = {n for numbers in constants.values() for n in numbers if n != int(n) or n > 1e9}
    for path in CSRC:
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not constants.keys() & set(DEFINE.findall(text)), path.name
        assert "enum" not in text, path.name
        assert not fractions & {float(n) for n in NUMBER.findall(text)}, path.name


def test_every_c_file_is_in_a_kernel_or_in_what_all_share(texts):
    every = [*texts.values(), *map(kernel_source.whole_text, ("thread_team.c", "launches.c"))]
    for path in CSRC:
        body = path.read_text(encoding="utf-8").rstrip().splitlines()[-1]
        header = path.read_text(encoding="utf-8").splitlines()[0]
        assert any(header in text and body in text for text in every), path.name


def test_arrays_of_a_buffer_are_aligned_and_apart():
    size, offsets = kernel_source.segments({"a": 1, "b": 17, "c": 16})
    assert (size, offsets) == (64, {"a": 0, "b": 16, "c": 48})
    assert kernel_source.segments({}) == (1, {})


def test_arguments_reach_the_kernel_by_name_and_arrays_by_their_offset():
    text = kernel_source.kernel_source(
        "mlp.c", "FORWARD", {}, "y save", "tokens params", {"save": {"hidden": 32}},
        {"params": 2})[1]
    assert ("float *y; float *save; float *hidden; const int *tokens; const float *params[2];"
            in text)
    assert ("{.y = y, .save = save, .hidden = save + 32, .tokens = tokens, "
            ".params = {params_0, params_1}}" in text)
