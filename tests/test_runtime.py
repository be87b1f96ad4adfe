"""seed/runtime, the folder that a robot copies: both TFLite runtimes, and files it must refuse."""
import json
import lzma
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from seed.evaluation import TrainedBrain
from seed.export.brain_file import MIN_RUNTIMES
from seed.rng import Stream, stream
from seed.runtime import Answer, Brain, BrainError, describe, seal
from seed.runtime.answer import plain_question, log_probability, shown
from seed.storage import RunDir
from tests.support import brains
from tests.support.brains import exported
from tests.support.descriptions import described
from tests.support.tflite import LOOKUP, ROOT, SMALL, judged, old_python


@pytest.fixture(scope="module")
def brain(tmp_path_factory) -> TrainedBrain:
    return brains.trained(brains.untrained(tmp_path_factory.mktemp("brain"), "toy", *SMALL))


@pytest.fixture(scope="module")
def expected(brain, tmp_path_factory):
    """500 bytes of the reference's free run, and its logits."""
    return brains.expect(tmp_path_factory.mktemp("expected") / "expected.npz", brain, 500)


@pytest.mark.parametrize("weights, options", [
    ("float32", {}), ("float16", {}), ("int8", {}),
    ("float32", {"explicit_state": True, "prefill": 4})], ids=str)
def test_a_portable_file_does_the_same_in_tflite_runtime_2_14(brain, tmp_path, expected, weights,
                                                              options):
    path = exported(brain, tmp_path / "f", weights=weights, **options)
    old, new = (judged(python, path, expected) for python in (old_python(), sys.executable))
    assert (old["runtime"], new["runtime"]) == ("tflite-runtime", "ai-edge-litert")
    assert old["text"] == new["text"]
    assert old["selftest"] == new["selftest"] == (
        f"{path} has no self-test: it was not verified; export it without --no-verify")
    for measured in (old, new):
        assert measured["partitions"] == 1
        assert measured["outside"] == LOOKUP["portable", weights]
        assert measured["agreed"] == 500 or weights != "float32"
        assert measured["relative_delta"] < {"float32": 1e-5, "float16": 0.02, "int8": 0.4}[weights]


@pytest.mark.long
@pytest.mark.parametrize("name", ["toy", "fast", "mid", "slow", "seed"])
def test_a_trained_brain_is_the_same_in_both_runtimes_and_int8_costs_less_than_a_point(
        tmp_path, name):
    """After a minute and a half of training: 10,000 steps of free run, and its holdout."""
    subprocess.run([sys.executable, "-m", "seed", "train", "--profile", name, "--minutes", "1.5",
                    "--run-dir", str(tmp_path)], check=True, stdout=subprocess.DEVNULL)
    trained = brains.trained(RunDir(tmp_path).checkpoint)
    items = list(dict.fromkeys(trained.holdout()))
    expected = brains.expect(tmp_path / "expected.npz", trained, 10_000, items)
    for target, python in (("portable", sys.executable), ("portable", old_python()),
                           ("litert", sys.executable)):
        right = {}
        for weights in ("float32", "int8"):
            path = exported(trained, tmp_path / "f", target=target, weights=weights)
            measured = judged(python, path, expected)
            right[weights] = measured["right"] / len(items)
            print(name, target, {**measured, "text": ""})
            assert measured["outside"] == LOOKUP[target, weights] and measured["steps"] == 10_000
        assert right["float32"] - right["int8"] <= 0.01, right


