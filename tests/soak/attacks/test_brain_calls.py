"""Exported files that others have described or changed, and a Brain that threads share."""
import asyncio
import itertools
import json
import multiprocessing
import os
import random
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from seed.export import Options
from seed.export.brain_file import BrainFile
from seed.runtime import Brain, BrainError, describe, seal
from tests.support import brains
from tests.support.brains import exported
from tests.support.damaged_models import BYTES, DAMAGES, place, rewired, with_word
from tests.support.descriptions import described
from tests.support.mutations import Mutator
from tests.support.small_run import seed
from tests.support.tflite import ROOT, SMALL, old_python

pytestmark = pytest.mark.long

VALUES = [None, True, False, -1, 0, 1, 10 ** 30, 0.5, "", "x", [], [1], {}, {"end": 1}, [[]],
          "absent"]
KINDS = {   # of exported files
    "portable": Options(), "explicit": Options(explicit_state=True, prefill=3),
    "native": Options(target="litert", prefill=4), "int8": Options(weights="int8", prefill=2),
    "native-int8": Options(target="litert", weights="int8"), "float16": Options(weights="float16")}
UNCHECKED = "import seed.runtime.brain as b; b.check_structure = lambda *_: None\n"
WORDS = ("answered", "refused")
USE = "import sys; from tests.support.mutations import main; main(*sys.argv[1:])"
PROMPTS = ["12+30=", "abc>", "who are you?", "a"]


@pytest.fixture(scope="module", params=[False, True], ids=["variables", "explicit"])
def path(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("brain")
    brain = brains.trained(brains.untrained(folder, "toy", *SMALL))
    return exported(brain, folder / "brain.tflite", explicit_state=request.param, prefill=4)


def opens_or_is_refused(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        Brain(path).generate("1+1=", 2)
    except BrainError as error:
        assert "\n" not in str(error) and len(str(error)) < 500
        return False
    return True


@pytest.mark.parametrize("change", [
    {"runtimes": "absent"}, {"prefill": "absent"}, {"vocabulary": "absent"},
    {"vocabulary": {"end": 254, "pad": -1}}, {"states": [1]}, {"explicit_state": "absent"},
    " no JSON", "[" * 900, {"runtimes": {}}, {"runtimes": ["ai-edge-litert"]}], ids=str)
def test_a_resealed_file_with_a_wrong_description(path, tmp_path, change):
    """Attack 20: resealed, no runtimes, prefill, vocabulary, pad -1, list, no JSON."""
    assert not opens_or_is_refused(tmp_path / "f.tflite", described(path.read_bytes(), change))


def test_random_descriptions_are_refused_or_run(path, tmp_path):
    """Own: 600 resealed files, each with values of a wrong kind anywhere in the description."""
    rng, data, count = random.Random(0), path.read_bytes(), 0
    keys = sorted(set(describe(data, "f")) - {"blake2b", "made_by", "profile"})
    for _ in range(600):
        change = {key: rng.choice(VALUES) for key in rng.sample(keys, rng.randint(1, 3))}
        count += opens_or_is_refused(tmp_path / "f.tflite", described(data, change))
    assert 0 < count < 600   # some keys are for people alone


def test_six_threads_that_share_a_brain(path):
    """Report 43: 360 answers of one Brain in six threads."""
    brain = Brain(path)
    expected = {prompt: brain.generate(prompt, 30) for prompt in PROMPTS}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda i: brain.generate(PROMPTS[i % 4], 30), range(360)))
    assert answers == [expected[PROMPTS[i % 4]] for i in range(360)]


def test_threads_that_step_one_brain_get_an_error_that_names_the_fix(path):
    """Report 43: steps of one Brain in six threads."""
    brain, errors = Brain(path), []

    def step(i: int) -> None:
        try:
            assert brain.step(i % 256).shape == (256,)
        except BrainError as error:
            errors.append(str(error))
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(step, range(3000)))
    assert set(errors) <= {"another thread is using this Brain: make one Brain for each thread"}


def answers_in_child(path: Path, brain: Brain | None, queue) -> None:
    brain = brain or Brain(path)
    queue.put([brain.generate(prompt, 30) for prompt in PROMPTS])


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_process_that_is_started_anew_has_a_brain_of_its_own(path, method):
    """Report 44: multiprocessing by spawn, after this process has loaded one."""
    expected = [Brain(path).generate(prompt, 30) for prompt in PROMPTS]
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    processes = [context.Process(target=answers_in_child, args=(path, None, queue))
                 for _ in range(3)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=120) for _ in processes] == [expected] * 3
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


