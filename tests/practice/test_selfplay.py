"""Self-play: what passes, how the frontier moves, and that a run with it is still one run."""
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seed.config import ModelConfig, load_profile
from seed.errors import ConfigError
from seed.curriculum.dataset import Dataset, is_holdout
from seed.curriculum.state import CurriculumState
from seed.curriculum.task import Item
from seed.curriculum.vocab import END
from seed.rng import Stream, stream
from seed.storage import RunDir
from seed.practice.selfplay import Answer, Selfplay
from seed.wavecore.decode import Decoder, Rollouts
from seed.wavecore.model import WaveCore, init_params

TASK = f"{Path(__file__).parents[1] / 'support/addition.py'}:Addition"


def profile_of(*overrides: str):
    return load_profile("toy", ["curriculum.tasks={}", f'selfplay.tasks={{"{TASK}"=9}}',
                                "selfplay.questions=8", "selfplay.every_steps=10", *overrides], [TASK])


def play_of(run_dir, *overrides: str, step: int = 0) -> Selfplay:
    profile = profile_of(*overrides)
    dataset = Dataset(profile.curriculum, profile.identity, 0)
    return Selfplay(profile.selfplay, dataset, RunDir(run_dir), step, 129)


def right(prompt: bytes) -> bytes:
    left, other = prompt[:-1].decode().split("+")
    total = sum(int(number[::-2]) for number in (left, other))
    digits = f"{total:0{max(len(left), len(other)) // 2 + 1}d}"[::-1]
    return "".join(chr(97 + (ord(left[0]) - 97 + i) % 26) + digit
                   for i, digit in enumerate(digits)).encode()


def knows(share: float):
    """A rollout that is right for the first `share` of the prompts and else one digit off."""
    def rollout(prompts, longest, temperature, seed, index):
        n = round(share * len(prompts))
        return [Answer(right(p) if i < n else b"9" * len(right(p)), True, 0.1, 1.0)
                for i, p in enumerate(prompts)]
    return rollout


def test_only_right_answers_to_training_questions_of_the_frontier_pass(tmp_path):
    play = play_of(tmp_path)
    round_, = play.play(10, 0, knows(0.5))
    assert (round_.level, round_.asked, len(round_.passed)) == (7, 8, 4)
    for item in play.won[TASK, 7]:
        assert item.answer == right(item.prompt) and not is_holdout(item.prompt)
        assert max(map(len, item.prompt[:-1].split(b"+"))) == 14 and item.level == 7


def test_an_answer_without_an_end_does_not_pass(tmp_path):
    round_, = play_of(tmp_path).play(10, 0, lambda prompts, *_: [
        Answer(right(p), False, 0.1, 1.0) for p in prompts])
    assert not round_.passed and round_.ended == 0


@pytest.mark.parametrize("verify", ["", "selfplay.verify=false"])
def test_an_answer_said_in_doubt_or_with_unusual_states_does_not_pass(tmp_path, verify):
    play = play_of(tmp_path, "selfplay.votes=2", "selfplay.temperature=1.0",
                   "selfplay.max_entropy=0.5", *verify.split())
    unsteady = {0: (0.6, 1.0), 1: (0.1, 4.1), 2: (0.1, float("nan")), 3: (float("nan"), 1.0)}
    round_, = play.play(10, 0, lambda prompts, *_: [
        Answer(right(p), True, *unsteady.get(i, (0.5, 4.0 if i == 4 else 1.0)))
        for i, p in enumerate(prompts)])
    asked = play._prompts(play.dataset.tasks[TASK], 7, 0, 10)
    assert [item.prompt for item in round_.passed] == asked[4:]
    assert (round_.ended, round_.steady) == (16, 8)


def test_the_frontier_moves_when_enough_passes_and_no_further_than_told(tmp_path):
    play = play_of(tmp_path)
    for step, share in ((10, 0.5), (20, 1.0), (30, 0.75), (40, 1.0), (50, 1.0), (60, 1.0)):
        play.play(step, 0, knows(share))
    assert [done.level for done in play.rounds] == [7, 7, 8, 8, 9, 9]


def test_each_level_that_was_won_has_the_same_part_of_the_lessons(tmp_path):
    """From as many as a round asks, 8, on: one alone is not said all the time."""
    play = play_of(tmp_path, "selfplay.data_fraction=0.3")
    assert play.lessons() == []
    for step, share in ((10, 0.75), (20, 1.0), (30, 0.25)):
        play.play(step, 0, knows(share))
    assert [(share, len(items)) for share, items in play.lessons()] == [
        (pytest.approx(0.24), 14), (pytest.approx(0.06), 2)]
    play.play(40, 0, knows(0.75))
    assert [share for share, _ in play.lessons()] == [0.15, 0.15]


