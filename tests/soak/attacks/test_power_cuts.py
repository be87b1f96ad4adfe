"""Cuts the power of every command that writes, and runs the command again.

    python -m pytest -m long tests/soak/attacks/test_power_cuts.py

Each command runs once, and all that it does to its files is recorded. Then, for a sample of the
states that a power cut may have left on the disk (tests/support/power_cut.py): whatever the command
had told is done must be there; the same command must end well, with the bits of the run that was
not disturbed, without a word of damage, and without any file that only belongs to a run on its way.
All 300 states take about half an hour of one core.
"""
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from seed.errors import BAD_INPUT
from seed.profile_file import load_profile, to_toml
from seed.resize.trial import Size, profile_hash
from seed.storage import RunDir
from tests.soak import storm
from tests.support import power_cut, trials
from tests.support.preloaded import build_library
from tests.support.tiny_run import TINY

pytestmark = pytest.mark.long

TIMEOUT_S = 300.0
TRAIN = ["train", "--run-dir=ROOT/run", "--steps=24", *TINY, "--set=train.save_every_minutes=5e-4",
         "--set=train.write_gb_per_day=1e6", "--set=curriculum.eval_every_steps=7",
         "--set=curriculum.eval_items=2"]
UNJUDGED = "--min-gain=0", "--max-loss=100"
SELFPLAY = ["tasks={copy=4}", "every_steps=3", "questions=2", "max_answer_bytes=4", "verify=false",
            "votes=2", "temperature=1.0", "majority=0.0", "max_entropy=10.0"]
TEACHER = ["kind=mock", "tasks={copy=1.0}", "every_steps=4"]
CHILD = [*(word for word in TINY if "tasks" not in word and "holdout" not in word),
         "--set=model.n_layers=1", "--set=model.pattern=S", "--set=distill.batches=4",
         "--set=train.save_every_minutes=5e-4", "--set=train.write_gb_per_day=1e6"]
LARGER = ["model.d_model=64", "model.d_ff=64", "model.n_layers=2", "model.pattern=SA"]
RUN_FILES = ("checkpoint.safetensors", "checkpoint.pre_adapt.safetensors",
             "checkpoint.pre_adapt.2.safetensors", "selfplay.jsonl",
             "teacher.jsonl", "soft_targets.safetensors", "brain.tflite", "page.html",
             "limit.toml", "brain.toml")
# Not report.html, which a training ends with: it tells how long that took.
OPTIONAL = {"checkpoint.previous.safetensors"}   # depends on which saves there were
BAD_WORDS = re.compile(r"Traceback|WARNING|damaged|refused|not a whole|not a checkpoint")
SAVED = re.compile(r'"kind": "save", "step": (\d+)|Done: (\d+) step')


class Prepared(NamedTuple):
    """What all commands share; nothing below it is recorded."""
    folder: Path
    library: Path


@dataclass(frozen=True)
class Case:
    """A command, with ROOT for the folder that is recorded and SHARED for the prepared one."""
    words: list[str]
    base: str                                       # its folder's contents before it, or ""
    count: int                                      # of states
    lost_fn: Callable[[str, Path, Path], str]       # (told, after the cut, undisturbed) -> what


def command(words: Sequence[str], root: Path, shared: Path) -> list[str]:
    return [sys.executable, "-m", "seed", *(
        word.replace("ROOT", str(root)).replace("SHARED", str(shared)) for word in words)]


def same(name: str, first: Path, second: Path) -> bool:
    return (first / name).exists() and (first / name).read_bytes() == (second / name).read_bytes()


def lost_step(told: str, root: Path, whole: Path) -> str:
    """The last step that was saved, if the newest checkpoint is older."""
    step = max((int(a or b) for a, b in SAVED.findall(told)), default=-1)
    newest = RunDir(root / "run").load_newest(lambda line: None) if step >= 0 else None
    return f"step {step}" if step > (newest.meta["step"] if newest else -1) else ""


def lost_file(mark: str, *names: str) -> Callable[[str, Path, Path], str]:
    """Names that must have the bytes of the undisturbed run once `mark` was printed."""
    def lost(told: str, root: Path, whole: Path) -> str:
        return ", ".join(name for name in names if mark in told and not same(name, root, whole))
    return lost


