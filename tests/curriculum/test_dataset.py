"""Batches, their loss mask, and a holdout that no training item of any seed belongs to."""
import hashlib
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from seed.config import CurriculumConfig
from seed.curriculum.dataset import IGNORE, Batch, Dataset
from seed.curriculum.state import CurriculumState
from seed.curriculum.tasks import NAMES
from seed.curriculum.vocab import PAD, encode
from seed.errors import ConfigError
from seed.profile_file import load_profile
from tests.support.items import (IDENTITY, UNLOCKED, dataset_of, is_held_out, task_of,
                                 unpack)
from tests.support.solvers import solve


def short_hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=6).hexdigest()


def test_batches_and_held_out_items_are_those_that_they_always_were():
    dataset = dataset_of(intermediate_targets=True)
    assert short_hash(b"".join(array.tobytes() for step in range(3) for array in dataset.batch(
        UNLOCKED, step, 16, 128))) == "a62548af89bb"
    for items, golden in ((dataset.holdout(5), "a540780ecd78"),
                          (dataset.evaluation_items(UNLOCKED), "7f30ab59d190"),
                          (dataset.extrapolation(5), "05d676d08f69")):
        assert short_hash(repr([item[:4] for item in items]).encode()) == golden


def test_holdout_and_training_share_no_prompt_for_any_seed():
    holdout = {item.prompt for seed in (0, 1) for item in dataset_of(seed).holdout(33)}
    holdout |= {item.prompt for item in dataset_of().extrapolation(33)}
    assert all(is_held_out(dataset_of(), prompt) for prompt in holdout)
    for seed in (0, 1, 42, 43):
        trained = {prompt for step in range(40)
                   for prompt, _ in unpack(dataset_of(seed).batch(UNLOCKED, step, 5, 127))}
        assert not trained & holdout
        assert not any(is_held_out(dataset_of(), prompt) for prompt in trained)


def test_held_out_items_do_not_depend_on_the_run_s_seed_or_the_other_tasks():
    assert dataset_of(1).holdout(7) == dataset_of(2).holdout(7)
    alone = dataset_of(3, parity=1.0, copy=0.0)
    assert list(alone.tasks) == ["parity"]
    for name in ("holdout", "extrapolation"):
        mixed = getattr(dataset_of(), name)(7)
        assert getattr(alone, name)(7) == [item for item in mixed if item.task == "parity"]


def test_held_out_items_are_distinct_and_balanced_over_few_answers():
    identity = {f"question {i}": f"answer {i}" for i in range(40)}
    dataset = Dataset(CurriculumConfig(tasks=dict.fromkeys(NAMES, 1.0)), identity, 0)
    for items in (dataset.holdout(16), dataset.evaluation_items(UNLOCKED),
                  dataset.extrapolation(16)):
        assert len(set(items)) == len(items)
    answers = {item.answer for item in dataset.evaluation_items(UNLOCKED)
               if item.task == "identity"}
    assert answers == set(dataset.tasks["identity"].answers)


def test_every_question_of_the_identity_table_is_taught_in_some_wording():
    table = load_profile("seed").identity
    dataset = Dataset(CurriculumConfig(tasks={"identity": 1.0}), table, 0)
    items = dataset._training_items(UNLOCKED, 0, 200 * 40 * len(table), 999, ())
    taught = set(table) - dataset.tasks["identity"].held_out   # which ask what others ask too
    assert {table[question] for question in taught} == set(table.values())
    for question, answer in table.items():
        if question not in taught:
            continue
        wordings = {item.prompt for item in items if item.answer == encode(answer)
                    and question.casefold().strip(" ?") in item.prompt.decode().casefold()}
        assert len(wordings) >= 5, question


def test_a_batch_is_a_pure_function_of_seed_and_step():
    dataset = dataset_of(5)
    first = dataset.batch(UNLOCKED, 3, 4, 128)
    dataset.batch(UNLOCKED, 9, 4, 128)
    again = dataset_of(5).batch(UNLOCKED, 3, 4, 128)
    assert all(np.array_equal(a, b) and a.dtype == np.int32 for a, b in zip(first, again))
    for batch in (dataset.batch(UNLOCKED, 4, 4, 128), dataset_of(6).batch(UNLOCKED, 3, 4, 128)):
        assert not np.array_equal(first.tokens, batch.tokens)


@pytest.mark.parametrize("rows, seq_len", [(1, 113), (3, 129), (16, 128)])
def test_rows_are_whole_items_whose_loss_mask_is_the_answers(rows, seq_len):
    dataset = dataset_of()
    batch = dataset.batch(UNLOCKED, 0, rows, seq_len)
    assert batch.tokens.shape == batch.targets.shape == (rows, seq_len)
    pairs = unpack(batch)
    assert len(pairs) > rows
    assert all(any(task.verify(*pair) for task in dataset.tasks.values()) for pair in pairs)
    targets = batch.targets[:, :-1]
    assert np.array_equal(targets[targets >= 0], batch.tokens[:, 1:][targets >= 0])


