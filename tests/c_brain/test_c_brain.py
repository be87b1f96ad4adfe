"""The C brain of examples/c/ gives the bits of seed.runtime, and refuses what that refuses."""
import os
import subprocess
import sys
import threading
from ast import literal_eval

import numpy as np
import pytest

from seed.evaluation import TrainedBrain
from seed.export import Options
from seed.export.brain_file import BrainFile
from seed.runtime import Brain, BrainError, measure_selftest
from tests.support import brains
from tests.support.acting_brains import KINDS, file_of, untrained
from tests.support.c_brain import CBrain
from tests.support.tflite import ROOT, SMALL

TEXTS = {"portable": {}, "litert": {"target": "litert"}, "explicit": {"explicit_state": True},
         "int8": {"weights": "int8"}, "float16": {"weights": "float16"}}
STEPS, SOME_STEPS = 10_000, 300
FORKED = """
import os, sys
from math import inf, nan
from tests.support.c_brain import CBrain, loaded
rows, c = eval(sys.stdin.read()), CBrain(loaded(sys.argv[1]), sys.argv[2])
c.begin("rover")
actions = [c.act(seen) for seen in rows[:20]]
child = os.fork()
actions += [c.act(seen) for seen in rows[20:]]
if child:
    os.waitpid(child, 0)
print(actions, flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> TrainedBrain:
    return brains.trained(brains.untrained(tmp_path_factory.mktemp("text"), "toy", *SMALL))


def observations(count: int, channels: int, seed: int = 0):
    """Within their ranges, beyond them, and absent."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        seen = rng.uniform(-1, 1, channels) * rng.choice([0.1, 1, 10, 1e300])
        seen[rng.random(channels) < 0.05] = rng.choice([np.nan, np.inf, -np.inf])
        yield seen


def assert_same_ticks(c: CBrain, python: Brain, name: str, count: int, seed: int = 0) -> None:
    """Actions, logits, counts, and the next byte; each third action is drawn."""
    channels, codec = c.body.channels, python.bodies[name]
    draws, noises = (np.random.default_rng(seed) for _ in range(2))
    for i, seen in enumerate(observations(count, channels, seed)):
        noise = noises.gumbel(size=c.body.choices) if i % 3 == 0 else None
        expected = python.act(seen, explore=None if noise is None else draws)
        assert c.act(seen, noise) == np.ravel(expected).tolist()
        assert np.array_equal(c.control_logits, python.control_logits)
        if i % 50 == 0:
            assert np.array_equal(c.step(i % 256), python.step(i % 256))
    assert (c.body.absent, c.body.clipped) == (codec.absent, codec.clipped)
    assert count < 50 or codec.absent and codec.clipped


@pytest.mark.parametrize("kind", TEXTS)
def test_steps_are_pythons_bit_for_bit(library, text, tmp_path, kind):
    path = brains.exported(text, tmp_path / "brain.tflite", **TEXTS[kind])
    c, python = CBrain(library, path), Brain(path)
    for byte in brains.some_bytes(STEPS if kind == "portable" else SOME_STEPS):
        expected = python.step(byte)
        assert np.array_equal(c.step(byte), expected) and np.isfinite(expected).all()