FORK = """
import os, sys
from seed.runtime import Brain
brain = Brain(sys.argv[1])
text = brain.generate("12+30=", 30)
for _ in range(4):
    os.fork()   # 16 processes: each child continues the loop
assert brain.generate("12+30=", 30) == text
assert Brain(sys.argv[1]).generate("12+30=", 30) == text
try:
    while True:
        assert os.wait()[1] == 0
except ChildProcessError:
    os.write(1, b"right ")
"""


def test_a_brain_answers_after_a_fork(path):
    """Report 44: fork after loading: the same Brain, and a new one, in 16 processes."""
    done = subprocess.run([sys.executable, "-c", FORK, path], capture_output=True, text=True,
                          timeout=120)
    assert (done.returncode, done.stdout) == (0, "right " * 16), done.stderr


def test_thirty_brains_at_once_answer_in_turn(path):
    """Report 44: 30 brains in one process, each a byte further in turn."""
    alone, many = Brain(path), [Brain(path) for _ in range(30)]
    for byte in b"12+30=":
        logits = alone.step(byte)
        assert all((brain.step(byte) == logits).all() for brain in many)


def test_brains_of_an_event_loop(path):
    """Report 44: asyncio: a Brain for each task, in threads of the loop."""
    expected = [Brain(path).generate(prompt, 30) for prompt in PROMPTS]

    async def ask(prompt: str) -> str:
        return await asyncio.to_thread(Brain(path).generate, prompt, 30)

    async def ask_all() -> list[str]:
        return await asyncio.gather(*map(ask, PROMPTS * 5))
    assert asyncio.run(ask_all()) == expected * 5


def test_a_brain_for_each_thread(path):
    """Own: the fix that the error names."""
    expected = Brain(path).generate(PROMPTS[0], 30)
    with ThreadPoolExecutor(6) as pool:
        answers = set(pool.map(lambda _: Brain(path).generate(PROMPTS[0], 30), range(60)))
    assert answers == {expected}


def test_a_brain_handed_from_thread_to_thread(path):
    """Own: asyncio.to_thread gives each step to another thread, one after the other."""
    brain, alone = Brain(path), Brain(path)
    for byte in b"12+30=":
        with ThreadPoolExecutor(1) as pool:
            handed = pool.submit(brain.step, byte).result()
        assert (handed == alone.step(byte)).all()


def test_a_generator_that_is_left_half_way_locks_nothing(path):
    """Own: another thread uses it after `break` in a loop over generate_bytes."""
    brain = Brain(path)
    iterator = brain.generate_bytes(b"12+30=", 100)
    next(iterator)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(brain.generate, "abc>", 5).result(timeout=60) is not None


def test_the_command_refuses_what_the_class_refuses(path):
    """Own: python -m seed run with wrong options: one line and 2."""
    for options in (["--temperature=nan"], ["--temperature=-1"], ["--max-bytes=0"], ["--seed=-1"]):
        done = seed("run", str(path), "--prompt=1+1=", *options)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    done = seed("run", str(path), "--prompt=1+1=", "--json", "--temperature=1e-320")
    assert done.returncode == 0 and json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def brain(tmp_path_factory):
    return brains.trained(brains.untrained(tmp_path_factory.mktemp("brain"), "toy", *SMALL))


def used(files: Iterable[bytes], folder: Path, python: str = sys.executable) -> Counter[str]:
    """How many files answer and how many are refused, in processes with little memory."""
    counts: Counter[str] = Counter()
    iterator = iter(files)
    while batch := list(itertools.islice(iterator, 100)):
        paths = [folder / f"{i}.tflite" for i in range(len(batch))]
        for path, data in zip(paths, batch):
            path.write_bytes(data)
        done = run(python, USE, *map(str, paths))
        words = [line.split()[0] for line in done.stdout.splitlines() if line.startswith(WORDS)]
        assert done.returncode == 0 and len(words) == len(paths), (len(words), done.stderr[-900:])
        counts.update(words)
    return counts