def test_what_was_won_by_vote_is_judged_once_the_rule_is_asked(tmp_path):
    play = play_of(tmp_path, "selfplay.verify=false", "selfplay.votes=2",
                   "selfplay.temperature=1.0")
    play.play(10, 0, knows(0.5))
    assert [len(items) for _, items in play.lessons()] == [8]
    (_, items), = play_of(tmp_path, "selfplay.verify=true", step=20).lessons()
    assert len(items) == 4 and all(item.answer == right(item.prompt) for item in items)
    assert play_of(tmp_path, "selfplay.tasks={}", step=20).lessons() == []


def test_a_level_that_a_task_has_not_is_refused_before_it_is_asked(tmp_path):
    for task, most in (("parity", 4), ("identity", 1)):
        profile = load_profile("toy", [f"selfplay.tasks={{{task}={most}}}"])
        dataset = Dataset(profile.curriculum, profile.identity, 0)
        Selfplay(profile.selfplay, dataset, RunDir(tmp_path), 0, 129)
        more = replace(profile.selfplay, tasks={task: most + 1})
        with pytest.raises(ConfigError, match=f"tasks.{task} is {most + 1}: .* {most} levels"):
            Selfplay(more, dataset, RunDir(tmp_path), 0, 129)


def test_rounds_come_every_so_many_steps_and_none_twice(tmp_path):
    play = play_of(tmp_path)
    assert [step for step in range(25) if play.is_due(step)] == [10, 20]
    play.play(10, 0, knows(1.0))
    assert not play.is_due(10) and play.is_due(20)
    assert not play_of(tmp_path, "selfplay.tasks={}").is_due(20)


def test_by_vote_what_most_say_passes_unless_it_is_short(tmp_path):
    play = play_of(tmp_path, "selfplay.verify=false", "selfplay.votes=5",
                   "selfplay.temperature=1.0", "selfplay.majority=0.8")
    calls: list[int] = []

    def rollout(prompts, longest, temperature, seed, index):
        """Prompt 0: all agree; 1: three of five; 2: all agree on a short one; others like 0."""
        calls.append(index)
        said = [b"12345678"] * len(prompts)
        said[1] = b"12345678" if len(calls) <= 3 else b"87654321"
        said[2] = b"1"
        return [Answer(text, True, 0.1, 1.0) for text in said]
    round_, = play.play(10, 0, rollout)
    assert len(set(calls)) == 5
    asked = play._prompts(play.dataset.tasks[TASK], 7, 0, 10)
    assert [item.prompt for item in round_.passed] == [asked[0], *asked[3:]]
    assert round_.agreement == pytest.approx((7 + 0.6) / 8)


def test_a_run_that_goes_on_drops_later_rounds_and_a_torn_line(tmp_path):
    play = play_of(tmp_path)
    for step in (10, 20, 30):
        play.play(step, 0, knows(1.0))
    whole = RunDir(tmp_path).selfplay_log.read_bytes()
    with open(RunDir(tmp_path).selfplay_log, "ab") as file:
        file.write(b'{"step": 40, "ta')
    again = play_of(tmp_path, step=30)
    assert again.rounds == play.rounds[:2] and again.won == {
        (TASK, level): play.won[TASK, level] for level in (7, 8)}
    again.play(30, 0, knows(1.0))
    assert RunDir(tmp_path).selfplay_log.read_bytes() == whole


def test_a_disk_that_refuses_costs_the_round_and_nothing_else(tmp_path):
    play = play_of(tmp_path)
    play.play(10, 0, knows(1.0))
    play.journal.path = Path("/dev/full")
    assert play.play(20, 0, knows(1.0)) == [] and len(play.won[TASK, 7]) == 8 == len(
        play.lessons()[0][1])
    play.journal.path = RunDir(tmp_path).selfplay_log
    play.play(30, 0, knows(1.0))
    assert play_of(tmp_path, step=100).rounds == play.rounds


