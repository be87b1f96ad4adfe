"""Attacks and reports of the kind: a brain from anywhere is data, for every command."""
import shutil
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
import safetensors.numpy

from seed.practice import distill
from seed.storage import RunDir, checkpoint
from tests.support.attack_run import PEAK_MB, forge, is_refused, seed, train, works
from tests.support.tiny_run import TINY

pytestmark = pytest.mark.long
TASK = """open({mark!r}, "w").write("ran")
class T:
    levels = 1
    def chance(self, level): return 0.5
    def generate(self, rng, level): return "q%d" % int(rng.random() * 1e6), "a"
    def verify(self, prompt, answer): return answer == "a"
"""


class Server:
    """Counts who connects to a port of this machine."""

    def __init__(self) -> None:
        self.socket, self.count = socket.create_server(("127.0.0.1", 0)), 0
        self.url = "http://127.0.0.1:%d/internal" % self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self.socket.accept()
            self.count += 1
            connection.close()


@pytest.fixture
def with_task(base, tmp_path):
    """A brain that names a class which leaves a mark when it runs."""
    mark, task = tmp_path / "mark", tmp_path / "evil/t.py"
    run_dir = forge(base, tmp_path / "evil", lambda meta: meta["profile"]["curriculum"].update(
        tasks={"copy": 1.0, "parity": 1.0, f"{task}:T": 1e-6}))
    task.write_text(TASK.format(mark=str(mark)))
    return run_dir, f"{task}:T", mark


@pytest.mark.parametrize("command", [
    ("eval", "--items=1"), ("export", "--no-verify"), ("export",), ("info",),
    ("health",), ("generate", "--prompt=x"), ("grow", "--to=toy"), ("scale", "--dry-run")],
    ids=lambda words: " ".join(words))
def test_a_task_of_a_brain_does_not_run(with_task, command):
    """Attack 2: the checkpoint's curriculum.tasks names a class; every command leaves it out."""
    run_dir, name, mark = with_task
    done = seed(*command, f"--run-dir={run_dir}")
    assert not mark.exists() and b"Traceback" not in done.stderr, done.stderr.decode()
    if command[0] in ("eval", "scale") or command == ("export",):
        assert works(done) and f"left out: {name}" in done.stderr.decode()


def test_a_task_of_a_brain_stops_its_training_until_it_is_named(with_task):
    """Attack 2: train refuses in one line, and runs it once the command line names it."""
    run_dir, name, mark = with_task
    assert is_refused(seed("train", f"--run-dir={run_dir}", "--steps=22"), name, "--task")
    assert not mark.exists()
    assert works(seed("train", f"--run-dir={run_dir}", "--steps=22", f"--task={name}=0.000001"))
    assert mark.exists()


def test_a_task_of_a_brain_runs_in_eval_and_adapt_once_it_is_named(with_task, rule):
    """Attack 2: the consent is for this command alone."""
    run_dir, name, mark = with_task
    adapt = ("adapt", f"--run-dir={run_dir}", f"--data={rule}", "--steps=2", "--threads=1",
             "--min-gain=0", "--max-loss=100")
    done = seed(*adapt)
    assert works(done) and f"left out: {name}" in done.stderr.decode() and not mark.exists()
    assert works(seed("eval", f"--run-dir={run_dir}", "--items=1", f"--task={name}"))
    assert mark.exists()
    assert is_refused(seed("eval", f"--run-dir={run_dir}", "--task=other.py:T"), "other.py:T")


def test_a_task_of_a_parent_does_not_run_when_a_child_is_cut_out_of_it(with_task, tmp_path):
    """Attack 2: shrink takes the parent's curriculum, without its files."""
    run_dir, name, mark = with_task
    done = seed("shrink", f"--run-dir={run_dir}", f"--out={tmp_path / 'child'}", "--steps=2",
                *TINY[1:-2], "--set=distill.batches=2")
    assert works(done) and f"left out: {name}" in done.stderr.decode() and not mark.exists()