CHECKPOINT, BEFORE = "run/checkpoint.safetensors", "run/checkpoint.pre_adapt.safetensors"
CASES = {
    "self-play": Case([*TRAIN, "--set=train.seq_len=64",
                       *(f"--set=selfplay.{text}" for text in SELFPLAY)], "", 45,
                      lost_step),
    "mock teacher": Case([*TRAIN, *(f"--set=teacher.{text}" for text in TEACHER)], "", 45,
                         lost_step),
    "soft targets": Case([*TRAIN, "--set=distill.parent=SHARED/brain/run",
                          "--set=distill.batches=4"], "", 40, lost_step),
    "adapt": Case(["adapt", "--run-dir=ROOT/run", "--data=SHARED/rule.jsonl", "--steps=8",
                   "--threads=1", *UNJUDGED], "brain", 45,
                  lost_file("before %", CHECKPOINT, BEFORE)),
    "adapt again": Case(["adapt", "--run-dir=ROOT/run", "--data=SHARED/rule.jsonl", "--steps=4",
                         "--threads=1", *UNJUDGED], "adapted", 20,
                        lost_file("before %", CHECKPOINT, BEFORE)),
    "undo": Case(["adapt", "--undo", "--run-dir=ROOT/run"], "adapted", 6,
                 lost_file("as it was", CHECKPOINT)),
    "grow": Case(["grow", "--run-dir=ROOT/run", "--to=SHARED/larger.toml", "--threads=1"], "brain",
                 20, lost_file("grew from", CHECKPOINT)),
    "train --grow": Case(trials.train_growing_command(Path("ROOT/run"), "--steps=1300")[3:],
                         "searched", 15, lost_step),
    "shrink": Case(["shrink", "--run-dir=SHARED/brain/run", "--out=ROOT/run", "--steps=12",
                    *CHILD], "", 40, lost_step),
    "scale": Case(["scale", "--run-dir=ROOT/run", "--threads=1", "--tokens-per-s=1e9",
                   "--trial-seconds=1", *(f"--set={text}" for text in trials.GROWING)],
                  "one trial", 10, lost_file("largest stable brain is", "run/limit.toml")),
    "export": Case(["export", "--run-dir=ROOT/run", "--threads=1"], "brain", 9,
                   lost_file("runtime ", "run/brain.tflite")),
    "eval --html": Case(["eval", "--run-dir=ROOT/run", "--threads=1", "--items=1",
                         "--html=ROOT/run/page.html"], "brain", 7, lost_file("-", CHECKPOINT)),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Prepared:
    folder = tmp_path_factory.mktemp("prepared").resolve()
    (folder / "rule.jsonl").write_text("".join(
        json.dumps({"prompt": f"{i}?7=", "answer": str(i + 7)}) + "\n" for i in range(10, 90)))
    larger = load_profile("fast", [word[6:] for word in TINY if word.startswith("--set=")] + LARGER)
    (folder / "larger.toml").write_text(to_toml(larger))
    run(command(TRAIN, folder / "brain", folder))
    shutil.copytree(folder / "brain", folder / "adapted")
    run(command(CASES["adapt"].words, folder / "adapted", folder))
    for name in ("searched", "one trial"):
        (folder / name).mkdir()
        trials.known_search(folder / name / "run")
    fast = trials.stable_trial(Size(64, 4, 1, 32), threads=1, memory_limit_mb=6144.0, step_s=1e-9,
                               profile_hash=profile_hash(load_profile("toy", trials.GROWING)))
    trials.write_trials(folder / "one trial/run", [fast])
    return Prepared(folder, build_library("recorder.c", folder))


def run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.name not in OPTIONAL}


def outcome(root: Path) -> dict[str, str]:
    """Hashes of all files whose bytes are those of every run of the command."""
    run_dir = root / "run"
    hashes = {name: hashlib.sha256((run_dir / name).read_bytes()).hexdigest()
              for name in RUN_FILES if (run_dir / name).exists()}
    if (run_dir / "metrics.jsonl").exists():
        hashes["metrics"] = storm.outcome(run_dir)[1]
    return hashes


