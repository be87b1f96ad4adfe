"""LiteRT's CompiledModel in place of its Interpreter, which is deprecated: the same logits."""
import subprocess
import sys

import numpy as np
import pytest

from seed.runtime import Brain, BrainError, find_interpreter, seal
from seed.runtime.compiled import CompiledInterpreter
from tests.support import acting_brains, brains
from tests.support.brains import exported
from tests.support.tflite import ROOT


def both(path, monkeypatch) -> tuple[Brain, Brain]:
    plain = Brain(path)
    monkeypatch.setattr("seed.runtime.brain.find_interpreter",
                        lambda: (CompiledInterpreter, "ai-edge-litert"))
    return plain, Brain(path)


@pytest.mark.parametrize("target", ["portable", "litert"])
@pytest.mark.parametrize("weights, explicit", [("float32", False), ("float32", True),
                                               ("int8", False)])
def test_logits_are_the_interpreters_bit_for_bit(brain, tmp_path, monkeypatch, target, weights,
                                                 explicit):
    path = exported(brain, tmp_path / "f", target=target, weights=weights, explicit_state=explicit,
                    prefill=5)
    plain, compiled = both(path, monkeypatch)
    assert isinstance(compiled.interpreter, CompiledInterpreter)
    for begin in (0, 1):   # from a fresh state, each
        data = brains.some_bytes(60, begin)
        assert np.array_equal(plain.prefill(bytes(data)), compiled.prefill(bytes(data)))
        for byte in data:
            assert np.array_equal(plain.step(byte), compiled.step(byte))
        plain.reset(), compiled.reset()
    assert plain.answer("12+30=", 20) == compiled.answer("12+30=", 20)


@pytest.mark.parametrize("kind", ["portable", "explicit"])
def test_a_brain_acts_saves_and_loads_its_state_as_with_the_interpreter(tmp_path, monkeypatch,
                                                                        kind):
    trained = acting_brains.untrained()
    acting_brains.file_of(trained, tmp_path, acting_brains.KINDS[kind])
    plain, compiled = both(tmp_path / "brain.tflite", monkeypatch)
    rng, state = np.random.default_rng(0), tmp_path / "state"
    observations = rng.normal(size=(20, 4))
    for file in (plain, compiled):
        file.begin("cartpole")
    for observation in observations[:10]:
        actions = [file.act(observation) for file in (plain, compiled)]
        assert actions[0] == actions[1]
        assert np.array_equal(plain.control_logits, compiled.control_logits)
    compiled.save_state(state)
    later = [compiled.act(observation) for observation in observations[10:]]
    compiled.load_state(state), plain.load_state(state)
    for file in (compiled, plain):
        assert [file.act(observation) for observation in observations[10:]] == later


def test_it_is_used_where_litert_has_no_interpreter(brain, tmp_path):
    path = exported(brain, tmp_path / "f")
    assert find_interpreter()[0].__module__ == "ai_edge_litert.interpreter"
    code = ("import sys; sys.modules['ai_edge_litert.interpreter'] = None\n"
            "from seed.runtime import Brain\n"
            f"brain = Brain({str(path)!r}); print(type(brain.interpreter).__name__, "
            "brain.runtime, brain.step(65).argmax())")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True,
                          text=True, env={"PYTHONPATH": str(ROOT)})
    best = Brain(path).step(65).argmax()
    assert done.stdout.split() == ["CompiledInterpreter", "ai-edge-litert", str(best)], done.stderr


def test_a_file_that_it_cannot_run_is_named(brain, tmp_path, monkeypatch):
    path = exported(brain, tmp_path / "f.tflite")
    monkeypatch.setattr("seed.runtime.brain.find_interpreter",
                        lambda: (CompiledInterpreter, "ai-edge-litert"))
    monkeypatch.setattr("seed.runtime.brain.check_structure", lambda *arguments: None)
    data = bytearray(path.read_bytes())
    at = data.index(b"TFL3")
    data[at - 4:at] = (2 ** 31 - 8).to_bytes(4, "little")   # where the model begins
    path.write_bytes(seal(bytes(data)))
    with pytest.raises(BrainError, match="f.tflite cannot be run: ") as error:
        Brain(path)
    assert "\n" not in str(error.value)