def test_rows_are_full_and_tasks_occur_by_their_weights():
    dataset = Dataset(CurriculumConfig(tasks=dict.fromkeys(NAMES, 1.0), eval_every_steps=0,
                                       intermediate_targets=False), IDENTITY, 0)
    batches = [dataset.batch(UNLOCKED, step, 16, 128) for step in range(40)]
    assert np.mean([batch.tokens == PAD for batch in batches]) < 0.02
    counts = Counter(task_of(dataset, prompt) for batch in batches for prompt, _ in unpack(batch))
    expected = counts.total() / len(NAMES)
    for name in NAMES:
        assert abs(counts[name] - expected) < 4 * expected ** 0.5, (name, counts)


def test_intermediate_targets_answer_subquestions_that_are_not_of_the_holdout():
    plain_dataset, dataset = dataset_of(), dataset_of(intermediate_targets=True)
    counts = Counter()
    for step in range(20):
        plain, batch = (d.batch(UNLOCKED, step, 16, 128) for d in (plain_dataset, dataset))
        assert np.array_equal(plain.tokens, batch.tokens)
        loss_mask = plain.targets != IGNORE
        assert np.array_equal(plain.targets[loss_mask], batch.targets[loss_mask])
        for tokens, is_answer, targets in zip(batch.tokens, loss_mask, batch.targets):
            expected, start = np.where(is_answer, targets, IGNORE), 0
            for prompt, answer in unpack(Batch(tokens[None], expected[None].copy())):
                task = task_of(dataset, prompt)
                for end, question, text in dataset.tasks[task].intermediate_targets(
                        prompt.decode()):
                    assert text == solve(task, encode(question), IDENTITY)
                    if not dataset.tasks[task].is_held_out(encode(question)):
                        ahead = os.path.commonprefix([prompt[end:], encode(text)])
                        learnt = list(encode(text)[:len(ahead) + 1])
                        expected[start + end - 1:start + end - 1 + len(learnt)] = learnt
                        counts[task] += 1
                start += len(prompt) + len(answer) + 1
            assert np.array_equal(targets, expected)
    assert set(counts) == {"next", "missing", "parity", "modular", "cycle", "boolean", "assign",
                           "recall", "story", "brackets", "nested"}


def test_an_item_that_outgrows_a_row_is_not_drawn_and_rows_too_short_for_all_are_rejected():
    dataset = dataset_of(recall=1.0)
    assert max(len(prompt + answer) for prompt, answer in unpack(
        dataset.batch(UNLOCKED, 0, 8, 40))) <= 40
    with pytest.raises(ConfigError, match="train.seq_len is 12: an item of recall needs"):
        dataset.check(12)
    with pytest.raises(ConfigError, match="no task of grade 4 or below"):
        dataset.batch(CurriculumState(4, 4), 0, 1, 128)


def test_wrong_configs_are_rejected_with_the_fix():
    with pytest.raises(ConfigError, match="curriculum.tasks.substract is unknown; .* subtract"):
        dataset_of(substract=1.0)
    with pytest.raises(ConfigError, match="identity is empty"):
        Dataset(CurriculumConfig(tasks={"identity": 1.0}), {}, 0)
    with pytest.raises(ConfigError, match="train.seq_len is 2: .* use at least"):
        dataset_of(copy=1.0).batch(UNLOCKED, 0, 1, 2)


def test_the_dataset_never_imports_tinygrad():
    code = "import sys, seed.curriculum.dataset; sys.exit('tinygrad' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.long
def test_ten_million_training_items_of_five_seeds_contain_none_that_is_held_out():
    dataset = dataset_of()
    held_out = {item.prompt for n in (16, 64, 1000) for item in (
        *dataset.holdout(n), *dataset.extrapolation(n))}
    held_out |= {item.prompt for item in dataset.evaluation_items(UNLOCKED)}
    assert len(held_out) > 50_000 and all(is_held_out(dataset, prompt) for prompt in held_out)
    for seed in range(5):
        dataset, count, step = dataset_of(seed), 0, 0
        while count < 2_000_000:
            prompts = [prompt for prompt, _ in unpack(dataset.batch(UNLOCKED, step, 512, 128))]
            assert not held_out.intersection(prompts)
            assert not any(is_held_out(dataset, prompt) for prompt in prompts)
            count, step = count + len(prompts), step + 1
