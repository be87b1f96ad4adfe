"""Attacks and reports of the kind: files. Links, FIFOs, torn and foreign lines, outputs."""
import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seed.storage import RunDir
from tests.support.attack_run import is_refused, limit_memory, seed, train, works
from tests.support.tiny_run import rows, start_tiny, wait_and_read_stderr, wait_for_step

pytestmark = pytest.mark.long
PRECIOUS = b"precious data of somebody else"
SELFPLAY = ("--set=selfplay.tasks={parity=3}", "--set=selfplay.every_steps=5",
            "--set=selfplay.questions=2", "--set=selfplay.max_answer_bytes=4")
TEACHER = ("--set=teacher.kind=mock", "--set=teacher.tasks={copy=1.0}",
           "--set=teacher.every_steps=1")
UNJUDGED = "--min-gain=0", "--max-loss=100"
LEFT = 16 * "0" + ".partial"   # the end of a temporary name
DEEP = "[" * 100_000


@pytest.fixture
def run_dir(base, tmp_path) -> RunDir:
    shutil.copytree(base, tmp_path / "run")
    return RunDir(tmp_path / "run")


def commands(run_dir: RunDir, rule: Path) -> dict[str, list[str]]:
    """Each that writes, by name; the trainings last two steps more."""
    here = f"--run-dir={run_dir}"
    return {"train": ["train", here, "--steps=22"],
            "selfplay": ["train", here, "--steps=26", *SELFPLAY],
            "teacher": ["train", here, "--steps=26", *TEACHER],
            "export": ["export", here, "--no-verify"],
            "adapt": ["adapt", here, f"--data={rule}", "--steps=2", "--threads=1", *UNJUDGED],
            "eval": ["eval", here, "--items=1", f"--html={run_dir.report}"],
            "report": ["report", here], "scale": ["scale", here, "--dry-run"]}


LINKS = [("selfplay", "selfplay.jsonl"), ("teacher", "teacher.jsonl"),
         ("train", "metrics.jsonl"), ("train", f".metrics.jsonl.{LEFT}"),
         ("export", f".brain.tflite.{LEFT}"), ("export", "brain.tflite"),
         ("adapt", ".checkpoint.undo"), ("adapt", ".checkpoint.staged"),
         ("adapt", "checkpoint.pre_adapt.safetensors"), ("eval", "report.html"),
         ("report", "report.html"), ("report", "metrics.jsonl"),
         ("train", f".checkpoint.safetensors.{LEFT}"), ("train", "lock"),
         ("train", "checkpoint.safetensors"), ("train", "checkpoint.previous.safetensors"),
         ("train", "checkpoint.damaged.safetensors"), ("adapt", "adapting"), ("adapt", "lock")]


@pytest.mark.parametrize("command, name", LINKS, ids=[" ".join(pair) for pair in LINKS])
def test_a_link_never_leads_to_a_write_elsewhere(run_dir, rule, tmp_path, command, name):
    """Attacks 26, 27, 30 to 35: any file of a run directory is a link to somebody else's."""
    victim, link = tmp_path / "victim", run_dir.path / name
    if name == "adapting":
        victim.mkdir()
        (victim / "mine").write_bytes(PRECIOUS)
    else:
        victim.write_bytes(PRECIOUS)
    if link.exists():
        link.unlink()
    link.symlink_to(victim)
    done = seed(*commands(run_dir, rule)[command])
    assert b"Traceback" not in done.stderr and done.returncode in (0, 2), done.stderr.decode()
    assert (victim / "mine" if victim.is_dir() else victim).read_bytes() == PRECIOUS


@pytest.mark.parametrize("command, name", LINKS, ids=[" ".join(pair) for pair in LINKS])
def test_a_dead_link_makes_no_file_elsewhere(run_dir, rule, tmp_path, command, name):
    """Own: the same links, to a place where nothing is yet."""
    link = run_dir.path / name
    if link.exists():
        link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    done = seed(*commands(run_dir, rule)[command])
    assert b"Traceback" not in done.stderr and done.returncode in (0, 2), done.stderr.decode()
    assert not (tmp_path / "nowhere").exists()


