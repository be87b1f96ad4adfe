"""Flipped bits in the kernel cache, the exported file and the checkpoint, a third of 10,000 each.

None may give other bits, crash or pass in silence. Every flip is tried in this process, by the
function through which all commands read such a file; some more by real commands. A quarter each
falls anywhere, on the first bytes, on bytes that carry nothing (zeros and blanks of padding), and
on the digest or its neighbourhood.
"""
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seed.errors import CheckpointError
from seed.runtime import Brain, BrainError
from seed.storage import RunDir, checkpoint
from seed.wavecore import kernel_cache
from tests.support.attack_run import is_refused, seed, train, works

pytestmark = pytest.mark.long
FLIPS = 3334
FIRST_BYTES = 64
DIGEST = b"blake2b"
EXPORTS = {"portable": [], "int8": ["--int8", "--target=litert", "--prefill=16"],
           "float16": ["--float16", "--explicit-state"]}


def flips(data: bytes, n: int, seed: int) -> Iterator[tuple[int, int]]:
    """(byte, mask of its bit), the same for the same seed."""
    dice, digest = random.Random(seed), max(0, data.find(DIGEST))
    places = [range(len(data)), range(FIRST_BYTES),
              [at for at, byte in enumerate(data) if byte in b"\0 "] or range(len(data)),
              range(digest, min(len(data), digest + FIRST_BYTES))]
    for i in range(n):
        yield dice.choice(places[i % len(places)]), 1 << dice.randrange(8)


@contextmanager
def flipped(path: Path, at: int, mask: int) -> Iterator[None]:
    """The file with one other bit."""
    with open(path, "r+b", buffering=0) as file:
        byte = os.pread(file.fileno(), 1, at)
        os.pwrite(file.fileno(), bytes([byte[0] ^ mask]), at)
        try:
            yield
        finally:
            os.pwrite(file.fileno(), byte, at)


def flip(path: Path, at: int, mask: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= mask
    path.write_bytes(data)


def count_held(path: Path, n: int, seed: int, is_held_fn: Callable[[], object]) -> int:
    """How many of the flips are refused; the file is whole before and after."""
    whole = path.read_bytes()
    held = 0
    for at, mask in flips(whole, n, seed):
        with flipped(path, at, mask):
            assert is_held_fn(), f"{path.name}: byte {at}, mask {mask}: not refused"
        held += 1
    assert path.read_bytes() == whole
    return held


@pytest.fixture
def tell(capsys):
    """Prints how many flips were tried and held."""
    def tell(what: str, held: int) -> None:
        with capsys.disabled():
            print(f"\n{what}: {held} flips tried, {held} held")
    return tell


def is_one_line(error: Exception, path: Path) -> bool:
    """Whether it names the file in a line for a person."""
    text = str(error)
    return str(path) in text and text.isprintable() and len(text) < 1000


# The kernel cache

@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> tuple[Path, Path]:
    """A cache that one training has filled, and its run directory at step 20."""
    folder = tmp_path_factory.mktemp("compiled")
    assert works(train(folder / "run", steps=20,
                       env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}))
    return folder / "cache", folder / "run"


def objects(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "seed-brain/kernels").iterdir()
                  if len(path.name) == 40)


