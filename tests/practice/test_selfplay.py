"""Self-play: what is accepted, how levels are promoted, and that killed runs resume bit for bit."""
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seed.curriculum.dataset import Dataset
from seed.curriculum.task import Item, is_holdout
from seed.curriculum.vocab import END
from seed.errors import ConfigError
from seed.practice.selfplay import Selfplay
from seed.profile_file import load_profile
from seed.storage.run_dir import Log, RunDir
from seed.wavecore.decode import Rollout
from tests.support.items import UNLOCKED
from tests.support.processes import kill_at_line

TASK = f"{Path(__file__).parents[1] / 'support/addition.py'}:Addition"
BY_VOTE = ("selfplay.verify=false", "selfplay.temperature=1.0")


def selfplay_of(folder: Path, *overrides: str, step: int = 0, log: Log = print) -> Selfplay:
    """Self-play of the user task `Addition`, whose training levels are 1 to 6, up to level 9."""
    profile = load_profile("toy", ["curriculum.tasks={}", f'selfplay.tasks={{"{TASK}"=9}}',
                                   "selfplay.questions=8", "selfplay.every_steps=10", *overrides],
                           [TASK])
    dataset = Dataset(profile.curriculum, profile.identity, 0)
    return Selfplay(profile.selfplay, dataset, RunDir(folder), step, 129, log)


def proposing(folder: Path, *overrides: str) -> Selfplay:
    profile = load_profile("toy", ["curriculum.tasks={parity=1.0,add=1.0,copy=1.0}",
                                   "selfplay.tasks={parity=4,add=4}", "selfplay.questions=8",
                                   "selfplay.propose_fraction=0.5", *overrides])
    dataset = Dataset(profile.curriculum, profile.identity, 0)
    return Selfplay(profile.selfplay, dataset, RunDir(folder), 0, 129, print)


def right(prompt: bytes) -> bytes:
    left, second = prompt[:-1].decode().split("+")
    total = sum(int(number[::-2]) for number in (left, second))
    digits = f"{total:0{max(len(left), len(second)) // 2 + 1}d}"[::-1]
    return "".join(chr(97 + (ord(left[0]) - 97 + i) % 26) + digit
                   for i, digit in enumerate(digits)).encode()


def knows(fraction: float):
    """A rollout that is right for the first prompts and wrong for the others."""
    def rollout(prompts, max_bytes, temperature, seed, index):
        n = round(fraction * len(prompts))
        return [Rollout(right(p) if i < n else b"9" * len(right(p)), True, 0.1, 1.0, 0.9)
                for i, p in enumerate(prompts)]
    return rollout


def prompts_of(selfplay: Selfplay, step: int = 10) -> list[bytes]:
    return selfplay._prompts(selfplay.dataset.tasks[TASK], 7, 0, step)


def test_only_right_answers_to_training_questions_of_the_next_level_are_accepted(tmp_path):
    selfplay = selfplay_of(tmp_path)
    row, = selfplay.play(10, 0, knows(0.5))
    assert (row.level, row.questions, len(row.accepted)) == (7, 8, 4)
    for item in selfplay.accepted[TASK, 7]:
        assert item.answer == right(item.prompt) and not is_holdout(item.prompt)
        assert max(map(len, item.prompt[:-1].split(b"+"))) == 14 and item.level == 7


def test_an_unterminated_answer_is_rejected(tmp_path):
    row, = selfplay_of(tmp_path).play(10, 0, lambda prompts, *_: [
        Rollout(right(p), False, 0.1, 1.0, 0.9) for p in prompts])
    assert not row.accepted and row.ended == 0


@pytest.mark.parametrize("verify", ["", "selfplay.verify=false"])
def test_an_answer_with_high_entropy_or_unusual_states_is_rejected(tmp_path, verify):
    selfplay = selfplay_of(tmp_path, "selfplay.votes=2", "selfplay.temperature=1.0",
                           "selfplay.max_entropy=0.5", *verify.split())
    entropy_and_peak = {0: (0.6, 1.0), 1: (0.1, 4.1), 2: (0.1, float("nan")),
                        3: (float("nan"), 1.0), 4: (0.5, 4.0)}
    row, = selfplay.play(10, 0, lambda prompts, *_: [
        Rollout(right(p), True, *entropy_and_peak.get(i, (0.5, 1.0)), 0.9)
        for i, p in enumerate(prompts)])
    assert [item.prompt for item in row.accepted] == prompts_of(selfplay)[4:]
    assert (row.ended, row.confident) == (16, 8)