def problem(name: str, state: power_cut.State, root: Path, whole: Path, shared: Path) -> str:
    """What a command's next run does not make good; empty if all is well."""
    case = CASES[name]
    state.write(root)
    if lost := case.lost_fn(state.told, root, whole):
        return f"was told to be done, and is lost: {lost}"
    done = subprocess.run(command(case.words, root, shared), capture_output=True, text=True,
                          timeout=TIMEOUT_S)
    text = done.stdout + done.stderr
    is_undone = name == "undo" and done.returncode == BAD_INPUT and "nothing to undo" in text
    if done.returncode and not is_undone or BAD_WORDS.search(text):
        return f"exit code {done.returncode}: {text[-500:]}"
    if names(root) != names(whole):
        return f"other files: {sorted(names(root) ^ names(whole))}"
    results = outcome(root), outcome(whole)
    return f"other bits: {results}" if results[0] != results[1] else ""


def begin(name: str, whole: Path, prepared: Prepared) -> None:
    """Makes the folder as it is before a command."""
    if CASES[name].base:
        shutil.copytree(prepared.folder / CASES[name].base, whole)
    else:
        whole.mkdir()


def sampled(name: str, count: int, root: Path, prepared: Prepared) -> list[power_cut.State]:
    """Runs a command in a folder; states of power cuts meanwhile."""
    disk, changes, code = power_cut.record(
        command(CASES[name].words, root, prepared.folder), root, prepared.library,
        prepared.folder / "log")
    assert code == 0, "".join(change.data.decode() for change in changes if not change.path)
    return power_cut.states(disk, changes, count, seed=len(name))


def check(name: str, states: Iterable[tuple[str, power_cut.State]], whole: Path,
          prepared: Prepared, capsys: pytest.CaptureFixture) -> None:
    """Fails with all problems of the states; folders without one are removed."""
    tried, problems = 0, []
    for tried, (label, state) in enumerate(states, 1):
        root = whole.parent / label
        if text := problem(name, state, root, whole, prepared.folder):
            problems.append(f"{label}, {state}: {text}")
        else:
            shutil.rmtree(root)
    with capsys.disabled():
        print(f"\npower cut, {name}: {tried} tried, {tried - len(problems)} held")
    assert tried and not problems, "\n".join(problems)


@pytest.mark.parametrize("name", CASES)
def test_a_command_that_runs_again_after_a_power_cut_ends_with_the_same_bits(
        name, prepared, tmp_path, capsys):
    """Attacks 95 to 99: train with self-play and a teacher, adapt, grow, undo; Own: the others."""
    whole = tmp_path / "whole"
    begin(name, whole, prepared)
    states = sampled(name, CASES[name].count, whole, prepared)
    check(name, ((f"cut{i}", state) for i, state in enumerate(states)), whole, prepared, capsys)


@pytest.mark.parametrize("name", ["self-play", "adapt again", "grow"])
def test_a_second_power_cut_while_a_command_recovers_from_the_first_changes_nothing(
        name, prepared, tmp_path, capsys):
    """Own: recovery moves, cuts and removes files too."""
    whole = tmp_path / "whole"
    begin(name, whole, prepared)

    def second_cuts() -> Iterator[tuple[str, power_cut.State]]:
        for i, first in enumerate(sampled(name, 6, whole, prepared)[:4]):
            root = tmp_path / f"first{i}"
            first.write(root)
            for j, second in enumerate(sampled(name, 5, root, prepared)):
                yield f"second{i}-{j}", second
    check(name, second_cuts(), whole, prepared, capsys)


@pytest.mark.parametrize("words", [
    ["samples", "--count=1"], ["info", "--run-dir=ROOT/run"], ["health"],
    ["generate", "--run-dir=ROOT/run", "--prompt=a"], ["eval", "--run-dir=ROOT/run", "--items=1"],
    ["scale", "--dry-run", "--run-dir=ROOT/run"]], ids=lambda words: words[0])
def test_a_command_that_only_reads_changes_no_file(words, prepared, tmp_path):
    """Attack 23: not one of those that only read."""
    shutil.copytree(prepared.folder / "brain", tmp_path / "root")
    root = tmp_path / "root"
    _, changes, code = power_cut.record(command(words, root, prepared.folder), root,
                                        prepared.library, tmp_path / "log", cwd=root)
    assert code == 0 and not [change for change in changes if change.operation != "say"]