FIFOS = [("train", "metrics.jsonl"), ("selfplay", "selfplay.jsonl"), ("teacher", "teacher.jsonl"),
         ("train", "lock"), ("train", "checkpoint.safetensors"), ("export", "brain.tflite"),
         ("eval", "report.html"), ("eval", "metrics.jsonl"), ("eval", "ladder.json"),
         ("report", "report.html"), ("report", "metrics.jsonl"), ("report", "ladder.json"),
         ("scale", "scale.jsonl"), ("scale", "attempts.jsonl"),
         ("adapt", ".checkpoint.staged"), ("train", f".checkpoint.safetensors.{LEFT}")]


@pytest.mark.parametrize("kind", ["fifo", "directory"])
@pytest.mark.parametrize("command, name", FIFOS, ids=[" ".join(pair) for pair in FIFOS])
def test_nothing_waits_for_a_fifo_or_fails_in_a_directory(run_dir, rule, command, name, kind):
    """Attacks 36, 37, 40, 41: one line at once, or the command works without the file."""
    path = run_dir.path / name
    if path.exists():
        path.unlink()
    os.mkfifo(path) if kind == "fifo" else path.mkdir()
    done = seed(*commands(run_dir, rule)[command], timeout_s=60)
    assert b"Traceback" not in done.stderr and done.returncode in (0, 1, 2), done.stderr.decode()
    assert done.returncode == 0 or name in done.stderr.decode()


@pytest.mark.parametrize("words", [
    ["info", "--profile={fifo}.toml"], ["info", "--profile=/dev/zero"],
    ["info", "--profile={dir}/"], ["samples", "--task={fifo}.jsonl"],
    ["samples", "--task={dir}.txt"], ["run", "{fifo}.toml", "--prompt=x"],
    ["run", "/dev/zero", "--prompt=x"], ["run", "{dir}/", "--prompt=x"],
    ["grow", "--to={fifo}.toml", "--run-dir={run}"],
    ["adapt", "--data={fifo}.jsonl", "--run-dir={run}", "--steps=1"],
    ["export", "--out={fifo}.toml", "--run-dir={run}"],
    ["eval", "--html={fifo}.toml", "--run-dir={run}"],
    ["eval", "--html=/dev/full", "--run-dir={run}"]], ids=" ".join)
def test_a_fifo_or_device_that_is_named_is_refused_at_once(run_dir, tmp_path, words):
    """Attacks 38, 40: in place of a profile, a corpus, an exported file or an output."""
    for suffix in (".toml", ".jsonl", ".txt"):
        os.mkfifo(tmp_path / f"fifo{suffix}")
    (tmp_path / "dir.txt").mkdir()
    done = seed(*(word.format(fifo=tmp_path / "fifo", dir=tmp_path / "dir", run=run_dir)
                  for word in words), timeout_s=60)
    assert is_refused(done)


METRICS = {
    "Attack 42: a step that is text": '{"kind":"step","step":"5","loss":1}',
    "Attack 42: a step that is null": '{"kind":"step","step":null}',
    "Attack 44: too deep": DEEP, "Attack 45: NaN": '{"kind":"step","step":NaN,"loss":1}',
    "Attack 45: a number": "5", "Report 54: no loss": '{"kind":"step","step":5}',
    "Report 54: a loss that is NaN": '{"kind":"step","step":5,"loss":NaN}',
    "Own: a step of 10^400": '{"kind":"step","loss":1,"step":1' + "0" * 400 + "}",
    "Own: a kind that is a list": '{"kind":[],"step":5}',
    "Own: an evaluation without accuracy": '{"kind":"curriculum","step":5}',
    "Own: no levels": '{"kind":"curriculum","step":5,"accuracy":{"copy":[]}}',
    "Own: half a surrogate pair": '{"kind":"selfplay","step":5,"task":"\\ud800","level":1,'
                                  '"accept_rate":1}',
    "Own: a reply that is text": '{"kind":"teacher","step":5,"replies":{"a":"b"}}',
    "Own: growth of nothing": '{"kind":"grow","step":5,"parameters":[]}',
    "Own: NUL bytes": "\0" * 5000, "Own: bytes that are no UTF-8": "\udcff\udcfe"}


