"""Tasks of the user's own: what is right trains, what is wrong is named and the run stays whole."""
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seed.config import load_profile
from seed.errors import ConfigError
from seed.curriculum import user_task_worker
from seed.curriculum.dataset import Dataset, is_holdout
from seed.curriculum.user_tasks import TaskError, load
from seed.rng import Stream, dice
from seed.storage import RunDir
from seed.storage import checkpoint

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
    path = folder / "lesson.py"
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


def test_the_lesson_of_the_readme_works(tmp_path):
    text = (Path(__file__).parents[2] / "README.md").read_text()
    lesson = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
                  if "class Colours" in block)
    assert {item.answer for item in drawn(written(tmp_path, lesson))} == {b"red", b"blue"}


def test_a_recorded_corpus_is_a_task(tmp_path):
    rows = [{"prompt": f"say {i}:", "answer": str(i)} for i in range(200)]
    (tmp_path / "said.jsonl").write_text("\n".join(map(json.dumps, rows)))
    items = drawn(str(tmp_path / "said.jsonl"))
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
    "the class has no verify": COLOURS.replace("def verify", "def other"),
    "levels is 0": COLOURS.replace("levels = 2", "levels = 0"),
    "chance(1) is 7": COLOURS.replace("return 0.5", "return 7"),
    "generate at level 1 raises KeyError": COLOURS.replace("number = int", "number = {}[1] or int"),
    "generate gives str": COLOURS.replace('return f"colour', 'return "x"  # f"colour'),
    "the pair": COLOURS.replace('return f"colour', 'return 1, 2, f"colour'),
    "answer has 0 bytes": COLOURS.replace(f"{ANSWER}\n    def", '""\n    def'),
    "prompt is int": COLOURS.replace('f"colour {number}@"', "number"),
    "they are marks": COLOURS.replace('f"colour {number}@"', 'b"\\xff"'),
    "verify says False to its own": COLOURS.replace("return answer ==", "return answer !="),
    "loading raises KeyboardInterrupt": "raise KeyboardInterrupt",
    "loading raises Mute": "class Mute(BaseException):\n    def __str__(self): 1 / 0\nraise Mute",
    "loading ends its process": "import os; os._exit(0)",
    "generate at level 1 ends its process": COLOURS.replace(
        "number = int", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n        number = "
        "int"),
    "verify raises KeyError": COLOURS.replace("return answer ==", "return {}[1] and answer =="),
    "give more distinct prompts": COLOURS.replace('f"colour {number}@"', '"colour 7@"').replace(
        f"{ANSWER}\n    def", '"red"\n    def')}


@pytest.mark.parametrize("says", WRONG)
def test_what_a_users_task_does_wrong_is_said_in_one_line_with_its_name(tmp_path, says):
    name = written(tmp_path, WRONG[says])
    with pytest.raises(ConfigError) as error:
        drawn(name, 400)
        drawn(name, 400, holdout=True)
    assert says in str(error.value) and "lesson.py" in str(error.value)
    assert "\n" not in str(error.value)


FOREVER = {"a loop": "while 1: pass", "in C": "sum(range(10 ** 13))",
           "and takes no hint": "import signal\n        signal.pthread_sigmask(signal.SIG_BLOCK, "
           "range(1, 65))\n        while 1:\n            try: 1 / 0\n            except: pass"}


@pytest.mark.parametrize("how", FOREVER)
def test_a_task_that_takes_forever_is_named(tmp_path, monkeypatch, how):
    monkeypatch.setattr("seed.curriculum.user_tasks.LIMIT_S", 0.2)
    name = written(tmp_path, COLOURS.replace("number", f"{FOREVER[how]}\n        number", 1))
    began = time.monotonic()
    with pytest.raises(TaskError, match="lesson.py:Colours: generate at level 1 takes longer"):
        drawn(name)
    assert time.monotonic() - began < 5


def test_a_task_that_is_slow_each_time_is_named_before_it_has_cost_hours(tmp_path, monkeypatch):
    monkeypatch.setattr("seed.curriculum.user_tasks.SLACK_S", 0.5)
    slow = COLOURS.replace("number = int", "import time; time.sleep(0.2)\n        number = int")
    with pytest.raises(TaskError, match=r"its calls take 0\.[2-9]\d s each: make it quicker"):
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
def test_what_is_unusual_and_right_is_a_task(tmp_path, what):
    (tmp_path / "neighbour.py").write_text("")
    name = written(tmp_path, RIGHT[what])
    items = drawn(name)
    task = load(name)
    task.generate(dice(0, Stream.SAMPLE, 0), 1)   # now it is known what it speaks
    assert all(task.verify(item.prompt, item.answer) for item in items)
    assert not task.verify(items[0].prompt, b"green") and not task.verify(b"?", b"red")