def test_a_url_of_a_brain_is_not_called(base, tmp_path):
    """Attack 3: a teacher that only the checkpoint names is not asked, by any command."""
    server = Server()
    run_dir = forge(base, tmp_path / "evil", lambda meta: meta["profile"]["teacher"].update(
        kind="endpoint", url=server.url, tasks={"copy": 1.0}, every_steps=1))
    assert is_refused(seed("train", f"--run-dir={run_dir}", "--steps=30"), server.url)
    for command in (["eval", "--items=1"], ["info"],
                    ["scale", "--trial-seconds=1", "--set=model.n_layers=2",
                     "--set=train.batch_size=2", "--dry-run"]):
        assert works(seed(*command, f"--run-dir={run_dir}"))
    assert server.count == 0
    assert works(seed("train", f"--run-dir={run_dir}", "--steps=60", "--set=teacher.timeout_s=1",
                      f"--set=teacher.url={server.url}"))
    assert server.count > 0


def test_a_health_command_of_a_brain_does_not_run_until_it_is_named(base, tmp_path):
    """Own: the checkpoint's governor.report_command leaves a mark when it runs."""
    mark, check = tmp_path / "mark", tmp_path / "check.sh"
    check.write_text(f"#!/bin/sh\ntouch {mark}\necho '{{\"level\": 0}}'\n")
    check.chmod(0o755)
    run_dir = forge(base, tmp_path / "evil", lambda meta: meta["profile"]["governor"].update(
        report_command=str(check), only_idle=True))
    assert is_refused(seed("train", f"--run-dir={run_dir}", "--steps=22"), str(check), "--set")
    for command in (["eval", "--items=1"], ["health"], ["info"], ["scale", "--dry-run"]):
        assert works(seed(*command, f"--run-dir={run_dir}")), command
    assert not mark.exists()
    assert works(seed("train", f"--run-dir={run_dir}", "--steps=22",
                      f"--set=governor.report_command={check}", "--set=governor.only_idle=false"))
    assert mark.exists()


def bomb(meta: dict) -> None:
    meta["profile"]["model"].update(d_model=512, n_layers=24, d_ff=2048)


@pytest.mark.parametrize("command", [
    ("generate", "--prompt=x"), ("eval", "--items=1"), ("export",), ("train", "--steps=30"),
    ("info",), ("grow", "--to=auto"), ("grow", "--to=PROFILE"), ("shrink", "--out=CHILD"),
    ("adapt", "--data=RULE", "--steps=1")], ids=lambda words: " ".join(words))
def test_a_claim_is_compared_with_the_bytes_before_anything_is_allocated(
        base, tmp_path, rule, command):
    """Attacks 7, 8, 10, 11: a small file that claims a large brain costs no memory."""
    run_dir = forge(base, tmp_path / "evil", bomb)
    RunDir(run_dir.path).limit_profile.write_text(
        "[model]\nd_model = 1024\nn_layers = 24\nd_ff = 2048\npattern = 'SA'\n")
    words = [word.replace("RULE", str(rule)).replace("CHILD", str(tmp_path / "child")).replace(
        "PROFILE", str(run_dir.limit_profile)) for word in command]
    code = ("import sys; from seed.__main__ import main; code = main(sys.argv[1:]); "
            f"print('PEAK', {PEAK_MB}); sys.exit(code)")
    done = subprocess.run([sys.executable, "-c", code, *words, f"--run-dir={run_dir}"],
                          capture_output=True, timeout=120)
    assert int(done.stdout.split(b"PEAK")[-1]) < 300, done.stdout
    if command != ("info",):
        assert is_refused(done)


def soft_targets(run_dir: RunDir, change_fn) -> None:
    """Changes the arrays of a child's soft targets; the digest is right."""
    path = run_dir.soft_targets
    recipe = safetensors.safe_open(path, "numpy").metadata()["seed"].split(" ", 1)[1]
    arrays = safetensors.numpy.load_file(path)
    change_fn(arrays)
    path.write_bytes(safetensors.numpy.save(arrays, {"seed": distill._digest(arrays, recipe)}))