@pytest.mark.parametrize("kind", METRICS)
def test_a_bad_line_of_metrics_is_skipped(run_dir, tmp_path, kind):
    """Attacks 42, 44, 45, Report 54: at the beginning and at the end of metrics.jsonl."""
    line, whole = METRICS[kind].encode("utf-8", "surrogateescape"), run_dir.metrics.read_bytes()
    for data in (line + b"\n" + whole, whole + line + b"\n", whole + line):
        run_dir.metrics.write_bytes(data)
        assert works(seed("eval", f"--run-dir={run_dir}", "--items=1",
                          f"--html={tmp_path / 'page.html'}"))
    assert works(train(run_dir.path))
    assert [row["step"] for row in rows_of(run_dir, "step")] == list(range(1, 23))


def rows_of(run_dir: RunDir, kind: str) -> list[dict]:
    lines = []
    for line in run_dir.metrics.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
            lines += [row] if row["kind"] == kind and "loss" in row else []
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
    return [row for row in lines if type(row["step"]) is int and row["step"] < 10 ** 9]


FOREIGN_LINES = {
    "selfplay.jsonl": ["[]", DEEP, "\0\0", '{"step": 3, "task": "parity", "level": 4, "questions": '
                       '"x", "agreement": 1, "entropy": 0, "ended": 1, "confident": 1, "accepted": '
                       '[]}', '{"step": 3, "task": [1], "level": 4, "questions": 1, "agreement": 1,'
                       ' "entropy": 0, "ended": 1, "confident": 1, "accepted": []}'],
    "teacher.jsonl": ['{"step": 3, "task": ["copy"], "level": 0, "prompt": "a>", "answer": "a"}',
                      '{"step": 3, "task": "copy", "level": 0, "prompt": "\\ud800", "answer": "a"}',
                      '{"step": 1e999, "task": "copy", "level": 0, "prompt": "a", "answer": "a"}'],
    "scale.jsonl": [DEEP, '{"size": [64, 4, 16, 128], "peak_mb": 1' + "0" * 400 + "}"],
    "attempts.jsonl": ['{"size": [64, 4, 16, 128], "boot": []}', '{"size": [[], 1, 2, 3]}', DEEP],
    "ladder.json": [DEEP, "5", "{}", '[{"size": "x", "fault": "", "peak_mb": 0.0, "predicted_mb": '
                    '0.0, "tokens_s": null}]', "[1]"],
    "limit.toml": ["x = " + DEEP], "searched_s.json": [DEEP, "1e999"]}


@pytest.mark.parametrize("name, line", [(name, line) for name, lines in FOREIGN_LINES.items()
                                        for line in lines],
                         ids=lambda text: text[:40].replace("\0", "0"))
def test_a_foreign_line_is_dropped(run_dir, rule, tmp_path, name, line):
    """Attacks 44, 46, 47: of self-play, a teacher, a size search and an adaptation."""
    (run_dir.path / name).write_text(line + "\n")
    words = {"selfplay.jsonl": "selfplay", "teacher.jsonl": "teacher", "scale.jsonl": "scale",
             "attempts.jsonl": "scale"}.get(name, "eval")
    assert works(seed(*commands(run_dir, rule)[words]))
    if name == "limit.toml":
        assert is_refused(seed("grow", "--to=auto", f"--run-dir={run_dir}"), "limit.toml")


def test_a_recipe_of_an_adaptation_may_be_anything(run_dir, rule):
    """Attack 44: adapting/recipe.json is deep, huge or a FIFO."""
    recipe = run_dir.adaptation.recipe
    for make in (lambda: recipe.write_text(DEEP), lambda: os.truncate(recipe, 2 ** 36),
                 lambda: (recipe.unlink(), os.mkfifo(recipe))):
        run_dir.adaptation.path.mkdir(exist_ok=True)
        recipe.touch()
        make()
        assert works(seed(*commands(run_dir, rule)["adapt"]))
        assert works(seed("adapt", "--undo", f"--run-dir={run_dir}"))