@pytest.mark.long
def test_the_oldest_litert_that_files_name_runs_them(brain, tmp_path, expected):
    """Installed from the package index."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv/bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q",
                    f"ai-edge-litert=={MIN_RUNTIMES['litert']['ai-edge-litert']}"], check=True)
    for (target, weights), lookup in LOOKUP.items():
        path = exported(brain, tmp_path / "f", target=target, weights=weights)
        assert judged(python, path, expected)["outside"] == lookup


def test_a_file_of_an_earlier_exporter_computes_what_it_was_verified_with(tmp_path):
    """For LiteRT, with products of changing matrices, and keys that are not kept as rotated."""
    file = tmp_path / "f"
    file.write_bytes(lzma.decompress((ROOT / "tests/support/earlier.tflite.xz").read_bytes()))
    assert Brain(file).selftest().delta < 1e-5


def test_a_file_for_litert_is_refused_by_tflite_runtime(brain, tmp_path):
    path = exported(brain, tmp_path / "f", target="litert")
    done = subprocess.run([old_python(), "-c", "import sys; from seed.runtime import *\n"
                           f"try: Brain({str(path)!r})\nexcept BrainError as e: print(e)"],
                          capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert "is for ai-edge-litert, this is tflite-runtime" in done.stdout, done.stderr


def test_the_runtime_alone_generates_what_the_trainer_generates(brain, tmp_path):
    """Copied into an empty folder, in an environment with numpy and tflite-runtime only."""
    path = exported(brain, tmp_path / "f")
    shutil.copytree(ROOT / "seed/runtime", tmp_path / "robot/runtime",
                    ignore=shutil.ignore_patterns("__pycache__"))
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for temperature in (0.0, 1e-320, 1.0):
        brain.decoder.reset()
        expected = list(brain.decoder.generate(b"12+30=", 60, 0xFE, temperature, 5))
        done = subprocess.run(
            [old_python(), "-c", "from runtime import Brain; print(list(Brain("
             f"{str(path)!r}).generate_bytes(b'12+30=', 60, None, {temperature}, 5)))"],
            capture_output=True, text=True, cwd=tmp_path / "robot", timeout=60, env=env)
        assert done.returncode == 0, done
        assert json.loads(done.stdout) == expected


@pytest.mark.parametrize("options", [{}, {"explicit_state": True, "prefill": 4}], ids=str)
def test_an_exported_file_is_as_sure_of_each_answer_as_the_trainer(brain, tmp_path, options):
    file = Brain(exported(brain, tmp_path / "f", **options))
    for prompt in ("12+30=", "abc>", "who are you?"):
        for max_bytes, temperature in ((20, 0.0), (2, 0.0), (3, 1.0)):
            expected = brain.answer(prompt, max_bytes, temperature, 5)
            answer = file.answer(prompt, max_bytes, None, temperature, 5)
            assert (answer.text, answer.has_ended) == (expected.text, expected.has_ended)
            assert 0 < answer.confidence < 1
            assert answer.confidence == pytest.approx(expected.confidence, abs=1e-4)


def test_an_answer_is_as_sure_as_the_product_of_its_bytes_and_its_end(brain, tmp_path):
    file = Brain(exported(brain, tmp_path / "f"))
    whole = file.answer("12+30=", 2)
    file.reset()
    text = bytes(file.generate_bytes(b"12+30=", 2))

    def probability(prompt: bytes, byte: int) -> float:
        file.reset()
        logits = file.prefill(prompt).astype(float)
        return np.exp(logits[byte]) / np.exp(logits).sum()
    first, second = (probability(b"12+30=" + text[:i], text[i]) for i in range(2))
    assert not whole.has_ended and whole.confidence == pytest.approx(first * second, rel=1e-5)
    ended = file.answer("12+30=", 2, stop=text[1])   # that byte is its end
    assert ended == (text[:1].decode(errors="replace"), whole.confidence, True)
    nothing = file.answer("12+30=", 0)
    assert nothing == ("", 1.0, False)


def test_an_answer_below_the_least_confidence_is_withheld_by_trainer_and_file(brain, tmp_path):
    for answerer in (brain, Brain(exported(brain, tmp_path / "f"))):
        given = answerer.answer("12+30=", 9)
        assert given.text == answerer.generate("12+30=", 9)
        assert answerer.answer("12+30=", 9, min_confidence=given.confidence) == given
        assert answerer.answer("12+30=", 9, min_confidence=np.nextafter(given.confidence, 1)) == (
            None, given.confidence, given.has_ended)


def test_logits_that_are_not_finite_give_no_confidence():
    for logits in (np.array([np.nan, 0.0]), np.array([np.inf, 0.0]), np.full(2, -np.inf)):
        byte = int(logits.argmax())
        answer = Answer.of([(byte, log_probability(logits, byte))], 1, bytes.decode, 0.0)
        assert answer.confidence == 0.0
    assert log_probability(np.array([1e30, 0.0], np.float32), 1) < -1e29


@pytest.mark.parametrize("confidence, text", [
    (1.0, "1.00"), (1 - 1e-6, "0.99"), (0.7999, "0.79"), (0.29, "0.29"), (1e-9, "0.00")])
def test_a_confidence_is_shown_rounded_down(confidence, text):
    assert shown(confidence) == text


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_mutated_or_foreign_file_never_reaches_the_interpreter(brain, tmp_path, monkeypatch,
                                                                 count):
    """Files that are cut, flipped, doubled; the interpreter would crash on many of them."""
    monkeypatch.setattr("seed.runtime.brain.find_interpreter", lambda: pytest.fail("it was used"))
    whole, path = exported(brain, tmp_path / "f").read_bytes(), tmp_path / "mutated.tflite"
    rng = stream(0, Stream.SAMPLE, 9)
    for i in range(count):
        at = int(rng.integers(len(whole)))
        data = {0: whole[:at], 1: whole[:at] + bytes([whole[at] ^ 1 << i % 8]) + whole[at + 1:],
                2: whole[:at] + whole[at:at + 9] + whole[at:], 3: whole[at:]}[i % 4]
        if data == whole:
            continue
        path.write_bytes(data)
        with pytest.raises(BrainError, match="mutated.tflite") as error:
            Brain(path)
        assert "\n" not in str(error.value)


def of_another_version(data: bytes) -> bytes:
    return seal(data.replace(b'"format":1', b'"format":9', 1))


def without_reset(data: bytes) -> bytes:
    return seal(data.replace(b"reset", b"rexet"))


@pytest.mark.parametrize("change, message", [
    (of_another_version, "another version of seed"), (without_reset, "not step, reset")])
def test_an_intact_file_that_cannot_be_run_is_named(brain, tmp_path, change, message):
    path = exported(brain, tmp_path / "f")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BrainError, match=message):
        Brain(path)


@pytest.mark.parametrize("data, message", [
    (b"", "not a TFLite file"), (b"PK\3\4" + b"x" * 99, "not a TFLite file"),
    (b"\x1c\0\0\0TFL3" + b"\0" * 200, "not a brain of seed")])
def test_foreign_files_are_named(tmp_path, data, message):
    (tmp_path / "f.tflite").write_bytes(data)
    with pytest.raises(BrainError, match=message) as error:
        Brain(tmp_path / "f.tflite")
    assert error.value.exit_code == 2


def test_what_is_not_a_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", "/proc/self/mem", tmp_path, tmp_path / "pipe", tmp_path / "none"):
        with pytest.raises(BrainError, match=str(path)):
            Brain(path)


def test_an_older_runtime_is_refused(brain, tmp_path, monkeypatch):
    path = exported(brain, tmp_path / "f")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.1.5")
    with pytest.raises(BrainError, match="needs ai-edge-litert 2.1.6 or newer, this is 2.1.5: pip"):
        Brain(path)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.10.0rc1")
    Brain(path)


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("change, message", [
    ({}, None), ({"runtimes": "absent"}, "runtimes"), ({"runtimes": {}}, "runtimes"),
    ({"runtimes": {"ai-edge-litert": 2}}, "runtimes"), ({"runtimes": ["ai-edge-litert"]}, "runti"),
    ({"prefill": "absent"}, "prefill"), ({"prefill": -1}, "prefill"), ({"prefill": "4"}, "prefill"),
    ({"prefill": 9}, "not step, prefill_9"), ({"vocabulary": "absent"}, "vocabulary"),
    ({"vocabulary": {"end": 254}}, "vocabulary"), ({"vocabulary": {"end": 254, "pad": -1}}, "voca"),
    ({"vocabulary": {"end": 254.0, "pad": 0}}, "vocabulary"), ({"states": [1]}, "states"),
    ({"plain_questions": "absent"}, None), ({"plain_questions": 1}, "plain_questions"),
    ({"states": {"x_0": {"shape": [2 ** 40], "start": 0.0}}}, "states"),
    ({"states": {"x_0": {"shape": [1.0], "start": 0.0}}}, "states"),
    ({"states": {"x_0": {"shape": [9] * 99, "start": 0.0}}}, "states"),
    ({"states": {"x_0": {"shape": [1], "start": 1e300}}}, "states"),
    ({"states": {"token": {"shape": [1], "start": 0.0}}}, "states"),
    ({"explicit_state": 1}, "explicit_state"), ({"format": 2}, "another version"),
    (" no JSON", "no JSON"), (',"a":' + "[" * 900, "no JSON")], ids=str)
def test_a_sealed_file_with_a_wrong_description_is_refused(brain, tmp_path, change, message,
                                                           explicit):
    path = exported(brain, tmp_path / "f.tflite", explicit_state=explicit)
    path.write_bytes(described(path.read_bytes(), change))
    if message is None:
        assert Brain(path).generate("1+1=", 2) is not None
        return
    with pytest.raises(BrainError, match=message) as error:
        Brain(path)
    assert "f.tflite" in str(error.value) and "\n" not in str(error.value)


def test_a_state_of_another_shape_is_refused_before_it_is_allocated(brain, tmp_path):
    path = exported(brain, tmp_path / "f.tflite", explicit_state=True)
    states = describe(path.read_bytes(), "f")["states"]
    name = next(iter(states))
    states = {**states, name: {"shape": [2 ** 30], "start": 0.0}}
    path.write_bytes(described(path.read_bytes(), {"states": states}))
    with pytest.raises(BrainError, match="it would need [0-9]+ bytes of memory"):
        Brain(path)


def test_wrong_calls_raise_one_kind_of_error(brain, tmp_path):
    path = exported(brain, tmp_path / "f")
    file = Brain(path)
    wrong = [lambda value=value: file.step(value) for value in (256, -1, 65.7, "A", b"A", None)]
    wrong += [lambda value=value: file.prefill(value) for value in (b"", "text", 5, None, [65])]
    wrong += [lambda value=value: Brain(path, value) for value in (0, -1, 65, 1.5, "2", None)]
    wrong += [lambda value=value: Brain(value) for value in (None, 5, "a\0b", [])]
    wrong += [lambda value=value: file.generate(value) for value in ("", b"text", None, "\ud800")]
    wrong += [lambda key=key, value=value: file.generate("1+1=", **{key: value}) for key, value in (
        ("max_bytes", -1), ("max_bytes", 2.5), ("max_bytes", "3"), ("stop", 256), ("stop", "x"),
        ("temperature", -1.0), ("temperature", float("nan")), ("temperature", float("inf")),
        ("temperature", "1"), ("temperature", None), ("temperature", True), ("seed", -1),
        ("seed", 1.5), ("seed", None), ("seed", 2 ** 70))]
    wrong += [lambda value=value: file.answer("1+1=", min_confidence=value) for value in (
        -0.1, 1.1, float("nan"), "0.5", None, True)]
    wrong.append(lambda: Brain(path).latency_us())
    for call in wrong:
        with pytest.raises(BrainError) as error:
            call()
        assert "\n" not in str(error.value) and len(str(error.value)) < 200
    assert len(file.generate("12+30=", 9, stop=ord("\n")).encode()) <= 9 * 3


def test_threads_that_share_a_brain_get_right_answers(brain, tmp_path):
    """Each generate begins anew and waits for its turn."""
    shared = Brain(exported(brain, tmp_path / "f"))
    prompts = ["12+30=", "abc>", "1,2,3;", "a"]
    expected = {prompt: shared.generate(prompt, 20) for prompt in prompts}
    with ThreadPoolExecutor(6) as pool:
        for prompt, answer in pool.map(lambda i: (prompts[i % 4], shared.generate(
                prompts[i % 4], 20)), range(120)):
            assert answer == expected[prompt]


def test_a_brain_that_another_thread_is_using_says_so(brain, tmp_path):
    shared = Brain(exported(brain, tmp_path / "f", prefill=4))
    with ThreadPoolExecutor(1) as pool, shared._lock:
        for call in (shared.reset, lambda: shared.step(65), lambda: shared.prefill(b"abcdef")):
            with pytest.raises(BrainError, match="make one Brain for each thread"):
                pool.submit(call).result(timeout=60)
            call()
    assert shared.step(65).shape == (256,)   # nothing stays locked


@pytest.mark.parametrize("question, asked", [
    ("340 + 128", "340 + 128?"), ("what's your name \n", "what's your name?"), ("ab c", "ab c?"),
    ("12+30=", "12+30="), ("hi!", "hi!"), ("6×9=", "6*9="), ("250 − 130", "250 - 130?"),
    ("what’s a “b”", "what's a \"b\""), ("é", "é?"), ("(1+2)", "(1+2)"), (" ", " "), ("", "")])
def test_a_question_is_asked_in_taught_signs_and_closed_after_a_letter_or_digit(question, asked):
    assert plain_question(question) == asked


@pytest.mark.parametrize("tasks, closes", [
    ("{add = 1, asked = 1}", True), ("{add = 1, asked = 0}", False),
    ('{add = 1, asked = 1, "notes.txt" = 1}', False)])
def test_a_brain_and_its_file_plainly_ask_what_was_taught_in_other_words(
        tmp_path, tasks, closes):
    brain = brains.trained(brains.untrained(tmp_path, "toy", f"curriculum.tasks={tasks}", *SMALL))
    assert brain.plain_questions == closes
    for answer in (brain.answer, Brain(exported(brain, tmp_path / "f.tflite")).answer):
        asked = answer("340 + 128", 4)
        other = "340 + 128?" if closes else "340 + 128 "
        assert (asked == answer(other, 4)) == closes
    assert (Brain(tmp_path / "f.tflite").answer("340 + 128", 4, stop=255)
            != Brain(tmp_path / "f.tflite").answer("340 + 128?", 4, stop=255))