FORGED_TARGETS = {
    "targets out of range": lambda a: a["targets"].__setitem__(..., 32000),
    "ids out of range": lambda a: a["topk_ids"].__setitem__(..., 300),
    "negative ids": lambda a: a["topk_ids"].__setitem__(..., -2),
    "probabilities not finite": lambda a: a["topk_probs"].__setitem__(..., np.nan),
    "probabilities above 1": lambda a: a["topk_probs"].__setitem__(..., 1e30),
    "rows of another length": lambda a: a.update({k: v[:, :, :8].copy() for k, v in a.items()}),
    "other types": lambda a: a.update(tokens=a["tokens"].astype(np.int32)),
    "an array more": lambda a: a.update(more=np.zeros(3, np.float32))}


def test_soft_targets_that_others_made_are_checked_and_made_again(base, tmp_path):
    """Attack 6: shapes, ids, targets and probabilities of the file that a child trains on."""
    child = RunDir(tmp_path / "child")

    def shrink(steps: int):
        return seed("shrink", f"--run-dir={base}", f"--out={child}", f"--steps={steps}", *TINY[1:],
                    "--set=distill.batches=2", "--set=distill.data_fraction=1")
    assert works(shrink(2))
    whole = child.soft_targets.read_bytes()
    for steps, change_fn in enumerate(FORGED_TARGETS.values(), 3):
        soft_targets(child, change_fn)
        assert works(shrink(steps))
        assert child.soft_targets.read_bytes() == whole


FOREIGN = {
    "Attack 12: a learning rate of 10^400": lambda m: m["profile"]["train"].update(lr=10 ** 400),
    "Attack 13: a time of 10^400": lambda m: m.update(elapsed_s=10 ** 400),
    "Attack 14: half a surrogate pair as name": lambda m: m["profile"].update(name="\ud800"),
    "Attack 16: such an identity": lambda m: m["profile"].update(identity={"\ud800": "x"}),
    "Attack 17: such a class": lambda m: m["profile"]["curriculum"].update(
        tasks={"\ud800.py:T": 1.0}),
    "Attack 17: such a corpus": lambda m: m["profile"]["curriculum"].update(
        tasks={"\ud800.jsonl": 1.0}),
    "Attack 18: a parent with NUL": lambda m: m["profile"]["distill"].update(parent="\ud800\0"),
    "Attack 18: a teacher's URL": lambda m: m["profile"]["teacher"].update(url="http://\ud800"),
    "Attack 18: skipped is true": lambda m: m.update(skipped=True),
    "Attack 18: deep accuracy": lambda m: m["curriculum"].update(accuracy={"copy": [[[1.0]]]}),
    "Attack 18: a name of 100 KB": lambda m: m["profile"]["curriculum"].update(
        tasks={"x" * 100_000: 1.0}),
    "Own: an infinite temperature": lambda m: m["profile"]["distill"].update(
        temperature=float("inf")),
    "Own: a level without end": lambda m: m["profile"]["selfplay"].update(
        tasks={"parity": 10 ** 9}),
    "Own: a key with an escape": lambda m: m["profile"].update({"\x1b[31mkey": 1})}


@pytest.mark.parametrize("kind", FOREIGN)
def test_strange_metadata_are_one_line(base, tmp_path, kind):
    """Attacks 12 to 18: numbers, texts and types that no run has written."""
    run_dir = forge(base, tmp_path / "evil", FOREIGN[kind])
    for command in (["info"], ["eval", "--items=1"], ["train", "--steps=22"], ["export"]):
        done = seed(*command, f"--run-dir={run_dir}")
        assert b"\x1b" not in done.stdout + done.stderr
        if command != ["info"] or "class" not in kind and "corpus" not in kind:
            assert done.returncode in (0, 2) and b"Traceback" not in done.stderr, done.stderr
            assert len(done.stderr) < 3000


def test_names_are_escaped_on_a_terminal(base, tmp_path):
    """Attack 15: a brain's name with escape sequences; also its task's and its directory's."""
    def change(meta: dict) -> None:
        meta["profile"]["name"] = "\x1b]0;owned\x07\x1b[31m\u202ered"
        meta["profile"]["curriculum"]["tasks"]["/nowhere/\x1b[31m.py:T"] = 1.0
    run_dir = forge(base, tmp_path / "evil", change)
    for command in (["info"], ["eval", "--items=1"], ["train", "--steps=21"]):
        done = seed(*command, f"--run-dir={run_dir}")
        assert not set(b"\x1b\x07") & set(done.stdout + done.stderr), done
        assert "\u202e".encode() not in done.stdout + done.stderr
    assert b"\\x1b]0;owned\\x07" in seed("info", f"--run-dir={run_dir}").stdout
    odd = tmp_path / "esc\x1b[31m"
    assert b"\x1b" not in seed("generate", "--prompt=x", f"--run-dir={odd}").stderr