OUTPUTS = [("eval", "--html", "checkpoint.safetensors"), ("eval", "--html", "metrics.jsonl"),
           ("eval", "--html", "lock"), ("eval", "--html", "checkpoint.previous.safetensors"),
           ("eval", "--html", "nodir/x.html"), ("export", "--out", "checkpoint.safetensors"),
           ("export", "--out", "metrics.jsonl"), ("export", "--out", "nodir/x.tflite"),
           ("export", "--out", "checkpoint.damaged.safetensors"), ("eval", "--html", ".")]


@pytest.mark.parametrize("command, flag, name", OUTPUTS, ids=[" ".join(row) for row in OUTPUTS])
def test_no_output_replaces_a_brain_and_bad_places_are_named_before_the_work(
        run_dir, command, flag, name):
    """Attack 48, Report 39: the place of a result is looked at first."""
    whole = {path: path.read_bytes() for path in run_dir.path.iterdir() if path.is_file()}
    began_s = time.monotonic()
    done = seed(command, f"--run-dir={run_dir}", f"{flag}={run_dir.path / name}")
    assert is_refused(done, flag) and time.monotonic() - began_s < 20
    for path, data in whole.items():
        assert path.read_bytes() == data


def test_a_result_is_replaced_by_one_of_its_kind(run_dir, tmp_path):
    """Attack 48: what eval and export have written they write again, also over an empty file."""
    page, file = tmp_path / "page.html", tmp_path / "brain.tflite"
    page.touch()
    for _ in range(2):
        assert works(seed("eval", f"--run-dir={run_dir}", "--items=1", f"--html={page}"))
        assert works(seed("export", "--no-verify", f"--run-dir={run_dir}", f"--out={file}"))
    assert page.read_bytes().startswith(b"<!doctype html") and file.read_bytes()[4:8] == b"TFL3"
    assert not list(tmp_path.glob(".*partial"))
    page.unlink()
    page.symlink_to(tmp_path / "elsewhere")
    assert is_refused(seed("eval", f"--run-dir={run_dir}", f"--html={page}"), "--html")


ODD_NAMES = ["new\nline", "quo'te\"s", "per%cent?x=1#y", "-dash", "uni☃é", "d" * 250, "esc\x1b[31m",
             "bytes\udcff"]


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: ascii(name)[:24])
def test_a_run_directory_of_any_name_works(base, tmp_path, name):
    """Attack 49: newlines, quotes, escapes, no UTF-8, a leading dash, 250 characters."""
    shutil.copytree(base, tmp_path / name)
    for words in (["generate", "--prompt=1+1=", "--max-bytes=3"], ["train", "--steps=22"]):
        done = seed(*words, f"--run-dir={name}", cwd=tmp_path)
        assert works(done) and b"\x1b" not in done.stderr


