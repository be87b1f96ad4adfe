"""The example of a user task with questions, labels and levels: trained, resumed, evaluated,
exported."""
import json
import random
import signal
from pathlib import Path

import pytest

from seed.__main__ import main
from seed.curriculum.user_items import runs
from seed.curriculum.user_tasks import load
from seed.storage import RunDir
from tests.support.tiny_run import start_tiny, wait_and_read_stderr, wait_for_step

ROOT = Path(__file__).parents[2]
TASK = f"{ROOT / 'examples/recall_task.py'}:MultiQueryRecall"
STEPS = 60
OPTIONS = ("--set=curriculum.tasks={}", f"--task={TASK}", "--set=train.seq_len=96",
           "--set=curriculum.eval_every_steps=20", "--set=curriculum.eval_items=2",
           "--set=train.write_gb_per_day=1e6")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    """Of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("recall")
    process = start_tiny(folder, *OPTIONS, steps=STEPS)
    errors = wait_and_read_stderr(process)
    assert process.returncode == 0, errors
    return folder


def test_all_that_the_example_asks_follows_from_its_pairs():
    task = load(TASK)
    assert len(task.levels) == 4 and len(task.extrapolation_levels) == 2 and task.stepwise
    rng, n_labels = random.Random(0), 0
    for level in (*task.levels, *task.extrapolation_levels):
        for _ in range(20):
            item = task.generate(rng, level)
            pairs, _, asked = item.prompt.decode().partition("|")
            values = dict(zip(pairs[::2], pairs[1::2]))
            assert len(values) == (2, 4, 8, 16, 20, 24)[level - 1]
            assert item.answer.decode() == values[asked[-1]]
            questions, labels = runs(item.questions), runs(item.labels)
            assert [chr(item.prompt[end - 1]) for end, _ in questions] == list(asked[:-1:2])
            for end, text in (*questions, *labels):
                assert text.decode() == values[chr(item.prompt[end - 1])]
            assert all(item.prompt.index(item.prompt[end - 1]) < end - 1 for end, _ in labels)
            n_labels += len(labels)
    assert n_labels > 100


def test_a_stop_and_a_resume_end_in_the_same_bits(run_dir, tmp_path):
    process = start_tiny(tmp_path, *OPTIONS, steps=STEPS)
    wait_for_step(tmp_path, 30, process)
    process.send_signal(signal.SIGTERM)
    assert "run the same command to resume" in wait_and_read_stderr(process)
    process = start_tiny(tmp_path, *OPTIONS, steps=STEPS)
    errors = wait_and_read_stderr(process)
    assert process.returncode == 0, errors
    assert RunDir(tmp_path).checkpoint.read_bytes() == RunDir(run_dir).checkpoint.read_bytes()


def test_it_is_evaluated_at_all_levels_and_exported_with_its_questions(run_dir, tmp_path, capsys):
    assert main(["eval", f"--task={TASK}", "--json", f"--run-dir={run_dir}"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [row["level"] for row in results["holdout"]] == [1, 2, 3, 4]
    assert [row["level"] for row in results["extrapolation"]] == [5, 6]
    for row in (*results["holdout"], *results["extrapolation"]):
        assert row["tokens"] == 4 * row["count"]   # three questions and one byte of an answer
    assert main(["export", f"--task={TASK}", f"--run-dir={run_dir}",
                 f"--out={tmp_path / 'recall.tflite'}"]) == 0
    assert (tmp_path / "recall.tflite").exists()