def test_names_are_text_in_a_report(base, tmp_path):
    """Attack 19, Report 59: a brain called <script>, and a corpus of such a name."""
    corpus = tmp_path / "two<b>.jsonl"
    corpus.write_text("".join(f'{{"prompt": "{i}!", "answer": "{i}"}}\n' for i in range(100)))

    def change(meta: dict) -> None:
        meta["profile"]["name"] = "<script>alert(1)</script>"
        meta["profile"]["curriculum"]["tasks"][str(corpus)] = 1.0
    run_dir, page = forge(base, tmp_path / "evil", change), tmp_path / "page.html"
    assert works(seed("eval", f"--run-dir={run_dir}", "--items=1", f"--html={page}",
                      f"--task={corpus}"))
    text = page.read_text()
    assert "<script" not in text and "<b>" not in text and "two&lt;b&gt;" in text


def test_weights_that_are_not_finite_are_refused(base, tmp_path):
    """Own: NaN among the weights, with a right checksum."""
    brain, run_dir = checkpoint.read(RunDir(base).checkpoint), RunDir(tmp_path / "nan")
    run_dir.path.mkdir()
    brain.tensors["embedding"][3, 5] = np.nan
    run_dir.save(brain.tensors, {k: v for k, v in brain.meta.items()
                                 if k not in ("blake2b", "format")})
    for command in (["eval", "--items=1"], ["generate", "--prompt=x"], ["export"]):
        assert is_refused(seed(*command, f"--run-dir={run_dir}"), "embedding is not finite")


def test_arrays_of_the_optimizer_are_checked(base, tmp_path):
    """Own: moments that are missing or of another shape, for what trains on or grows."""
    for change in (lambda t: t.pop("m.embedding"),
                   lambda t: t.update({"v.embedding": np.zeros((2, 2), np.float32)})):
        brain, run_dir = checkpoint.read(RunDir(base).checkpoint), RunDir(tmp_path / "odd")
        run_dir.path.mkdir(exist_ok=True)
        change(brain.tensors)
        run_dir.save(brain.tensors, {k: v for k, v in brain.meta.items()
                                     if k not in ("blake2b", "format")}, keep_newest=False)
        assert is_refused(train(run_dir.path), "embedding")
        large = tmp_path / "large.toml"
        large.write_text("[model]\nd_model = 64\nn_layers = 2\nd_ff = 64\npattern = 'SA'\n")
        assert is_refused(seed("grow", f"--run-dir={run_dir}", f"--to={large}"), "embedding")


def test_foreign_checkpoints_are_named(base, tmp_path):
    """Report 57: one that another tool has saved without metadata is refused by name."""
    tensors = checkpoint.read(RunDir(base).checkpoint).tensors
    assert safetensors.numpy.load_file(RunDir(base).checkpoint).keys() == tensors.keys()
    run_dir = RunDir(tmp_path)
    safetensors.numpy.save_file(tensors, run_dir.checkpoint)
    for command in (["info"], ["eval"], ["train", "--steps=22"]):
        assert is_refused(seed(*command, f"--run-dir={run_dir}"), "is not a checkpoint of seed")


def test_a_resumed_run_names_what_was_changed(base, tmp_path):
    """Report 58: another seed, rate, batch size or shape; fewer steps are finished at once."""
    shutil.copytree(base, tmp_path / "run")
    for option in ("--seed=3", "--set=train.lr=0.001", "--set=train.batch_size=3",
                   "--set=model.n_layers=3"):
        assert is_refused(train(tmp_path / "run", option), "this run began with")
    done = train(tmp_path / "run", steps=5)
    assert works(done) and b"Done: 20 steps" in done.stdout
