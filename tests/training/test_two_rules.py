"""A trained brain learns one rule and then another, and does not learn labels that are shuffled."""
import hashlib
import json
import random
from collections.abc import Sequence

import pytest

from seed.evaluation import TrainedBrain
from seed.evaluation.acceptance import Limits
from seed.evaluation.on_data import trained_on_data
from seed.profile_file import load_profile
from seed.storage import RunDir
from seed.training import adapt_brain, train
from seed.training.stop_signals import StopSignals

STEPS = 400
N_EXAMPLES, N_UNSEEN = 400, 1000
RULES = {"~": max, "&": min}   # by the sign between two numbers


def write(path, rows: Sequence[tuple[str, int]]) -> str:
    path.write_text("".join(json.dumps({"prompt": prompt, "answer": str(answer)}) + "\n"
                            for prompt, answer in rows))
    return str(path)


def rows_of(sign: str) -> list[tuple[str, int]]:
    """Of all pairs of numbers, in random order."""
    pairs = [(x, y) for x in range(1, 100) for y in range(1, 100)]
    random.Random(sign).shuffle(pairs)
    return [(f"{x}{sign}{y}=", RULES[sign](x, y)) for x, y in pairs]


@pytest.mark.long
def test_the_second_rule_costs_the_first_three_points_at_most_and_shuffled_labels_cost_no_bit(
        tmp_path):
    run_dir = RunDir(tmp_path / "run")
    train(load_profile("toy", ["curriculum.tasks={copy = 1.0, compare = 1.0, add = 1.0}",
                               f"train.steps={STEPS}"]), run_dir, 2, lambda line: None)

    def adapt(data: str):
        return adapt_brain(run_dir, data, 2, lambda line: None, StopSignals(), steps=STEPS,
                           limits=Limits())

    def accuracy(data: str) -> float:
        row = trained_on_data(TrainedBrain.load(run_dir, 2, lambda line: None), data)[0]
        return row.correct / row.n
    unseen = {sign: write(tmp_path / f"{rule.__name__}-unseen.jsonl", rows_of(sign)[-N_UNSEEN:])
              for sign, rule in RULES.items()}
    accuracies = []
    for sign, rule in RULES.items():
        data = write(tmp_path / f"{rule.__name__}.jsonl", rows_of(sign)[:N_EXAMPLES])
        assert not adapt(data).refusal
        accuracies.append(accuracy(unseen["~"]))
    assert accuracies[0] > 0.5 and accuracies[1] >= accuracies[0] - 0.03, accuracies
    assert accuracy(unseen["&"]) > 0.5

    rows = rows_of("&")[N_EXAMPLES:2 * N_EXAMPLES]
    answers = [answer for _, answer in rows]
    random.Random(0).shuffle(answers)
    before = hashlib.sha256(run_dir.checkpoint.read_bytes()).hexdigest()
    result = adapt(write(tmp_path / "shuffled.jsonl", [
        (prompt.replace("&", "^"), answer) for (prompt, _), answer in zip(rows, answers)]))
    assert result.refusal.startswith("shuffled.jsonl is not learnt")
    assert hashlib.sha256(run_dir.checkpoint.read_bytes()).hexdigest() == before
