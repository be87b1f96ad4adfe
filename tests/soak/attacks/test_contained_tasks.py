"""Classes and corpora of users that do harm, in trainings that are processes of their own."""
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seed.storage import RunDir, checkpoint
from tests.support.attack_run import PEAK_MB
from tests.support.hostile_tasks import (
    DOUBLE_FORK, FLOOD, KILL_IN_NAMESPACE, PRINT_OFTEN, SET_OF_TEXTS, after, hostile)
from tests.support.processes import descendants
from tests.support.small_run import wait_until
from tests.support.tiny_run import WAIT_S, start_tiny, tiny_command, wait_for_step

pytestmark = pytest.mark.long

UNSAVED = ("--set=train.save_every_minutes=60", "--set=curriculum.tasks={copy=1.0}")
SLEEPS = DOUBLE_FORK.format(work="pass")


def train(folder: Path, name: str, steps: int = 20, cwd: Path | None = None,
          **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(tiny_command(folder / "run", *UNSAVED, f"--task={name}", steps=steps),
                          capture_output=True, text=True, timeout=WAIT_S, cwd=cwd,
                          env={**os.environ, **environment})


def saved_step(folder: Path) -> int:
    return checkpoint.read(RunDir(folder / "run").checkpoint).meta["step"]


def weights(folder: Path) -> dict[str, bytes]:
    tensors = checkpoint.read(RunDir(folder / "run").checkpoint).tensors
    return {name: array.tobytes() for name, array in tensors.items()}


def assert_named(done: subprocess.CompletedProcess, text: str, code: int = 2) -> None:
    assert done.returncode == code and re.search(text, done.stderr), done.stderr[-2000:]
    assert "Traceback" not in done.stderr and len(done.stderr) < 200_000


def corpus(path: Path, n: int = 200, prompt: str = "say {}:") -> Path:
    path.write_text("".join(json.dumps({"prompt": prompt.format(i), "answer": f"{i % 7}"}) + "\n"
                            for i in range(n)))
    return path


def test_a_set_of_texts(tmp_path):
    """Attack 79: the same command twice gives the same bits, whatever the hash seed."""
    for folder, seed in (("a", "1"), ("b", "2")):
        (tmp_path / folder).mkdir()
        done = train(tmp_path / folder, hostile(tmp_path, generate=SET_OF_TEXTS),
                     PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_a_counter(tmp_path):
    """Attack 80: a class with a counter is refused by name before the first step."""
    done = train(tmp_path, hostile(tmp_path, generate="T.n = n = getattr(T, 'n', 0) + 7"))
    assert_named(done, "hostile.py:T: generate or verify .* gives another result")


def test_a_flood_of_replies(tmp_path):
    """Attack 83: 3 GB on the socket are named, and the steps so far are saved."""
    done = train(tmp_path, hostile(tmp_path, generate=after(
        400, f"[{FLOOD} for _ in range(3000)]")), 3000)
    assert_named(done, "hostile.py:T: the reply to .* is damaged")
    assert saved_step(tmp_path) > 0


def test_levels_of_300_mb(tmp_path):
    """Attack 84: one short line."""
    name = hostile(tmp_path)
    path = Path(name[:-2])
    path.write_text(path.read_text().replace("levels = 1", "levels = 'x' * 300_000_000"))
    done = train(tmp_path, name)
    assert_named(done, "levels is 'xxx.*: give a number from 1")
    assert len(done.stderr) < 2000


def test_gigabytes_of_output(tmp_path):
    """Attack 85: 20 MB of print() in each call are dropped, and this is said."""
    done = train(tmp_path, hostile(tmp_path, generate=f"if n % 3 == 0: {PRINT_OFTEN}"), 5)
    assert done.returncode == 0 and "the rest is dropped" in done.stderr
    assert len(done.stderr) < 200_000


@pytest.mark.parametrize("top", [
    "import subprocess; subprocess.Popen(['sleep', '987'])", SLEEPS,
    "for _ in range(60):\n    if os.fork() == 0:\n        time.sleep(987)"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_of_a_class(tmp_path, top, number):
    """Attack 86: nothing is left when the run ends, also when the trainer is killed."""
    process = start_tiny(tmp_path / "run", *UNSAVED, f"--task={hostile(tmp_path, top)}",
                         steps=10 ** 6)
    wait_for_step(tmp_path / "run", 5, process)
    pids = descendants(process.pid)
    process.send_signal(number)
    process.communicate(timeout=WAIT_S)
    wait_until(lambda: not pids & descendants(1), None, 30)


def worker_of(pid: int) -> int:
    for child in descendants(pid):
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if len(words) > 2 and words[2].endswith(b"user_class_worker.py"):
            return int(child)
    raise AssertionError("no worker")


def test_a_worker_killed_as_by_the_kernel(tmp_path):
    """Attack 89: exit code 75, saved; the same command resumes."""
    name = hostile(tmp_path)
    process = start_tiny(tmp_path / "run", *UNSAVED, f"--task={name}", steps=10 ** 6)
    wait_for_step(tmp_path / "run", 12, process)
    os.kill(worker_of(process.pid), signal.SIGKILL)
    stderr = process.communicate(timeout=WAIT_S)[1]
    assert process.returncode == 75 and "was killed during" in stderr, stderr
    step = saved_step(tmp_path)
    assert step >= 12
    done = train(tmp_path, name, step + 5)
    assert done.returncode == 0 and f"from step {step}" in done.stderr, done.stderr


def test_a_slow_class_and_sigterm(tmp_path):
    """Attack 70: a class that takes 3 s a call does not hold SIGTERM up; all steps are saved."""
    process = start_tiny(tmp_path / "run", *UNSAVED, steps=10 ** 6, *[
        f"--task={hostile(tmp_path, generate=after(400, 'time.sleep(3)'))}"])
    wait_for_step(tmp_path / "run", 5, process)
    time.sleep(6)
    start_s = time.monotonic()
    process.terminate()
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 0 and time.monotonic() < start_s + 10
    assert saved_step(tmp_path) >= 5


HARM = {
    "Attack 91: SIGSTOP": ("os.kill(os.getpid(), 19)", "takes longer than 5 s"),
    "Attack 93: closed files": ("os.closerange(0, 99)", "process exited during|Bad file"),
    "Attack 93: escapes": ("raise KeyError('\\x1b[31m')", r"raises KeyError: .*\\x1b\[31m"),
    "Own: endless recursion of repr": (
        "class R:\n            __repr__ = lambda s: repr(s)\n        return R(), R()",
        "prompt is R"),
    "Own: a crash in C": ("import ctypes; ctypes.string_at(0)", "exited during .* by signal 11"),
    "Own: a reply with another id": (
        "os.write(int(sys.argv[1]), b'\\0\\0\\0\\x16{\"id\":1,\"value\":[1,2]}')", "is damaged"),
    "Own: deep JSON": ("os.write(int(sys.argv[1]), b'\\0\\0\\x4e\\x20' + b'[' * 20000)",
                       "is damaged"),
    "Own: a text of many megabytes": ("return 'q' * 10 ** 8, 'a'", "prompt has 100000000 bytes"),
    "Own: no memory for itself": (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1, 1)); 'x' * 10 ** 8",
        "MemoryError|exited during")}


@pytest.mark.parametrize("how", HARM)
def test_a_class_that_harms_itself_is_named_and_the_run_is_saved(tmp_path, how):
    """Attack 91, Attack 93, and Own: after 400 good calls."""
    harm, text = HARM[how]
    harm = f"\n        if getattr(T, 'n', 0) > 400:\n            {harm}".replace(
        "\n        return R", "\n            return R").replace("            __repr", "    " * 4 +
                                                                "__repr")
    done = train(tmp_path, hostile(tmp_path, generate=after(0, "0") + harm), 3000)
    assert_named(done, text)
    assert "\x1b" not in done.stderr and saved_step(tmp_path) > 0


@pytest.mark.parametrize("target", ["os.getppid()", "-1"])
def test_a_class_that_kills(tmp_path, target):
    """Attack 92: its parent or, Own: all that it can reach; the run is saved and resumable."""
    name = hostile(tmp_path, generate=after(400, KILL_IN_NAMESPACE.format(target)))
    done = train(tmp_path, name, 100)
    assert done.returncode in (0, 2, 75) and "Traceback" not in done.stderr, done.stderr
    assert saved_step(tmp_path) > 0


def test_no_pickle_between_the_processes():
    """Attack 94: frames of JSON alone."""
    folder = Path(sys.modules["seed"].__file__).parent / "curriculum"
    for path in folder.glob("user_*.py"):
        assert not re.search(r"pickle|marshal|eval\(|multiprocessing", path.read_text())


def test_a_sparse_file(tmp_path):
    """Attack 51: 700 MB without a line end are refused in little memory."""
    with open(tmp_path / "notes.txt", "wb") as file:
        file.truncate(700 * 2 ** 20)
    code = (f"from seed.curriculum.user_tasks import load\n"
            f"try: load({str(tmp_path / 'notes.txt')!r})\n"
            f"except Exception as error: print(error)\n"
            f"print({PEAK_MB})")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    message, peak_mb = done.stdout.splitlines()
    assert "line 1 has more than" in message and int(peak_mb) < 150


def test_another_folder(tmp_path):
    """Report 35: the name holds from everywhere, and a moved file continues with the same bits."""
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    data = corpus(tmp_path / "a/said.jsonl")
    assert train(tmp_path / "a", "said.jsonl", 4, tmp_path / "a").returncode == 0
    done = train(tmp_path / "a", "../a/said.jsonl", 8, tmp_path / "b")
    assert done.returncode == 0 and "from step 4" in done.stderr, done.stderr
    assert train(tmp_path / "b", str(data), 4).returncode == 0
    moved = data.rename(tmp_path / "c/said.jsonl")
    done = train(tmp_path / "b", str(moved), 8)
    assert done.returncode == 0 and "is now read from" in done.stderr, done.stderr
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    for command in ("eval", "export"):
        options = [command, f"--run-dir={tmp_path / 'b/run'}", "--threads=1"]
        for task in ([], [f"--task={moved}"]):
            done = subprocess.run([sys.executable, "-m", "seed", *options, *task], cwd=tmp_path,
                                  capture_output=True, text=True, timeout=WAIT_S)
            assert done.returncode == 0, done.stderr
            assert ("left out" in done.stderr) is not bool(task)


def test_other_contents_are_not_taken_for_a_moved_file(tmp_path):
    """Own: a file of the same name and other contents, while the first is there."""
    (tmp_path / "b").mkdir()
    assert train(tmp_path, str(corpus(tmp_path / "said.jsonl")), 2).returncode == 0
    assert_named(train(tmp_path, str(corpus(tmp_path / "b/said.jsonl", 99)), 4),
                 "but this run began with")


def test_lines_that_do_not_fit(tmp_path):
    """Report 36: counted, with the length that is needed."""
    path = corpus(tmp_path / "said.jsonl")
    path.write_text(path.read_text() + corpus(
        tmp_path / "long.jsonl", 200, "{} " + "x" * 300 + ":").read_text())
    done = train(tmp_path, str(path), 2)
    assert re.search(r"200 of 400 lines are not trained on: .*train.seq_len=3\d\d", done.stderr)


@pytest.mark.parametrize("name, text", [
    ("said.csv", ".jsonl"), ("said.json", ".jsonl"), ("said.jsonl.gz", "unpack it"),
    ("notes.md", "rename it")])
def test_wrong_kinds(tmp_path, name, text):
    """Report 37: the kinds of files are named."""
    (tmp_path / name).write_bytes(gzip.compress(b"x"))
    assert_named(train(tmp_path, str(tmp_path / name)), f"is no file of a task: .*{text}.*use item")


@pytest.mark.parametrize("name", ["SAID.JSONL", "a=b/said.jsonl", "a=2/said.jsonl=3", "=.jsonl"])
def test_unusual_names(tmp_path, name):
    """Report 37: upper case, and folders with `=`."""
    path = tmp_path / name.removesuffix("=3")
    path.parent.mkdir(exist_ok=True)
    corpus(path)
    assert train(tmp_path, str(tmp_path / name), 2).returncode == 0


@pytest.mark.parametrize("name", ["\x1b]0;x\x07.jsonl", "a\nb.jsonl", "two<b>.jsonl"])
def test_names_with_controls(tmp_path, name):
    """Own: escapes in a file's name never reach the terminal; Report 59: nor the page as HTML."""
    done = train(tmp_path, str(corpus(tmp_path / name)), 2)
    assert not set("\x1b\x07") & set(done.stdout + done.stderr) and done.returncode == 0
    page = tmp_path / "r.html"
    done = subprocess.run([sys.executable, "-m", "seed", "eval", f"--run-dir={tmp_path / 'run'}",
                           "--threads=1", f"--task={tmp_path / name}", f"--html={page}"],
                          capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0 and "two<b>" not in page.read_text(), done.stderr
    assert not set("\x1b\x07") & set(done.stdout + done.stderr)


def test_a_page_into_no_folder(tmp_path):
    """Report 39: looked at before the evaluation."""
    done = subprocess.run(tiny_command(tmp_path / "run", steps=2), capture_output=True)
    assert done.returncode == 0
    start_s = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "seed", "eval", f"--run-dir={tmp_path / 'run'}",
                           "--threads=1", f"--html={tmp_path}/nodir/r.html"],
                          capture_output=True, text=True, timeout=WAIT_S)
    assert_named(done, "nodir")
    assert not done.stdout and time.monotonic() < start_s + 5


@pytest.mark.parametrize("data, ok", [
    ("\r\n", True), ("\r", True), ("bom", True), ("utf-16", False), ("latin-1", False),
    ("nan", False), ("twice", True), ("torn", False), ("extra", True)])
def test_contents(tmp_path, data, ok):
    """Report 50: read, or one line with the place."""
    path = corpus(tmp_path / "said.jsonl")
    lines = path.read_text().splitlines()
    text = {"nan": "\n".join([*lines, "NaN"]), "twice": "\n".join(lines * 2),
            "torn": "\n".join(lines)[:-5], "extra": "\n".join(
                line[:-1] + ', "more": [1]}' for line in lines),
            "latin-1": "\n".join([*lines, '{"prompt": "\u00e4", "answer": "b"}'])}.get(
                data, (data if data in "\r\n" else "\n").join(lines))
    path.write_bytes(text.encode({"bom": "utf-8-sig", "utf-16": "utf-16", "latin-1": "latin-1"}.get(
        data, "utf-8")))
    done = train(tmp_path, str(path), 2)
    assert (done.returncode == 0) == ok, done.stderr
    if not ok:
        assert_named(done, "said.jsonl line \\d+")


def test_a_large_corpus_is_in_the_estimate(tmp_path):
    """Report 53: the estimate grows by what lines with answers of their own take, within a quarter.
    Where answers recur it is more than they take."""
    path = tmp_path / "said.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"what is {i} plus {i}?", "answer": str(2 * i)})
                            + "\n" for i in range(400_000)))
    code = (f"from seed.curriculum.user_tasks import load\nfrom seed.system_health import tree_mb\n"
            f"start = tree_mb()[1].value\ntask = load({str(path)!r})\n"
            f"print(tree_mb()[1].value - start)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    from seed.profile_file import load_profile
    from seed.training.memory_estimate import estimate_mb
    estimate = estimate_mb(load_profile("toy", (), [str(path)]), 1)["user tasks"]
    assert 0.8 < estimate / float(done.stdout) < 1.25


def test_signals_to_the_whole_service(tmp_path):
    """Own: systemd sends SIGTERM to every process; the run saves, its worker does not die first."""
    process = start_tiny(tmp_path / "run", *UNSAVED, f"--task={hostile(tmp_path)}", steps=10 ** 6)
    wait_for_step(tmp_path / "run", 5, process)
    for pid in [*map(int, descendants(process.pid)), process.pid]:
        os.kill(pid, signal.SIGTERM)
    stderr = process.communicate(timeout=WAIT_S)[1]
    assert process.returncode == 0 and "stopped at step" in stderr, stderr
    assert saved_step(tmp_path) >= 5