def test_dice_that_a_class_throws_anew_are_its_own_alone(tmp_path):
    name = written(tmp_path, COLOURS.replace("number", "rng.seed(1)\n        number", 1))
    rng, task = dice(0, Stream.SAMPLE, 0), load(name)
    task.generate(rng, 1)
    after = rng.random()
    task.generate(rng, 1)
    assert rng.random() != after


def test_no_process_of_a_task_is_left_when_its_run_is_killed(tmp_path):
    """Even if the class is at work and never looks at its socket."""
    name = written(tmp_path, COLOURS.replace("number", "while 1: pass\n        number", 1))
    code = ("import random\nfrom seed.curriculum.user_tasks import load\n"
            f"load({name!r}).generate(random.Random(0), 1)")
    process = subprocess.Popen([sys.executable, "-c", code])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until, pid = time.monotonic() + 10, 0

    def used() -> int:
        """Clock ticks of the child."""
        return int(Path(f"/proc/{pid}/stat").read_text().split()[13])
    while not pid or used() < 30:
        assert time.monotonic() < until
        pid = int((children.read_text().split() or [0])[0])
        time.sleep(0.02)
    process.kill()
    process.wait()
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_task_whose_run_ended_before_it_began_does_not_begin(tmp_path):
    (tmp_path / "hangs.py").write_text("while 1: pass")
    here, other = socket.socketpair()
    with here, other:
        here.sendall(b'{"do": "load", "doing": "loading"}\n')
        child = subprocess.Popen([sys.executable, user_task_worker.__file__, str(other.fileno()), "-1",
                                  str(tmp_path / "hangs.py"), "Hangs", "9", ""],
                                 pass_fds=[other.fileno()])
        try:
            assert child.wait(10) == 0
        finally:
            child.kill()


def test_what_a_class_prints_is_not_among_the_answers(tmp_path):
    name = written(tmp_path, RIGHT["it prints"])
    done = subprocess.run([sys.executable, "-m", "seed", "items", "--json", "--task", name],
                          capture_output=True, text=True, timeout=60)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows and all(row.keys() == {"task", "level", "prompt", "answer"} for row in rows)
    assert '{"value": 1}' in done.stderr


def test_a_corpus_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "said.jsonl"
    rows = [{"prompt": f"say {i}\u2028:", "answer": "yes" if i % 10 else "no"} for i in range(500)]
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(
        json.dumps(row, ensure_ascii=False) for row in rows).encode())
    task = load(str(path))
    assert len(task.items) == 500 and 0.9 <= task.chance(1) < 0.96   # who always says yes
    (tmp_path / "notes.txt").write_text("\n".join(f"{i}ööööö" for i in range(99)))
    for item in load(str(tmp_path / "notes.txt")).items:
        item.prompt.decode()
        item.answer.decode()


@pytest.mark.parametrize("text, says", [
    ("", "too few"), ('{"prompt": "a"}', "line 1: give"), ("[1]", "line 1: give"),
    ('{"prompt": "a", "answer": 5}', "answer is int"), ("nonsense", "line 1: give")])
def test_a_broken_corpus_is_named_with_its_line(tmp_path, text, says):
    (tmp_path / "said.jsonl").write_text(text)
    with pytest.raises(TaskError, match=says):
        load(str(tmp_path / "said.jsonl"))
    with pytest.raises(TaskError, match="No such file"):
        load(str(tmp_path / "other.jsonl"))


def test_what_is_no_task_s_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name, says in ((str(tmp_path / "pipe.jsonl"), "is not a file"), ("a\0b.jsonl", "no file's"),
                       (f"{tmp_path}/lesson.py", "name its class too, as in lesson.py:ClassName")):
        with pytest.raises(TaskError, match=says):
            load(name)


def train(folder: Path, name: str, steps: int) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "seed", "train", "--profile", "fast", "--steps", str(steps),
         "--task", name, "--run-dir", str(folder / "run"), "--set", "curriculum.holdout_items=2"],
        capture_output=True, text=True, timeout=100)


def test_a_task_that_fails_in_the_middle_leaves_a_run_that_goes_on(tmp_path):
    late = COLOURS.replace("number = int", "self.n = getattr(self, 'n', 0) + 1\n        "
                           "if self.n > 400: raise RuntimeError('worn out')\n        number = int")
    done = train(tmp_path, written(tmp_path, late), 30)
    assert done.returncode == 2 and "worn out" in done.stderr and "Traceback" not in done.stderr
    saved = checkpoint.read(RunDir(tmp_path / "run").checkpoint).meta["step"]
    assert 0 < saved < 30
    done = train(tmp_path, written(tmp_path), 30)
    assert done.returncode == 0 and f"going on from step {saved}" in done.stderr
    assert "Colours" in done.stdout
