"""Files with a right checksum and a wrong structure, which would crash an interpreter."""
import dataclasses
import itertools

import numpy as np
import pytest

from seed.evaluation import TrainedBrain
from seed.export import Options
from seed.export.brain_file import BrainFile
from seed.export.flatbuffer import Model
from seed.runtime import Brain, BrainError, describe, seal
from seed.runtime.structure import check_structure
from tests.support import brains
from tests.support.brains import exported
from tests.support.damaged_models import BYTES, DAMAGES, with_word
from tests.support.tflite import SMALL

KINDS = [Options(*values) for values in itertools.product(
    ("portable", "litert"), ("float32", "float16", "int8"), (False, True), (0, 3))]


@pytest.fixture(scope="module")
def brain(tmp_path_factory) -> TrainedBrain:
    return brains.trained(brains.untrained(tmp_path_factory.mktemp("brain"), "toy", *SMALL))


@pytest.mark.parametrize("options", KINDS, ids=lambda o: "-".join(map(str, vars(o).values())))
def test_every_exported_kind_has_the_right_structure(brain, options):
    data = BrainFile(brain, options).tobytes()
    check_structure(data, describe(data, "f"))


def refuse(path, data: bytes) -> str:
    """The message of the error that the file is refused with, before an interpreter sees it."""
    path.write_bytes(data)
    with pytest.raises(BrainError, match="damaged.tflite cannot be run: .*; export it") as e:
        Brain(path)
    assert "\n" not in str(e.value) and len(str(e.value)) < 500
    return str(e.value)


@pytest.fixture
def no_interpreter(monkeypatch):
    monkeypatch.setattr("seed.runtime.brain.find_interpreter", lambda: (
        lambda **_: pytest.fail("it reached the interpreter"), "ai-edge-litert"))


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_graphs_are_refused(brain, tmp_path, no_interpreter, name):
    file = BrainFile(brain, Options())
    DAMAGES[name](file.model)
    print(refuse(tmp_path / "damaged.tflite", file.tobytes()))


@pytest.mark.parametrize("name", BYTES)
def test_damaged_bytes_are_refused(brain, tmp_path, name):
    """Some by the interpreter, which checks offsets before it reads anything else."""
    data = BrainFile(brain, Options()).tobytes()
    print(refuse(tmp_path / "damaged.tflite", seal(with_word(data, *BYTES[name]))))


def test_scales_of_int8_are_checked(brain, tmp_path, no_interpreter):
    for scales in ((), (float("nan"),), (0.0,), (-1.0,), (1.0, 1.0)):
        file = BrainFile(brain, Options(weights="int8"))
        tensors = file.model.graphs[0].tensors
        old = [old for old in tensors if old.dtype == "int8" and old.buffer][-1]
        tensors[old.index] = dataclasses.replace(old, scales=scales)
        refuse(tmp_path / "damaged.tflite", file.tobytes())


def test_a_state_of_another_shape_is_refused(brain, tmp_path, no_interpreter):
    for explicit in (False, True):
        file = BrainFile(brain, Options(explicit_state=explicit))
        next(iter(file.description["states"].values()))["shape"] = [1, 3, 1, 2 ** 20]
        refuse(tmp_path / "damaged.tflite", file.tobytes())


def test_a_file_without_states_answers(brain, tmp_path):
    file = BrainFile(brain, Options(explicit_state=True))
    model = Model("a table of logits")
    graph, model.metadata = model.graph("step"), file.model.metadata
    token, logits = graph.input("token", (1,), "int32"), np.eye(256, dtype=np.float32)
    graph.output("logits", graph.add("GATHER", [graph.constant(logits), token], (1, 256)))
    file.model, file.description["states"] = model, {}
    (tmp_path / "f").write_bytes(file.tobytes())
    assert Brain(tmp_path / "f").step(65).argmax() == 65


def test_logits_that_are_not_finite_are_named(brain, tmp_path):
    file = Brain(exported(dataclasses.replace(brain, params={
        **brain.params, "norm_f": brain.params["norm_f"] * np.nan}), tmp_path / "damaged.tflite"))
    assert file.generate("1+1=", 3) is not None   # the likeliest byte of none
    with pytest.raises(BrainError, match="damaged.tflite gives logits that are not finite"):
        file.generate("1+1=", 3, temperature=1.0)


def test_what_an_interpreter_says_in_a_step_names_the_file(brain, tmp_path, monkeypatch):
    file = Brain(exported(brain, tmp_path / "damaged.tflite"))

    def invoke() -> None:
        raise RuntimeError("two\nlines")
    monkeypatch.setattr(file.interpreter, "invoke", invoke)
    with pytest.raises(BrainError, match="damaged.tflite: two lines; export it again"):
        file.step(65)
