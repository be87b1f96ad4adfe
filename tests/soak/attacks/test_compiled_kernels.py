"""Compiled kernels: what a run directory brings is never run, and what a worn card has changed is
compiled again."""
import os
import pickle
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seed.storage import RunDir
from seed.wavecore.kernel_cache import DIGEST_BYTES, _digest
from tests.support.attack_run import seed, train, works

pytestmark = pytest.mark.long
TRIALS = 20

PLAIN_TINYGRAD = """
from tinygrad import Tensor
print((Tensor([1.0, 2.0]).contiguous() * 3).sum().item())
"""


class Poison:
    """Leaves a mark when it is unpickled, and is then the value that was there."""

    def __init__(self, mark: Path, value: object):
        self.text = f"(open({str(mark)!r}, 'a').write('ran'), {value!r})[1]"

    def __reduce__(self) -> tuple:
        return eval, (self.text,)


def poison(database: Path, mark: Path) -> None:
    connection = sqlite3.connect(database)
    tables = connection.execute("select name from sqlite_master where type='table'").fetchall()
    for table, in tables:
        for row, value in connection.execute(f'select rowid, val from "{table}"').fetchall():
            connection.execute(f'update "{table}" set val=? where rowid=?',
                               (pickle.dumps(Poison(mark, pickle.loads(value))), row))
    connection.commit()
    connection.close()


def test_a_kernel_cache_in_a_run_directory_is_not_opened(base, tmp_path, rule):
    """Attack 1: tinygrad's cache, full of pickles that run code, wherever it would be read."""
    run_dir, mark = tmp_path / "run", tmp_path / "mark"
    shutil.copytree(base, run_dir)
    database = run_dir / "kernels.0.14.db"
    env = {**os.environ, "CACHEDB": str(database), "CACHELEVEL": "2"}
    for is_poisoned in (False, True):   # tinygrad by itself runs it
        done = subprocess.run([sys.executable, "-c", PLAIN_TINYGRAD], env=env, capture_output=True)
        assert works(done) and mark.exists() == is_poisoned
        if not is_poisoned:
            poison(database, mark)
    mark.unlink()
    (tmp_path / "cache/tinygrad").mkdir(parents=True)
    shutil.copy(database, tmp_path / "cache/tinygrad/cache.db")
    shutil.copytree(Path(os.environ["XDG_CACHE_HOME"]) / "seed-brain",
                    tmp_path / "cache/seed-brain", ignore=shutil.ignore_patterns("crash-*"))
    env["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    whole = database.read_bytes()
    for words in (["generate", "--prompt=x"], ["eval", "--items=1"], ["train", "--steps=22"],
                  ["export", "--no-verify"],
                  ["adapt", f"--data={rule}", "--steps=1", "--min-gain=0", "--max-loss=100"],
                  ["grow", "--to=toy"]):
        assert works(seed(*words, f"--run-dir={run_dir}", env=env))
        assert not mark.exists() and database.read_bytes() == whole


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> tuple[Path, bytes]:
    """A cache that has the kernels of one training alone, and the checkpoint of that training."""
    folder = tmp_path_factory.mktemp("compiled")
    assert works(train(folder / "run", env=with_cache(folder / "cache")))
    return folder / "cache", RunDir(folder / "run").checkpoint.read_bytes()


def with_cache(folder: Path) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(folder)}


def objects(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "seed-brain/kernels").iterdir()
                  if len(path.name) == 40)


def code_places(data: bytes) -> list[int]:
    """Where the machine code and the constants of an object are."""
    elf = data[DIGEST_BYTES:]
    table, = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3a)
    sections = [struct.unpack_from("<IIQQQQ", elf, table + i * size) for i in range(count)]
    places: list[int] = []
    for name, kind, _, _, offset, length in sections:
        text = elf[sections[names][4] + name:].split(b"\0")[0]
        if kind == 1 and text.startswith((b".text", b".rodata")):
            places += range(DIGEST_BYTES + offset, DIGEST_BYTES + offset + length)
    return places