def test_what_was_won_has_its_share_of_the_lessons_and_no_parts_are_told(tmp_path):
    profile = load_profile(
        "toy", ["curriculum.tasks={parity=1.0}", "curriculum.eval_every_steps=0"])
    dataset = Dataset(profile.curriculum, profile.identity, 0)
    long = Item("parity", 4, b"10" * 25 + b"#", b"1")
    plain = dataset.batch(CurriculumState(6, 6), 5, 16, 128)
    mixed = dataset.batch(CurriculumState(6, 6), 5, 16, 128, [(0.5, [long])])
    only = dataset.batch(CurriculumState(6, 6), 5, 16, 128, [(1.0, [long])])
    assert (dataset.batch(CurriculumState(6, 6), 5, 16,
            128, [(0.5, [])]).tokens == plain.tokens).all()
    assert b"10" * 25 + b"#1" in mixed.tokens[0].astype(np.uint8).tobytes() or \
        (mixed.tokens != plain.tokens).any()
    assert set(only.targets[only.targets >= 0]) == {ord("1"), END}
    assert set(mixed.targets[mixed.targets >= 0]) == {ord("0"), ord("1"), END}


def test_many_answers_at_once_equal_one_at_a_time():
    config = ModelConfig(d_model=32, d_ff=32, n_layers=3)
    params = init_params(config, 3)
    params["embedding"] *= 20
    model = WaveCore(config, params)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 250, n).astype(np.uint8).tobytes() for n in (1, 7, 40, 3, 12)]
    stop = next(Decoder(model).generate(prompts[2], 9, 256))  # so that at least one is ended by it
    rollouts = Rollouts(model, 8)
    for _ in range(2):   # from a fresh state each time
        said = rollouts.answer(prompts, 9, stop, 0.0, rng)
        assert [text for text, *_ in said] == [
            bytes(Decoder(model).generate(p, 9, stop)) for p in prompts]
        assert [ended for _, ended, *_ in said] == [len(text) < 9 for text, *_ in said]
    assert said[2][:2] == (b"", True)
    for prompt, (text, ended, _, peak) in zip(prompts, said):
        alone = Decoder(model)
        alone.prefill(prompt + text[:len(text) if ended else -1])   # the last byte was not read
        assert peak == pytest.approx(max(np.abs(s.numpy()).max() for layer in alone.state
                                         for s in layer if s.dtype.name == "float"), rel=1e-5)


def test_sampled_answers_follow_the_temperature_and_the_draws():
    config = ModelConfig(d_model=32, d_ff=32, n_layers=1, pattern="S")
    model = WaveCore(config, init_params(config, 3))
    rollouts = Rollouts(model, 64)

    def first(temperature: float, index: int) -> list[bytes]:
        said = rollouts.answer([b"a"] * 64, 1, 256, temperature, stream(0, Stream.ROLLOUT, index))
        return [text for text, *_ in said]
    assert first(1.0, 1) == first(1.0, 1) != first(1.0, 2)
    assert len(set(first(1.0, 1))) > 30 and len(set(first(1e-3, 1))) == 1


def proposing(run_dir, *overrides: str) -> Selfplay:
    profile = load_profile("toy", ["curriculum.tasks={parity=1.0,add=1.0,copy=1.0}",
                                   "selfplay.tasks={parity=4,add=4}", "selfplay.questions=8",
                                   "selfplay.propose_fraction=0.5", *overrides])
    dataset = Dataset(profile.curriculum, profile.identity, 0)
    return Selfplay(profile.selfplay, dataset, RunDir(run_dir), 0, 129)


def free(text: str) -> bool:
    return not is_holdout(text.encode())


def test_the_brain_asks_itself_what_it_says_and_learns_what_it_answers_right(tmp_path):
    play, asked, draws = proposing(tmp_path), [], []
    new = [f"{a}+{b}=" for a in range(100, 120) for b in (7, 8)]
    good = (text for text in new if free(text))
    kept = next(text for text in new if not free(text))
    mine = [next(good), next(good), next(good)]
    said = [mine[0] + "999", mine[1], mine[0] + "1", kept + "5", mine[2], "abc>abc", "1+", ""]

    def rollout(prompts, longest, temperature, seed, index):
        draws.append(index)
        if set(prompts) == {bytes([END])}:
            assert temperature == 1.0 and longest == 129
            return [Answer(text.encode(), True, 0.5, 1.0) for text in said]
        asked.append(prompts)
        return [Answer(b"1" if p.endswith(b"#") else
                       b"5" if p == mine[2].encode() else
                       str(sum(map(int, p[:-1].split(b"+")))).encode(), True, 0.1, 1.0)
                for p in prompts]
    rounds = play.play(10, 0, rollout)
    assert asked[2:] == [[text.encode() for text in mine]]   # none of parity's, of copy's or kept
    assert len(set(draws)) == len(draws) == 4
    assert [(r.task, r.level, r.asked, len(r.passed)) for r in rounds[2:]] == [
        ("parity", 0, 0, 0), ("add", 0, 3, 2)]
    assert {item.prompt.decode() for item in play.won["add", 0]} == set(mine[:2])
    again = proposing(tmp_path, "selfplay.every_steps=10")
    assert again.rounds == [] and again.frontier(again.dataset.tasks["add"]) == 4
    play.play(20, 0, rollout)
    assert asked[-1] == [mine[2].encode()]   # what was won is not new
    assert not {*draws[:4]} & {*draws[4:]}


