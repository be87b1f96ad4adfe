"""User tasks: a valid one trains like any other, an invalid one is named and the run survives."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from seed.errors import ConfigError, UserTaskError
from seed.curriculum.dataset import Dataset
from seed.curriculum.task import is_holdout
from seed.curriculum.user_tasks import load
from seed.profile_file import load_profile
from seed.rng import Stream, dice
from seed.storage import RunDir
from seed.storage import checkpoint
from tests.support.processes import descendants
from tests.support.small_run import wait_until
from tests.support.tiny_run import tiny_command

COLOURS = """
class Colours:
    levels = 2
    def chance(self, level):
        return 0.5
    def generate(self, rng, level):
        number = int(rng.random() * 1000 * level)
        return f"colour {number}@", "red" if number % 2 else "blue"
    def verify(self, prompt, answer):
        number = int(prompt.split()[1][:-1])
        return answer == ("red" if number % 2 else "blue")
"""


def written(folder: Path, text: str = COLOURS) -> str:
    path = folder / "colours.py"
    path.write_text(text)
    return f"{path}:Colours"


def drawn(name: str, n: int = 40, holdout: bool = False) -> list:
    dataset = Dataset(load_profile("toy", (), [name]).curriculum, {"who": "me"}, 0)
    rng = dice(0, Stream.SAMPLE, 0)
    return [dataset.draw(rng, dataset.tasks[name], 1, holdout) for _ in range(n)]


def test_a_class_in_a_file_is_a_task_like_any_other(tmp_path):
    name = written(tmp_path)
    items = drawn(name)
    assert all(item.answer in (b"red", b"blue") and not is_holdout(item.prompt) for item in items)
    task = load(name)
    assert task.chance(2) == 0.5 and task.verify(items[0].prompt, items[0].answer)
    assert not task.verify(items[0].prompt, b"green")
    profile = load_profile("toy", (), [f"{name}=2.5"])
    assert profile.curriculum.tasks[name] == 2.5
    dataset = Dataset(profile.curriculum, profile.identity, 0)
    assert {item.level for item in dataset.holdout(5) if item.task == name} == {1, 2}
    assert not [item for item in dataset.extrapolation(5) if item.task == name]


def test_the_user_task_of_the_pages_works(tmp_path):
    root = Path(__file__).parents[2]
    blocks = [block for page in [root / "README.md", *sorted((root / "docs").glob("*.md"))]
              for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
              if "class Colours" in block]
    assert blocks
    for block in blocks:
        assert {item.answer for item in drawn(written(tmp_path, block))} == {b"red", b"blue"}


def test_a_recorded_corpus_is_a_task(tmp_path):
    rows = [{"prompt": f"say {i}:", "answer": str(i)} for i in range(200)]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    items = drawn(str(tmp_path / "items.jsonl"))
    assert all(item.prompt == b"say " + item.answer + b":" for item in items)
    (tmp_path / "notes.txt").write_text("\n".join(f"{i} dögs are here" for i in range(99)))
    items = drawn(str(tmp_path / "notes.txt"), holdout=True)
    assert all((item.prompt + item.answer).decode().endswith(" dögs are here") for item in items)


ANSWER = '"red" if number % 2 else "blue"'
WRONG = {
    "has no class Colours": "class Other: pass",
    "loading raises ZeroDivisionError": "1 / 0",
    "loading raises SyntaxError": "def",
    "loading raises SystemExit": "raise SystemExit(3)",
    "the class has no verify": COLOURS.replace("def verify", "def check"),
    "levels is True": COLOURS.replace("levels = 2", "levels = True"),
    "' is bytes, and other texts of the class are str: give all as str": COLOURS.replace(
        f", {ANSWER}", f", ({ANSWER}).encode()"),
    "b'colour 1' is bytes, and other texts of the class are str": COLOURS.replace(
        "return f", "if level == 2: return b'colour 1', b'red'\n        return f"),
    "levels is 0": COLOURS.replace("levels = 2", "levels = 0"),
    "chance(1) is 7": COLOURS.replace("return 0.5", "return 7"),
    "generate at level 1 raises KeyError": COLOURS.replace("number = int", "number = {}[1] or int"),
    "generate returns str": COLOURS.replace('return f"colour', 'return "x"  # f"colour'),
    "return (prompt, answer)": COLOURS.replace('return f"colour', 'return 1, 2, f"colour'),
    "prompt has 0 bytes": COLOURS.replace('f"colour {number}@"', '""'),
    "prompt is int": COLOURS.replace('f"colour {number}@"', "number"),
    "prompt has 4098 bytes (0xFD to 0xFF are two each): give 1 to 4096": COLOURS.replace(
        'f"colour {number}@"', '2049 * b"\\xff"'),
    "verify returns False for generate's": COLOURS.replace("return answer ==", "return answer !="),
    "loading raises KeyboardInterrupt": "raise KeyboardInterrupt",
    "loading raises Mute": "class Mute(BaseException):\n    def __str__(self): 1 / 0\nraise Mute",
    "its process exited during loading": "import os; os._exit(0)",
    "process exited during generate at level 1": COLOURS.replace(
        "number = int", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n        number = "
        "int"),
    "verify raises KeyError": COLOURS.replace("return answer ==", "return {}[1] and answer =="),
    "give more distinct prompts": COLOURS.replace('f"colour {number}@"', '"colour 7@"').replace(
        f"{ANSWER}\n    def", '"red"\n    def')}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_with_a_user_task_is_one_line_with_its_name(tmp_path, monkeypatch, message):
    monkeypatch.setattr("seed.curriculum.dataset.MAX_DRAWS", 1000)
    name = written(tmp_path, WRONG[message])
    with pytest.raises(ConfigError) as error:
        drawn(name, 400)
        drawn(name, 400, holdout=True)
    assert message in str(error.value) and "colours.py" in str(error.value)
    assert "\n" not in str(error.value)


FOREVER = {"a loop": "while 1: pass", "in C": "sum(range(10 ** 13))",
           "and takes no hint": "import signal\n        signal.pthread_sigmask(signal.SIG_BLOCK, "
           "range(1, 65))\n        while 1:\n            try: 1 / 0\n            except: pass"}


@pytest.mark.parametrize("how", FOREVER)
def test_a_task_that_takes_forever_is_named(tmp_path, monkeypatch, how):
    monkeypatch.setattr("seed.curriculum.user_tasks.MAX_CALL_S", 0.2)
    name = written(tmp_path, COLOURS.replace("number", f"{FOREVER[how]}\n        number", 1))
    with pytest.raises(UserTaskError, match="colours.py:Colours: generate at level 1 takes longer"):
        drawn(name)


def test_a_task_whose_every_call_is_slow_is_named_before_it_costs_hours(tmp_path, monkeypatch):
    monkeypatch.setattr("seed.curriculum.user_tasks.CALLS_GRACE_S", 0.5)
    slow = COLOURS.replace("number = int", "import time; time.sleep(0.2)\n        number = int")
    with pytest.raises(UserTaskError, match=r"a call takes \d+\.\d\d s on average: make it faster"):
        drawn(written(tmp_path, slow))


RIGHT = {
    "a dataclass": "from __future__ import annotations\nimport dataclasses\n"
                   "@dataclasses.dataclass\nclass Other:\n    a: int = 1\n" + COLOURS,
    "a neighbour": "import neighbour\n" + COLOURS,
    "it prints": COLOURS.replace("number = int", "print('{\"value\": 1}')\n        number = int"),
    "bytes": COLOURS.replace('f"colour {number}@", "red" if number % 2 else "blue"',
                             'f"colour {number}@".encode(), b"red" if number % 2 else b"blue"')
    .replace('("red" if number % 2 else "blue")', '(b"red" if number % 2 else b"blue")'),
    "a numpy bool": "import numpy as np\n" + COLOURS.replace(
        "return answer == (", "return np.bool_(answer == (").replace('"blue")\n', '"blue"))\n')}


@pytest.mark.parametrize("what", RIGHT)
def test_an_unusual_and_valid_class_is_a_task(tmp_path, what):
    (tmp_path / "neighbour.py").write_text("")
    name = written(tmp_path, RIGHT[what])
    items = drawn(name)
    task = load(name)
    task.generate(dice(0, Stream.SAMPLE, 0), 1)   # now it is known whether it uses bytes
    assert all(task.verify(item.prompt, item.answer) for item in items)
    assert not task.verify(items[0].prompt, b"green") and not task.verify(b"?", b"red")


def test_a_class_that_seeds_its_generator_disturbs_no_other_draw(tmp_path):
    name = written(tmp_path, COLOURS.replace("number", "rng.seed(1)\n        number", 1))
    rng, task = dice(0, Stream.SAMPLE, 0), load(name)
    task.generate(rng, 1)
    after = rng.random()
    task.generate(rng, 1)
    assert rng.random() != after


@pytest.mark.parametrize("namespace", [True, False])
def test_a_task_s_processes_end_when_its_run_is_killed(tmp_path, namespace):
    """Even if the class computes forever, and what it has started has left its session."""
    escape = ("import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
              "        import time; time.sleep(300)\n    os._exit(0)\nos.wait()\n")
    name = written(tmp_path, escape + COLOURS.replace("number", "while 1: pass\n        number", 1))
    code = ("import random\nfrom seed.curriculum import user_class_process, user_tasks\n"
            f"user_class_process.USE_PID_NAMESPACE = {namespace}\nuser_tasks.MAX_CALL_S = 1e3\n"
            f"user_tasks.load({name!r})")
    process = subprocess.Popen([sys.executable, "-c", code])
    wait_until(lambda: any(cpu_ticks(pid) >= 30 for pid in descendants(process.pid)), process, 60)
    pids = descendants(process.pid)
    assert len(pids) >= 3   # a supervisor, the worker and the one that escaped
    process.kill()
    process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), None, 60)


def cpu_ticks(pid: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().split()[13])
    except OSError:
        return 0


def test_what_a_class_prints_is_no_reply_and_goes_to_stderr(tmp_path, capfd):
    assert {item.answer for item in drawn(written(tmp_path, RIGHT["it prints"]))} == {b"red",
                                                                                      b"blue"}
    output = capfd.readouterr()
    assert output.out == "" and '{"value": 1}' in output.err


def test_a_corpus_keeps_its_unicode_and_its_chance_level(tmp_path):
    path = tmp_path / "items.jsonl"
    rows = [{"prompt": f"say {i}\u2028:", "answer": "yes" if i % 10 else "no"} for i in range(500)]
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(
        json.dumps(row, ensure_ascii=False) for row in rows).encode())
    task = load(str(path))
    assert len(task.items) == 500 and 0.9 <= task.chance(1) < 0.96   # of always answering yes
    (tmp_path / "notes.txt").write_text("\n".join(f"{i}ööööö" for i in range(99)))
    for item in load(str(tmp_path / "notes.txt")).items:
        item.prompt.decode()
        item.answer.decode()


@pytest.mark.parametrize("text, message", [
    ("", "no line with a prompt"), ('{"prompt": "a"}', "line 1: give"), ("[1]", "line 1: give"),
    ('{"prompt": "a", "answer": 5}', "answer is int"), ("nonsense", "line 1: give")])
def test_a_broken_corpus_is_named_with_its_line(tmp_path, text, message):
    (tmp_path / "items.jsonl").write_text(text)
    with pytest.raises(UserTaskError, match=message):
        load(str(tmp_path / "items.jsonl"))
    with pytest.raises(UserTaskError, match="No such file"):
        load(str(tmp_path / "other.jsonl"))


def test_a_corpus_whose_prompts_are_alike_is_rejected_with_their_number(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("".join(f"every line begins with this {i:02}\n" for i in range(90)))
    with pytest.raises(UserTaskError, match="notes.txt: 90 lines have 1 distinct prompt, too few"):
        load(str(path))


def test_a_name_that_is_no_file_of_a_task_is_rejected(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name, message in ((str(tmp_path / "pipe.jsonl"), "is not a file"),
                          ("a\0b.jsonl", "no file name"),
                          (f"{tmp_path}/colours.py", "its class too, as in colours.py:Class")):
        with pytest.raises(UserTaskError, match=message):
            load(name)


def train(folder: Path, name: str, steps: int) -> subprocess.CompletedProcess:
    return subprocess.run(tiny_command(folder / "run", f"--task={name}", steps=steps),
                          capture_output=True, text=True, timeout=100)


def test_a_task_that_fails_in_the_middle_leaves_a_run_that_resumes(tmp_path):
    late = COLOURS.replace("number = int", "self.n = getattr(self, 'n', 0) + 1\n        "
                           "if self.n > 45: raise RuntimeError('worn out')\n        number = int")
    done = train(tmp_path, written(tmp_path, late), 30)
    assert done.returncode == 2 and "worn out" in done.stderr and "Traceback" not in done.stderr
    saved = checkpoint.read(RunDir(tmp_path / "run").checkpoint).meta["step"]
    assert 0 < saved < 30
    done = train(tmp_path, written(tmp_path), 30)
    assert done.returncode == 0 and f"from step {saved}" in done.stderr
    assert "Colours" in done.stdout