def test_no_flipped_object_of_the_kernel_cache_is_used(compiled, tmp_path, monkeypatch, tell):
    """Own: 3,334 flips in the real objects of a training; each is as if it were not there."""
    cache = shutil.copytree(compiled[0], tmp_path / "cache")
    monkeypatch.setattr(kernel_cache, "_name", lambda key: key)   # a file's name stands for its key
    kernels, held = kernel_cache.KernelCache(cache / "seed-brain/kernels"), 0
    try:
        paths = objects(cache)
        shares = [FLIPS // len(paths) + (i < FLIPS % len(paths)) for i in range(len(paths))]
        for i, (path, n) in enumerate(zip(paths, shares)):
            assert kernels.get(path.name) == path.read_bytes()[kernel_cache.DIGEST_BYTES:]
            held += count_held(path, n, i, lambda: kernels.get(path.name) is None)
            assert kernels.get(path.name) is not None
    finally:
        kernels.close()
    assert held == FLIPS
    tell(f"kernel cache, {len(paths)} objects", held)


@pytest.mark.parametrize("number", range(36))
def test_a_training_compiles_flipped_kernels_again_to_the_same_bits(compiled, tmp_path, number):
    """Own: three flips for each real training; the objects are whole again afterwards."""
    cache, dice = shutil.copytree(compiled[0], tmp_path / "cache"), random.Random(number)
    whole = {path: path.read_bytes() for path in dice.sample(objects(cache), 3)}
    for path, data in whole.items():
        flip(path, *next(flips(data, 1, number)))
    done = train(tmp_path / "run", steps=20, env={**os.environ, "XDG_CACHE_HOME": str(cache)})
    assert works(done)
    assert (RunDir(tmp_path / "run").checkpoint.read_bytes()
            == RunDir(compiled[1]).checkpoint.read_bytes())
    for path, data in whole.items():
        assert path.read_bytes() == data


# The checkpoint

@pytest.fixture(scope="module")
def two_generations(base, tmp_path_factory) -> RunDir:
    """At step 22; the previous one is at step 20."""
    folder = shutil.copytree(base, tmp_path_factory.mktemp("generations") / "run")
    RunDir(folder).previous_checkpoint.unlink(missing_ok=True)
    assert works(train(folder, steps=22))
    assert checkpoint.read(RunDir(folder).previous_checkpoint).meta["step"] == 20
    return RunDir(folder)


def test_no_flipped_checkpoint_is_loaded(two_generations, tmp_path, tell):
    """Own: 3,334 flips; each is refused in one line, and the previous generation is used."""
    run_dir = RunDir(shutil.copytree(two_generations.path, tmp_path / "run"))
    alone = RunDir(shutil.copytree(two_generations.path, tmp_path / "alone"))
    alone.previous_checkpoint.unlink()
    os.link(run_dir.checkpoint, tmp_path / "link")
    os.replace(tmp_path / "link", alone.checkpoint)   # the same file
    previous = checkpoint.read(run_dir.previous_checkpoint)

    def is_held() -> bool:
        lines: list[str] = []
        newest = run_dir.load_newest(lines.append)
        assert newest and newest.sha256 == previous.sha256 and newest.meta["step"] == 20
        assert len(lines) == 1 and lines[0].endswith("; using checkpoint.previous.safetensors")
        try:
            alone.load_newest(lines.append)
        except CheckpointError as error:
            return is_one_line(error, alone.checkpoint) and len(lines) == 1
        return False
    held = count_held(run_dir.checkpoint, FLIPS, 1, is_held)
    newest = run_dir.load_newest(print)
    assert newest and newest.meta["step"] == 22
    tell("checkpoint", held)


@pytest.fixture(scope="module")
def continued(base, tmp_path_factory) -> bytes:
    """The checkpoint at step 24 of the brain at step 20."""
    folder = shutil.copytree(base, tmp_path_factory.mktemp("continued") / "run")
    assert works(train(folder, steps=24))
    return RunDir(folder).checkpoint.read_bytes()


@pytest.mark.parametrize("number", range(24))
def test_a_training_goes_back_to_the_generation_before_and_says_so(two_generations, continued,
                                                                   tmp_path, number):
    """Own: a real training whose newest generation has a flipped bit ends with the same bits."""
    run_dir = RunDir(shutil.copytree(two_generations.path, tmp_path / "run"))
    flip(run_dir.checkpoint, *list(flips(run_dir.checkpoint.read_bytes(), 24, 2))[number])
    damaged = run_dir.checkpoint.read_bytes()
    done = train(run_dir.path, steps=24)
    assert works(done) and b"the damaged file is now checkpoint.damaged" in done.stderr
    assert run_dir.checkpoint.read_bytes() == continued
    assert run_dir.damaged_checkpoint.read_bytes() == damaged


@pytest.mark.parametrize("words", [
    ["train", "--steps=30"], ["generate", "--prompt=x"], ["eval", "--items=1"],
    ["export", "--no-verify"], ["adapt", "--data={rule}", "--steps=1"], ["grow", "--to=toy"],
    ["shrink", "--out={out}", "--profile=fast", "--steps=1"], ["adapt", "--undo"]],
    ids=lambda words: " ".join(words[:2]))
def test_every_command_refuses_a_flipped_checkpoint(two_generations, tmp_path, rule, words):
    """Own: four flips for each command; no other generation is left, and the file stays."""
    run_dir = RunDir(shutil.copytree(two_generations.path, tmp_path / "run"))
    run_dir.previous_checkpoint.unlink()
    if "--undo" in words:   # reads another file of the same form
        run_dir.checkpoint.rename(run_dir.checkpoint_before_adaptation)
    path = run_dir.checkpoint_before_adaptation if "--undo" in words else run_dir.checkpoint
    whole = path.read_bytes()
    for at, mask in flips(whole, 4, 3):
        with flipped(path, at, mask):
            done = seed(*(word.format(rule=rule, out=tmp_path / "out") for word in words),
                        f"--run-dir={run_dir}")
            assert is_refused(done, path.name)
    assert path.read_bytes() == whole


# The exported file

@pytest.fixture(scope="module")
def exported(base, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    for name, options in EXPORTS.items():
        assert works(seed("export", f"--run-dir={base}", f"--out={folder / name}.tflite",
                          "--no-verify", *options))
    return {name: folder / f"{name}.tflite" for name in EXPORTS}


def test_no_flipped_exported_file_reaches_an_interpreter(exported, monkeypatch, tell):
    """Own: 3,334 flips in files of three kinds; each is a BrainError in one line."""
    for path in exported.values():
        Brain(path)
    monkeypatch.setattr("seed.runtime.brain.find_interpreter", lambda: pytest.fail("it was used"))
    held = 0
    for i, path in enumerate(exported.values()):
        def is_held(path: Path = path) -> bool:
            try:
                Brain(path)
            except BrainError as error:
                return is_one_line(error, path)
            return False
        held += count_held(path, FLIPS // 3 + (i < FLIPS % 3), 4 + i, is_held)
    assert held == FLIPS
    tell("exported file", held)


@pytest.mark.parametrize("name", EXPORTS)
def test_run_refuses_a_flipped_file(exported, tmp_path, name):
    """Own: eight flips for each kind of file by the real command."""
    path = shutil.copy(exported[name], tmp_path / "brain.tflite")
    assert works(seed("run", path, "--prompt=1+1="))
    for at, mask in flips(path.read_bytes(), 8, 5):
        with flipped(path, at, mask):
            assert is_refused(seed("run", path, "--prompt=1+1="), "brain.tflite")