@pytest.mark.parametrize("kind", KINDS)
def test_ticks_are_pythons_bit_for_bit(library, trained, tmp_path, kind):
    python = file_of(trained, tmp_path, KINDS[kind])
    c = CBrain(library, python.name)
    for name in ("rover", "cartpole"):
        for brain in (c, python):
            brain.begin(name)
        assert_same_ticks(c, python, name, STEPS // 2 if kind == "portable" else SOME_STEPS)


def test_a_reset_and_an_episode_begin_as_in_python(library, trained, tmp_path):
    python = file_of(trained, tmp_path)
    c = CBrain(library, python.name)
    assert np.array_equal(c.step(65), python.step(65))   # it was reset as it was opened
    for brain in (c, python):
        brain.begin("cartpole")
    assert_same_ticks(c, python, "cartpole", 20)
    for brain in (c, python):
        brain.reset()
    assert_same_ticks(c, python, "cartpole", 20)
    for brain in (c, python):
        brain.begin("cartpole", keep_state=True)
    assert_same_ticks(c, python, "cartpole", 20)
    assert c.body.rate_hz == 50 and c.body.choices == 2


def test_a_border_of_every_level_is_pythons(library, trained, tmp_path):
    """Of channels that are not logarithmic, whose borders are exact."""
    python = file_of(trained, tmp_path)
    c, codec = CBrain(library, python.name), python.bodies["rover"]
    for brain in (c, python):
        brain.begin("rover")
    for border in codec._borders[0]:
        for number in (np.nextafter(border, -np.inf), border, np.nextafter(border, np.inf)):
            seen = [number, *[0.5] * 12]
            assert c.act(seen) == python.act(seen).tolist()
            assert np.array_equal(c.control_logits, python.control_logits)


def test_wrong_calls_are_refused_and_change_nothing(library, trained, text, tmp_path):
    python = file_of(trained, tmp_path)
    c = CBrain(library, python.name)
    for brain in (c, python):
        brain.begin("cartpole")
        brain.act([0, 0, 0, 0])
        for call, message in ((lambda: brain.step(256), "byte is 256: use 0 to 255"),
                              (lambda: brain.step(-1), "byte is -1: use 0 to 255"),
                              (lambda: brain.act([0, 0, 0]), "the observation of cartpole"),
                              (lambda: brain.begin(), "has no body.*cartpole"),
                              (lambda: brain.begin("walker"), "has no body .?walker.*cartpole"),
                              (lambda: brain.load_state(tmp_path / "none"), "No such file")):
            with pytest.raises(BrainError, match=message) as error:
                call()
            assert "\n" not in str(error.value)
    assert_same_ticks(c, python, "cartpole", 20)
    silent = CBrain(library, brains.exported(text, tmp_path / "text.tflite"))
    for call in (lambda: silent.act([0]), silent.begin):
        with pytest.raises(BrainError, match="has no body: train one with --body"):
            call()
    assert silent.body.channels == 0
    for call in (silent.save_state, silent.load_state):
        with pytest.raises(BrainError, match="export it with --explicit-state"):
            call(tmp_path / "state")


def test_a_selftest_is_pythons(library, text, tmp_path):
    path, file = tmp_path / "f.tflite", BrainFile(text, Options("litert", "int8"))
    path.write_bytes(file.tobytes([]))
    c = CBrain(library, path)
    with pytest.raises(BrainError, match="has no self-test: it was not verified; export it"):
        c.selftest()
    fields = measure_selftest(Brain(path))
    path.write_bytes(file.tobytes([], fields))
    c, first = CBrain(library, path), CBrain(library, path).step(65)
    c.step(66)
    assert c.selftest() == Brain(path).selftest().delta < 1e-6
    assert np.array_equal(c.step(65), first)   # the state is a fresh one
    logits = [fields["logits"][0] + 0.1 * np.ptp(fields["logits"]), *fields["logits"][1:]]
    path.write_bytes(file.tobytes([], {**fields, "logits": logits, "machine": "z80"}))
    for brain in (CBrain(library, path), Brain(path)):
        with pytest.raises(BrainError, match=r"f.tflite gives other logits here than where it was "
                           r"verified: .*within [\d.e-]+ of their range \(0.002 allowed\); "
                           r"verified on z80 with ai-edge-litert .*; export and verify it on "
                           r"this machine"):
            brain.selftest()
    for change in ({"bytes": [256]}, {"bytes": []}, {"logits": [0.0]}, {"tolerance": "x"},
                   {"machine": 5}):
        path.write_bytes(file.tobytes([], {**fields, **change}))
        with pytest.raises(BrainError, match="byte is|wrong desc|gives other logits"):
            CBrain(library, path).selftest()


def test_a_selftest_ends_the_episode_as_in_python(library, trained, tmp_path):
    path, file = tmp_path / "f.tflite", BrainFile(trained, Options("litert"))
    path.write_bytes(file.tobytes([]))
    path.write_bytes(file.tobytes([], measure_selftest(Brain(path))))
    c, python = CBrain(library, path), Brain(path)
    for brain in (c, python):
        brain.begin("rover")
        brain.act([np.nan, *[0.5] * 12])
        brain.selftest()
    assert c.body.absent == c.body.control_count == 0
    assert c.act([0.5] * 13) == np.ravel(python.act([0.5] * 13)).tolist()
    assert np.array_equal(c.control_logits, python.control_logits)


def test_an_action_never_comes_of_logits_that_are_not_finite(library, trained, tmp_path):
    params = {name: array * np.nan if name.startswith("bodies.") else array
              for name, array in trained.params.items()}
    broken = TrainedBrain(trained.profile, 0, params, bodies=trained.bodies)
    c = CBrain(library, file_of(broken, tmp_path).name)
    c.begin("cartpole")
    with pytest.raises(BrainError, match="gives logits that are not finite: export it again"):
        c.act([0, 0, 0, 0])


def test_nothing_is_allocated_once_it_is_open(library, trained, tmp_path):
    for folder, kind in (("a", "portable"), ("b", "explicit")):
        (tmp_path / folder).mkdir()
        path = file_of(trained, tmp_path / folder, KINDS[kind]).name
        before = CBrain(library, path).memory_calls
        c, following = CBrain(library, path), CBrain(library, path)
        opened = c.memory_calls
        assert opened > before   # they are counted
        c.begin("rover")
        c.act([0] * 13)
        c.step(65)
        c.save_state(tmp_path / "state")
        c.load_state(tmp_path / "state")
        c.swap(following)
        c.reset()
        with pytest.raises(BrainError):
            c.act([0])
        assert c.memory_calls == opened


def test_threads_with_a_brain_each_get_pythons_bits(library, trained, tmp_path):
    python = file_of(trained, tmp_path)
    python.begin("rover")
    rows = list(observations(1000, 13))
    expected = [python.act(seen).tolist() for seen in rows]
    results = {}

    def run(i: int) -> None:
        c = CBrain(library, python.name)
        c.begin("rover")
        results[i] = [c.act(seen) for seen in rows]
    threads = [threading.Thread(target=run, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(results[i] == expected for i in range(3))


def test_a_forked_process_has_its_own_brain_from_there_on(library, trained, tmp_path):
    """Each prints the actions of its own ticks. Fresh memory has other bytes than 0 there."""
    python = file_of(trained, tmp_path)
    python.begin("rover")
    rows = [seen.tolist() for seen in observations(40, 13)]
    expected = [python.act(seen).tolist() for seen in rows]
    done = subprocess.run([sys.executable, "-c", FORKED, library._name, python.name], text=True,
                          input=repr(rows), capture_output=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT),
                               "GLIBC_TUNABLES": "glibc.malloc.perturb=90"})
    assert [literal_eval(line) for line in done.stdout.splitlines()] == [expected, expected]


def test_a_swapped_file_continues_with_the_state(library, trained, tmp_path):
    """As its own save and load would have it, of a brain with other weights too."""
    for kind in ("portable", "explicit"):
        python = file_of(trained, tmp_path, KINDS[kind])
        c, following = (CBrain(library, python.name) for _ in range(2))
        c.begin("rover")
        python.begin("rover")
        assert_same_ticks(c, python, "rover", 20)
        c.swap(following)
        following.begin("cartpole")   # the old one
        assert_same_ticks(c, python, "rover", 20, seed=1)


def test_only_a_file_of_the_same_shape_continues(library, trained, text, tmp_path):
    python = file_of(trained, tmp_path)
    c = CBrain(library, python.name)
    c.begin("rover")
    python.begin("rover")
    assert_same_ticks(c, python, "rover", 20)
    for other in (CBrain(library, brains.exported(text, tmp_path / "text.tflite")),
                  CBrain(library, file_of(untrained("model.sliding_window=5"), tmp_path).name),
                  CBrain(library, file_of(trained, tmp_path, Options(explicit_state=True)).name)):
        with pytest.raises(BrainError, match="has other states or bodies than .*: begin anew"):
            c.swap(other)
    assert_same_ticks(c, python, "rover", 20, seed=1)