def test_a_level_is_promoted_when_enough_is_accepted_up_to_the_highest(tmp_path):
    selfplay = selfplay_of(tmp_path)
    for step, fraction in ((10, 0.5), (20, 1.0), (30, 0.75), (40, 1.0), (50, 1.0), (60, 1.0)):
        selfplay.play(step, 0, knows(fraction))
    assert [row.level for row in selfplay.rounds] == [7, 7, 8, 8, 9, 9]


def test_each_level_has_the_same_data_fraction(tmp_path):
    """From as many items as a round has questions, 8: fewer items get less."""
    selfplay = selfplay_of(tmp_path, "selfplay.data_fraction=0.3")
    assert selfplay.pools() == []
    for step, fraction in ((10, 0.75), (20, 1.0), (30, 0.25)):
        selfplay.play(step, 0, knows(fraction))
    assert [(fraction, len(items)) for fraction, items in selfplay.pools()] == [
        (pytest.approx(0.24), 14), (pytest.approx(0.06), 2)]
    selfplay.play(40, 0, knows(0.75))
    assert [fraction for fraction, _ in selfplay.pools()] == [0.15, 0.15]


def test_what_was_accepted_by_vote_is_verified_once_verify_is_on(tmp_path):
    selfplay_of(tmp_path, *BY_VOTE, "selfplay.votes=2").play(10, 0, knows(0.5))
    resumed = selfplay_of(tmp_path, *BY_VOTE, "selfplay.votes=2", step=20)
    assert [len(items) for _, items in resumed.pools()] == [8]
    (_, items), = selfplay_of(tmp_path, "selfplay.verify=true", step=20).pools()
    assert len(items) == 4 and all(item.answer == right(item.prompt) for item in items)
    assert selfplay_of(tmp_path, "selfplay.tasks={}", step=20).pools() == []


@pytest.mark.parametrize("task, n_levels", [("parity", 4), ("identity", 3), ("asked", 3),
                                            ("unknown", 3)])
def test_a_level_that_a_task_lacks_is_rejected_at_the_start(tmp_path, task, n_levels):
    profile = load_profile("toy", [f"selfplay.tasks={{{task}={n_levels}}}"])
    dataset = Dataset(profile.curriculum, profile.identity, 0)
    Selfplay(profile.selfplay, dataset, RunDir(tmp_path), 0, 129, print)
    with pytest.raises(ConfigError, match=f"tasks.{task} is {n_levels + 1}: .* {n_levels} levels"):
        Selfplay(replace(profile.selfplay, tasks={task: n_levels + 1}), dataset, RunDir(tmp_path),
                 0, 129, print)


def test_a_round_is_due_once_every_so_many_steps(tmp_path):
    selfplay = selfplay_of(tmp_path)
    assert [step for step in range(25) if selfplay.is_due(step)] == [10, 20]
    selfplay.play(10, 0, knows(1.0))
    assert not selfplay.is_due(10) and selfplay.is_due(20)
    assert not selfplay_of(tmp_path, "selfplay.tasks={}").is_due(20)


def test_by_vote_the_majority_is_accepted_unless_it_is_short(tmp_path):
    selfplay = selfplay_of(tmp_path, *BY_VOTE, "selfplay.votes=5", "selfplay.majority=0.8")
    indices: list[int] = []

    def rollout(prompts, max_bytes, temperature, seed, index):
        """Prompt 1: three of five agree; 2: all agree on a short one; others: all agree."""
        indices.append(index)
        texts = [b"12345678"] * len(prompts)
        texts[1] = b"12345678" if len(indices) <= 3 else b"87654321"
        texts[2] = b"1"
        return [Rollout(text, True, 0.1, 1.0, 0.9) for text in texts]
    row, = selfplay.play(10, 0, rollout)
    assert len(set(indices)) == 5
    prompts = prompts_of(selfplay)
    assert [item.prompt for item in row.accepted] == [prompts[0], *prompts[3:]]
    assert row.agreement == pytest.approx((7 + 0.6) / 8)


def test_a_resumed_run_drops_later_rounds_and_a_torn_line(tmp_path):
    selfplay, path = selfplay_of(tmp_path), RunDir(tmp_path).selfplay_log
    for step in (10, 20, 30):
        selfplay.play(step, 0, knows(1.0))
    before = path.read_bytes()
    with open(path, "ab") as file:
        file.write(b'{"step": 40, "ta')
    resumed = selfplay_of(tmp_path, step=30)
    assert resumed.rounds == selfplay.rounds[:2] and resumed.accepted == {
        (TASK, level): selfplay.accepted[TASK, level] for level in (7, 8)}
    resumed.play(30, 0, knows(1.0))
    assert path.read_bytes() == before