def run(python: str, code: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([python, "-c", code, *arguments], capture_output=True, text=True,
                          timeout=600, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("kind", KINDS)
def test_resealed_mutations_answer_or_are_refused(brain, tmp_path, kind):
    """Attack 21: 600 mutations of each kind of file: bytes, words, lengths, shapes, indices."""
    mutator = Mutator(BrainFile(brain, KINDS[kind]).tobytes())
    counts = used((mutator.mutation(number) for number in range(600)), tmp_path)
    assert counts["refused"] > 200 and counts["answered"] > 20, counts


@pytest.mark.parametrize("name, number", [("SIGSEGV", signal.SIGSEGV), ("SIGABRT", signal.SIGABRT)])
def test_what_crashes_a_runtime_without_the_check(brain, tmp_path, name, number):
    """Attack 21: two mutations that ended Python, each as a recipe."""
    path, file = tmp_path / "f.tflite", BrainFile(brain, Options(target="litert", prefill=4))
    DAMAGES[name](file.model)
    path.write_bytes(file.tobytes())
    assert run(sys.executable, UNCHECKED + USE, str(path)).returncode == -number
    assert run(sys.executable, USE, str(path)).stdout.startswith("refused")


def test_mutations_in_tflite_runtime(brain, tmp_path):
    """Own: 600 mutations in the oldest runtime, which checks less."""
    mutator = Mutator(BrainFile(brain, Options(weights="int8", prefill=2)).tobytes())
    counts = used((mutator.mutation(number) for number in range(600)), tmp_path, old_python())
    assert counts["refused"] > 200 and counts["answered"] > 20, counts


def test_each_damage_with_a_real_interpreter(brain, tmp_path):
    """Own: every structural kind of damage, as a file of its own."""
    def files() -> Iterator[bytes]:
        for damage in DAMAGES.values():
            file = BrainFile(brain, Options())
            damage(file.model)
            yield file.tobytes()
        for damaged in BYTES.values():
            yield seal(with_word(BrainFile(brain, Options()).tobytes(), *damaged))
    assert used(files(), tmp_path) == {"refused": len(DAMAGES) + len(BYTES)}


@pytest.mark.parametrize("kind", KINDS)
def test_rewired_graphs_answer(brain, tmp_path, kind):
    """Own: 100 files whose operators read other tensors of the same shape: valid, and nonsense."""
    def files() -> Iterator[bytes]:
        for number in range(100):
            file = BrainFile(brain, KINDS[kind])
            rewired(file.model, number)
            yield file.tobytes()
    assert used(files(), tmp_path)["answered"] > 20   # the rest: no finite logits


@pytest.mark.parametrize("value", [0xFF, 0x00, 0x7F], ids=hex)
def test_weights_of_one_byte(brain, tmp_path, value):
    """Own: all weights are NaN, zero or huge: an answer, or an error that names the file."""
    for options in KINDS.values():
        data = bytearray(BrainFile(brain, options).tobytes())
        for start, size in Mutator(bytes(data)).places:
            if size >= 1024 and not data[start:].startswith(b"{"):
                data[start:start + size] = bytes([value]) * size
        assert sum(used([seal(bytes(data))], tmp_path).values()) == 1


def test_parts_of_two_files(brain, tmp_path):
    """Own: the structure of one file with the buffers of another, and the other way round."""
    a, b = (BrainFile(brain, Options(**options)).tobytes() for options in ({}, {"prefill": 2}))
    cuts = [random.Random(i).randrange(8, min(len(a), len(b))) for i in range(100)]
    files = [one[:cut] + two[cut:] for cut in cuts for one, two in ((a, b), (b, a))]
    used((seal(data) for data in files if b'{"blake2b":"' in data), tmp_path)


def test_a_description_of_another_file(brain, tmp_path):
    """Own: a file whose description is that of each other kind."""
    def files() -> Iterator[bytes]:
        for options, other in itertools.permutations(KINDS.values(), 2):
            file = BrainFile(brain, options)
            file.description = BrainFile(brain, other).description
            yield file.tobytes()
    assert used(files(), tmp_path)["refused"] >= 20   # the type of weights is for people alone


def test_a_deep_and_wide_sharing_of_tables(brain, tmp_path):
    """Own: 50,000 operators are one table, and all tensors another: no time, no memory."""
    data = BrainFile(brain, Options()).tobytes()
    for path in ("s2 i0 s3", "s2 i0 s0", "s2", "s7", "s4"):
        start = place(data, path)
        start += struct.unpack_from("<I", data, start)[0]
        count = struct.unpack_from("<I", data, start)[0]
        first = start + 4 + struct.unpack_from("<I", data, start + 4)[0]
        shared = b"".join(struct.pack("<I", first - start - 4 - 4 * i) for i in range(count))
        changed = data[:start + 4] + shared + data[start + 4 + 4 * count:]
        assert used([seal(changed)], tmp_path)["refused"] == 1, path