def test_prompts_are_learnt_of_a_share_of_what_plays_and_then_without_parts(tmp_path):
    play = proposing(tmp_path)
    dataset = play.dataset
    plain = dataset.batch(CurriculumState(6, 6), 5, 16, 128)
    batch = dataset.batch(CurriculumState(6, 6), 5, 16, 128, (), play.teaches_to_ask)
    assert (batch.tokens == plain.tokens).all()
    counts: dict[tuple[str, bool], int] = {}
    for tokens, targets in zip(batch.tokens, batch.targets):
        following = np.append(tokens[1:], 255)
        starts = [0, *(np.flatnonzero(tokens == END) + 1)]
        for start, end in zip(starts, starts[1:]):
            text = bytes(tokens[start:end].astype(np.uint8))
            task = next(t for t in dataset.tasks.values() if t.parse_prompt(text))
            prompt = task.parse_prompt(text)
            whole = play.teaches_to_ask(Item(task.name, 1, prompt, text[len(prompt):]))
            counts[task.name, whole] = counts.get((task.name, whole), 0) + 1
            inside = slice(start, start + len(prompt) - 1)
            if whole:
                assert (targets[inside] == following[inside]).all()
                assert start == 0 or targets[start - 1] == prompt[0]
            elif task.name != "parity":
                assert (targets[inside] == -1).all()
    assert not counts.get(("copy", True)) and counts["copy", False] > 5
    for name in ("add", "parity"):
        assert 0.3 < counts[name, True] / (counts[name, True] + counts[name, False]) < 0.7
    assert not any(proposing(tmp_path, "selfplay.propose_fraction=0.0").teaches_to_ask(item)
                   for item in dataset.holdout(5))


def kill_when(command: list[str], path: Path, lines: int) -> None:
    """Runs a command until a file has so many lines, and kills all of it."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               start_new_session=True)
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def command(run_dir, steps: int) -> list[str]:
    """Answers of one byte to short questions: some are right by chance."""
    return [sys.executable, "-m", "seed", "train", "--profile", "fast", f"--steps={steps}",
            "--run-dir", str(run_dir), "--threads=1", "--set=curriculum.tasks={parity=1.0}",
            "--set=selfplay.tasks={parity=4}", "--set=selfplay.every_steps=4",
            "--set=selfplay.propose_fraction=0.3",
            "--set=selfplay.questions=32", "--set=train.batch_size=2", "--set=train.lr=0.01",
            "--set=curriculum.holdout_items=4", "--set=train.save_every_minutes=0.002",
            "--set=train.write_gb_per_day=1e6", "--set=train.seq_len=280",
            "--set=model.d_model=32"]


def test_a_killed_run_with_selfplay_goes_on_to_the_same_bits(tmp_path):
    whole = subprocess.run(command(tmp_path / "whole", 120), capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    rounds = [json.loads(line)
              for line in RunDir(tmp_path / "whole").selfplay_log.read_text().splitlines()]
    assert [row["step"] for row in rounds] == [step for step in range(4, 120, 4) for _ in range(2)]
    assert sum(len(row["passed"]) for row in rounds) > 20
    for rounds_before in (6, 22, 40):
        kill_when(command(tmp_path / "killed", 120), RunDir(tmp_path / "killed").selfplay_log,
                  rounds_before)
    subprocess.run(command(tmp_path / "killed", 120), capture_output=True, check=True)
    for name in ("checkpoint.safetensors", "selfplay.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


@pytest.mark.parametrize("overrides, says", [
    (["selfplay.tasks={copy=4}"], "selfplay.tasks.copy is not among the lessons"),
    (["selfplay.propose_fraction=0.1"],
     "selfplay.propose_fraction: .*.*addition.py:Addition has none"),
    (["selfplay.propose_fraction=1.5"], "selfplay.propose_fraction is 1.5: use 0.0 to 1.0"),
    (["selfplay.verify=false"], "selfplay.verify is false: use at least 2 votes"),
    (["selfplay.data_fraction=1.0"], "selfplay.data_fraction is 1.0: use 0.0 to 0.95")])
def test_bad_input_to_selfplay_is_one_line(tmp_path, overrides, says):
    with pytest.raises(ConfigError, match=says):
        play_of(tmp_path, *overrides)