def test_a_full_disk_costs_the_round_a_line_in_the_log_and_nothing_else(tmp_path):
    lines: list[str] = []
    selfplay = selfplay_of(tmp_path, log=lines.append)
    selfplay.play(10, 0, knows(1.0))
    selfplay.file.path = Path("/dev/full")
    assert not lines and selfplay.play(20, 0, knows(1.0)) == []
    assert lines == ["self-play round of step 20 dropped: cannot write /dev/full; free disk space "
                     "or check the card"]
    assert len(selfplay.accepted[TASK, 7]) == len(selfplay.pools()[0].items) == 8
    selfplay.file.path = RunDir(tmp_path).selfplay_log
    selfplay.play(30, 0, knows(1.0))
    assert selfplay_of(tmp_path, step=100).rounds == selfplay.rounds


def test_a_pool_has_its_fraction_of_a_batch_and_no_intermediate_targets():
    profile = load_profile(
        "toy", ["curriculum.tasks={parity=1.0}", "curriculum.eval_every_steps=0"])
    dataset = Dataset(profile.curriculum, profile.identity, 0)
    long = Item("parity", 4, b"10" * 25 + b"#", b"1")
    plain, mixed, only, empty = (dataset.batch(UNLOCKED, 5, 16, 128, pools) for pools in (
        [], [(0.5, [long])], [(1.0, [long])], [(0.5, [])]))
    assert (empty.tokens == plain.tokens).all() and (mixed.tokens != plain.tokens).any()
    assert b"10" * 25 + b"#1" in mixed.tokens.astype(np.uint8).tobytes()
    assert set(only.targets[only.targets >= 0]) == {ord("1"), END}
    assert set(mixed.targets[mixed.targets >= 0]) == {ord("0"), ord("1"), END}


def is_trainable(text: str) -> bool:
    return not is_holdout(text.encode())


def test_sampled_texts_that_parse_as_new_questions_join_the_round(tmp_path):
    selfplay, prompts_asked, indices = proposing(tmp_path), [], []
    texts = [f"{a}+{b}=" for a in range(100, 120) for b in (7, 8)]
    first, second, third = [text for text in texts if is_trainable(text)][:3]
    held_out = next(text for text in texts if not is_trainable(text))
    samples = [first + "999", second, first + "1", held_out + "5", third, "abc>abc", "1+", ""]

    def rollout(prompts, max_bytes, temperature, seed, index):
        """Right, but for the third question and about half of the parities."""
        indices.append(index)
        if set(prompts) == {bytes([END])}:
            assert temperature == 1.0 and max_bytes == 129
            return [Rollout(text.encode(), True, 0.5, 1.0, 0.9) for text in samples]
        prompts_asked.append(prompts)
        return [Rollout(b"1" if p.endswith(b"#") else
                        b"5" if p == third.encode() else
                        str(sum(map(int, p[:-1].split(b"+")))).encode(), True, 0.1, 1.0, 0.9)
                for p in prompts]
    rounds = selfplay.play(10, 0, rollout)
    assert prompts_asked[2:] == [[text.encode() for text in (first, second, third)]]
    assert len(set(indices)) == len(indices) == 4
    assert [(r.task, r.level, r.questions, len(r.accepted)) for r in rounds[2:]] == [
        ("parity", 0, 0, 0), ("add", 0, 3, 2)]
    assert {item.prompt.decode() for item in selfplay.accepted["add", 0]} == {first, second}
    fresh = proposing(tmp_path, "selfplay.every_steps=10")
    assert fresh.rounds == [] and fresh.next_level(fresh.dataset.tasks["add"]) == 4
    selfplay.play(20, 0, rollout)
    assert prompts_asked[-1] == [third.encode()]   # what was accepted is not new
    assert not {*indices[:4]} & {*indices[4:]}