def test_a_place_that_is_no_run_directory_is_one_line(tmp_path):
    """Attack 49: a loop of links, a device, /proc, a name of 5,000 characters."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for place in (tmp_path / "a", "/dev/null", "/proc/self/fd", "d" * 5000):
        for words in (["generate", "--prompt=x"], ["train", "--steps=1"], ["info"]):
            done = seed(*words, f"--run-dir={place}")
            assert b"Traceback" not in done.stderr and done.returncode in (0, 2), done.stderr


def test_a_read_only_run_directory_answers(run_dir):
    """Attack 50: generate, eval and info only read."""
    script = ('mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && for command in '
              '"generate --prompt=x" "eval --items=1" info; do '
              f'{sys.executable} -m seed $command --run-dir "$1" || exit 9; done')
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script, "sh", str(run_dir)],
                          capture_output=True, timeout=120)
    assert works(done)


def test_metrics_of_any_size_are_read_in_bounded_memory(run_dir):
    """Own: 3 GB of zeros, then of rows that are past the run, with 1.2 GB to live in."""
    whole = run_dir.metrics.read_bytes()
    with open(run_dir.metrics, "wb") as file:
        file.write(whole)
        file.truncate(3 * 2 ** 30)
    words = ("--set=governor.memory_mb=4000",)
    assert works(train(run_dir.path, *words, preexec_fn=limit_memory(1200)))
    assert [row["step"] for row in rows(run_dir.path, "step")] == list(range(1, 23))
    row = b'{"kind": "curriculum", "step": 7, "accuracy": {"copy": [0.5]}, "pad": "'
    row += b"x" * 10 ** 5
    with open(run_dir.metrics, "ab") as file:
        for _ in range(10_000):
            file.write(row + b'"}\n')
    assert works(seed("eval", f"--run-dir={run_dir}", "--items=1",
                      preexec_fn=limit_memory(1200)))


def test_a_trial_file_of_any_size_is_dropped(run_dir):
    """Own: sparse files of 64 GB in place of every file that is read as a whole."""
    for name in ("ladder.json", "limit.toml", "searched_s.json", "selfplay.jsonl",
                 "teacher.jsonl", "soft_targets.safetensors", "scale.jsonl", "attempts.jsonl"):
        path = run_dir.path / name
        path.touch()
        os.truncate(path, 2 ** 36)
    limits = {"preexec_fn": limit_memory(1200)}
    assert works(train(run_dir.path, *SELFPLAY, *TEACHER, **limits))
    assert works(seed("eval", f"--run-dir={run_dir}", "--items=1", **limits))
    assert is_refused(seed("grow", "--to=auto", f"--run-dir={run_dir}", **limits), "limit.toml")


@pytest.mark.parametrize("how", ["copytruncate", "rename", "delete", "half", "other file"])
def test_a_rotated_metrics_file_continues_as_a_clean_file(tmp_path, how):
    """Report 13: logrotate's two ways, a deletion, a cut in a line, another file in its place."""
    run_dir = RunDir(tmp_path / "run")
    process = start_tiny(run_dir.path, steps=400)
    wait_for_step(run_dir.path, 40, process)
    if how == "copytruncate":
        os.truncate(run_dir.metrics, 0)
    elif how == "half":
        os.truncate(run_dir.metrics, run_dir.metrics.stat().st_size - 7)
    elif how == "rename":
        run_dir.metrics.rename(tmp_path / "metrics.jsonl.1")
    elif how == "delete":
        run_dir.metrics.unlink()
    else:
        (tmp_path / "other").write_text('{"kind": "note", "step": 0}')
        os.replace(tmp_path / "other", run_dir.metrics)
    errors = wait_and_read_stderr(process)
    assert process.returncode == 0, errors
    data = run_dir.metrics.read_bytes()
    assert b"\0" not in data and data.endswith(b"\n")
    bad = 0
    for line in data.splitlines():
        try:
            json.loads(line)
        except ValueError:
            bad += 1
    assert bad <= (how == "half")
    steps = [row["step"] for row in rows_of(run_dir, "step")]
    assert steps[-1] == 400 and sorted(set(steps)) == steps and len(steps) > 20


def test_a_temporary_file_that_a_killed_writer_left_is_removed_and_no_other(run_dir):
    """Own: names are random, so that none is shared; one that nobody writes does not stay."""
    left, written = (run_dir.path / f".brain.tflite.{16 * i}.partial" for i in "12")
    for path in (left, written):
        path.write_bytes(b"half")
    with open(written) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert works(seed("export", "--no-verify", f"--run-dir={run_dir}"))
    assert not left.exists() and written.exists()


def test_two_exports_at_once_leave_one_whole_file(run_dir):
    """Own: both write the same name; whichever is last, the file is whole."""
    command = [sys.executable, "-m", "seed", "export", "--no-verify", f"--run-dir={run_dir}"]
    for process in [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(4)]:
        assert process.wait(timeout=120) == 0
    assert works(seed("run", run_dir.exported_brain, "--prompt=x"))
    assert not list(run_dir.path.glob(".*.partial"))


def test_a_fuzzed_metrics_file_never_stops_a_run(run_dir):
    """Own: 300 files with random bytes changed; a run that resumes or is read is not stopped."""
    from seed.evaluation.html_report import page
    from seed.evaluation.run_facts import read_run
    from seed.storage import metrics
    dice, whole = random.Random(0), run_dir.metrics.read_bytes()
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 30)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        run_dir.metrics.write_bytes(data)
        assert len(page(read_run(run_dir))) < 10 ** 6
        metrics.Metrics(run_dir.metrics, dice.randrange(25)).write("step", 21, loss=1.0)
        assert run_dir.metrics.read_bytes().endswith(b"\n")
