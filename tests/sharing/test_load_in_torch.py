"""examples/load_in_torch.py computes what the float64 reference does of a brain's weights:
with PyTorch where it is installed, else its own lines with numpy in the place of it."""
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from seed.export.reference import Reference
from seed.profile_file import load_profile
from seed.runtime import Brain
from seed.sharing.card import weights
from seed.sharing.pack import pack
from seed.sharing.unpack import unpack
from seed.storage import RunDir
from seed.wavecore.layout import blocks
from tests.support import acting_brains, brains, torch_in_numpy
from tests.support.tflite import ROOT, SMALL

EXAMPLE = ROOT / "examples/load_in_torch.py"
HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture(scope="module", params=["transition=delta", "transition=diagonal",
                                        "rotary_steps=120"])
def folder(request, tmp_path_factory) -> Path:
    """An unpacked brain, whose window of 9 bytes and 2 heads are used."""
    path = tmp_path_factory.mktemp("shared")
    brains.untrained(path / "run", "toy", *SMALL, "model.d_model=64",
                     f"model.{request.param}")
    pack(RunDir(path / "run"), path / "brain.seedpack")
    unpack(path / "brain.seedpack", RunDir(path / "unpacked"))
    return path / "unpacked"


@pytest.fixture
def example(monkeypatch):
    """The example as a module."""
    if not HAS_TORCH:
        for name, module in torch_in_numpy.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("load_in_torch", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_logits_are_the_references(folder, example):
    trained = brains.trained(folder / "checkpoint.safetensors")
    reference, brain = Reference(trained.profile.model, trained.params), example.Brain(folder)
    for byte in brains.some_bytes(60):
        expected, logits = reference.step(byte), np.asarray(brain.step(byte))
        assert np.abs(logits - expected).max() < 1e-4 * np.ptp(expected)


def test_its_command_answers_as_the_exported_file(folder, tmp_path):
    trained = brains.trained(folder / "checkpoint.safetensors")
    params = {**trained.params, "norm_f": trained.params["norm_f"] * 3}
    brains.save(tmp_path / "run", trained.profile, params)
    pack(RunDir(tmp_path / "run"), tmp_path / "b.seedpack")
    unpack(tmp_path / "b.seedpack", RunDir(tmp_path / "unpacked"))
    sharp = brains.trained(tmp_path / "run/checkpoint.safetensors")
    file = Brain(brains.exported(sharp, tmp_path / "f"))
    # A prompt whose answer ends: some do within a few hundred bytes.
    prompt, answer = next((prompt, answer) for prompt in map(chr, range(33, 127)) if len(
        answer := bytes(file.generate_bytes(prompt.encode(), 300, 254))) < 300
        and 255 not in answer or file.reset())
    command = [sys.executable, *([] if HAS_TORCH else ["-m", "tests.support.torch_in_numpy"]),
               str(EXAMPLE), str(tmp_path / "unpacked"), prompt]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120)
    assert done.stdout == answer, done.stderr


def test_the_page_has_the_keys_and_shapes_of_the_weights():
    page = (ROOT / "docs/sharing.md").read_text()
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|]+) \|", page.partition("## Keys")[2], re.MULTILINE)
    model = load_profile("mid").model
    sizes = {"v": model.vocab_size, "d": model.d_model, "e": model.d_inner, "f": model.d_ff,
             "h": model.ssm_heads, "n": model.d_state, "p": model.head_dim, "c": model.d_conv}
    shapes = {key: eval(f"({shape},)", {}, dict(sizes)) for key, shape in rows}
    told = set()
    for block in blocks(model):
        for array in block.arrays:
            key = re.sub(r"layers\.\d+", "layers.I", block.key(array))
            told.add(key)
            is_of_attention = block.kind == "attention" and key.endswith("out_proj")
            expected = (sizes["d"], sizes["d"]) if is_of_attention else shapes[key]
            assert expected == array.shape, key
    assert told == shapes.keys()


def test_weights_of_bodies_are_packed_under_their_documented_keys():
    trained = acting_brains.untrained()
    keys = {key for key in safetensors.numpy.load(weights(trained)) if key.startswith("bodies.")}
    page = (ROOT / "docs/sharing.md").read_text()
    assert keys == {f"bodies.{name}.{part}" for name in acting_brains.NAMES
                    for part in ("input", "control", "action", "world")}
    assert all(f"`.{part}`" in page for part in ("control", "action", "world"))