def test_a_fraction_of_the_prompts_is_trained_and_then_without_intermediate_targets(tmp_path):
    selfplay = proposing(tmp_path)
    dataset = selfplay.dataset
    plain = dataset.batch(UNLOCKED, 5, 16, 128)
    batch = dataset.batch(UNLOCKED, 5, 16, 128, (), selfplay.learns_prompt)
    assert (batch.tokens == plain.tokens).all()
    counts = Counter[tuple[str, bool]]()
    for tokens, targets in zip(batch.tokens, batch.targets):
        following = np.append(tokens[1:], 255)
        starts = [0, *(np.flatnonzero(tokens == END) + 1)]
        for start, end in zip(starts, starts[1:]):
            text = bytes(tokens[start:end].astype(np.uint8))
            task = next(t for t in dataset.tasks.values() if t.parse_prompt(text))
            prompt = task.parse_prompt(text)
            learns = selfplay.learns_prompt(Item(task.name, 1, prompt, text[len(prompt):]))
            counts[task.name, learns] += 1
            inside = slice(start, start + len(prompt) - 1)
            if learns:
                assert (targets[inside] == following[inside]).all()
                assert start == 0 or targets[start - 1] == prompt[0]
            elif task.name != "parity":
                assert (targets[inside] == -1).all()
    assert not counts["copy", True] and counts["copy", False] > 5
    for name in ("add", "parity"):
        assert 0.3 < counts[name, True] / (counts[name, True] + counts[name, False]) < 0.7
    without = proposing(tmp_path, "selfplay.propose_fraction=0.0")
    assert not any(map(without.learns_prompt, dataset.holdout(5)))


def command(folder: Path, steps: int) -> list[str]:
    """Short questions with answers of one byte: some are right by chance."""
    settings = ("curriculum.tasks={compare=1.0}", "selfplay.tasks={compare=4}",
                "selfplay.every_steps=4", "selfplay.propose_fraction=0.3",
                "selfplay.questions=32", "train.batch_size=2", "train.lr=0.01",
                "curriculum.holdout_items=4", "train.save_every_minutes=0.002",
                "train.write_gb_per_day=1e6", "train.seq_len=64")
    return [sys.executable, "-m", "seed", "train", "--profile", "fast", f"--steps={steps}",
            "--run-dir", str(folder), "--threads=1", *(f"--set={text}" for text in settings)]


@pytest.mark.parametrize("moments", [
    (32,), pytest.param((6, 32), marks=pytest.mark.long)], ids=["once", "twice"])
def test_a_killed_run_with_selfplay_resumes_to_the_same_bits(tmp_path, moments):
    whole, killed = RunDir(tmp_path / "whole"), RunDir(tmp_path / "killed")
    done = subprocess.run(command(whole.path, 80), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rounds = [json.loads(line) for line in whole.selfplay_log.read_text().splitlines()]
    assert [row["step"] for row in rounds] == [step for step in range(4, 80, 4) for _ in range(2)]
    assert sum(len(row["accepted"]) for row in rounds if row["level"]) > 20
    assert any(row["accepted"] for row in rounds if not row["level"])
    for n_lines in moments:
        kill_at_line(command(killed.path, 80), killed.selfplay_log, n_lines)
    subprocess.run(command(killed.path, 80), capture_output=True, check=True)
    assert whole.checkpoint.read_bytes() == killed.checkpoint.read_bytes()
    assert whole.selfplay_log.read_bytes() == killed.selfplay_log.read_bytes()


def test_questions_in_words_are_played_at_their_levels_and_none_that_is_held_out(tmp_path):
    profile = load_profile("toy", ["curriculum.tasks={add=1.0,asked=1.0,unknown=1.0}",
                                   "selfplay.tasks={asked=3,unknown=3}"])
    dataset = Dataset(profile.curriculum, profile.identity, 0)
    play = Selfplay(profile.selfplay, dataset, RunDir(tmp_path), 0, 129, print)
    for name in ("asked", "unknown"):
        task = dataset.tasks[name]
        prompts = play._prompts(task, play.next_level(task), 0, 0)
        assert len(prompts) == 64 and not any(map(task.is_held_out, prompts))
        assert task.parse_prompt(prompts[0]) == b""


@pytest.mark.parametrize("overrides, message", [
    (["selfplay.tasks={copy=4}"], "selfplay.tasks.copy is not trained"),
    (["selfplay.propose_fraction=0.1"],
     "selfplay.propose_fraction needs .*addition.py:Addition has none"),
    (["selfplay.propose_fraction=1.5"], "selfplay.propose_fraction is 1.5: use 0.0 to 1.0"),
    (["selfplay.verify=false"], "selfplay.verify is False: use true, or at least 2 votes"),
    (["selfplay.data_fraction=1.0"], "selfplay.data_fraction is 1.0: use 0.0 to 0.95")])
def test_wrong_settings_are_one_line(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        selfplay_of(tmp_path, *overrides)