@pytest.mark.parametrize("places_fn", [lambda data: range(len(data)), code_places],
                         ids=["anywhere", "in the code"])
def test_a_flipped_bit_changes_no_weight(compiled, tmp_path, places_fn: Callable):
    """Attacks 101, 102: 20 times one bit, of an object or of its machine code."""
    dice = random.Random(places_fn is code_places)
    shutil.copytree(compiled[0], tmp_path / "cache")
    for trial in range(TRIALS):
        path = dice.choice(objects(tmp_path / "cache"))
        data = bytearray(path.read_bytes())
        data[dice.choice(places_fn(data))] ^= 1 << dice.randrange(8)
        path.write_bytes(data)
        assert works(train(tmp_path / f"run{trial}", env=with_cache(tmp_path / "cache")))
        assert RunDir(tmp_path / f"run{trial}").checkpoint.read_bytes() == compiled[1]
        assert path.read_bytes() != data   # compiled again


def test_objects_that_are_all_damaged_are_all_compiled_again(compiled, tmp_path):
    """Own: zeros in each object, as after a power cut; and each cut in half."""
    shutil.copytree(compiled[0], tmp_path / "cache")
    for i, path in enumerate(objects(tmp_path / "cache")):
        data = path.read_bytes()
        path.write_bytes(bytes(len(data)) if i % 2 else data[:len(data) // 2])
    assert works(train(tmp_path / "run", env=with_cache(tmp_path / "cache")))
    assert RunDir(tmp_path / "run").checkpoint.read_bytes() == compiled[1]


def test_code_that_crashes_is_not_run_again(compiled, tmp_path):
    """Attack 102: an object that is whole and crashes does so once, and not at each start."""
    shutil.copytree(compiled[0], tmp_path / "cache")
    for path in objects(tmp_path / "cache"):
        data = bytearray(path.read_bytes())
        for place in code_places(data)[:16]:
            data[place] = 0x06   # no instruction of x86-64
        code = bytes(data[DIGEST_BYTES:])
        path.write_bytes(_digest(path.name, code) + code)
    done = train(tmp_path / "run", env=with_cache(tmp_path / "cache"))
    assert done.returncode in (-signal.SIGILL, -signal.SIGSEGV, -signal.SIGBUS)
    done = train(tmp_path / "run", env=with_cache(tmp_path / "cache"))
    assert works(done) and b"the last process crashed" in done.stderr
    assert RunDir(tmp_path / "run").checkpoint.read_bytes() == compiled[1]


@pytest.mark.parametrize("how", ["anybody may write", "a file", "a link", "read-only"])
def test_a_cache_that_cannot_be_used_is_said_and_changes_no_weight(compiled, tmp_path, how):
    """Own: the folder of the kernels is open to others, no folder, a link, or not writable."""
    shutil.copytree(compiled[0], tmp_path / "cache")
    folder = tmp_path / "cache/seed-brain/kernels"
    if how == "anybody may write":
        folder.chmod(0o777)
    elif how == "read-only":
        folder.chmod(0o500)
    else:
        folder.rename(tmp_path / "elsewhere")
        folder.touch() if how == "a file" else folder.symlink_to(tmp_path / "elsewhere")
    done = train(tmp_path / "run", env=with_cache(tmp_path / "cache"))
    assert works(done) and (b"compiled kernels are not kept" in done.stderr) == (how != "read-only")
    assert RunDir(tmp_path / "run").checkpoint.read_bytes() == compiled[1]


def test_two_trainings_that_fill_one_cache_at_once(tmp_path, compiled):
    """Own: both compile and write the same objects."""
    command = [sys.executable, "-c", "import sys; from tests.support.attack_run import train; "
               "sys.exit(train(sys.argv[1]).returncode)"]
    started = [subprocess.Popen([*command, str(tmp_path / name)], cwd=Path(__file__).parents[3],
                                env=with_cache(tmp_path / "cache")) for name in "ab"]
    assert [process.wait(timeout=300) for process in started] == [0, 0]
    for name in "ab":
        assert RunDir(tmp_path / name).checkpoint.read_bytes() == compiled[1]
