"""Every command: its help, its JSON, one line and an exit code for bad input."""
import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from seed import errors, governor, system_health
from seed.__main__ import COMMANDS, main
from seed.commands import health_command, options
from seed.storage import RunDir
from seed.system_health import Reading
from tests.support import brains, fake_board
from tests.support.tflite import ROOT, SMALL

FAST = (*SMALL, "curriculum.holdout_items=1", "train.seq_len=64", "curriculum.tasks.recall=0",
        "curriculum.tasks.story=0")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> RunDir:
    """The run directory of a small untrained brain."""
    path = tmp_path_factory.mktemp("brain")
    brains.untrained(path, "toy", *FAST)
    return RunDir(path)


@pytest.fixture
def seed(capsys, monkeypatch):
    """Runs a command in this process: (exit code, standard output, lines of standard error)."""
    monkeypatch.setattr("seed.training.stop_signals.StopSignals.watch", lambda signals: signals)

    def run(*arguments) -> tuple[int, str, list[str]]:
        code = main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        return code, output.out, output.err.splitlines()
    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as exit:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert exit.value.code == 0 and f"usage: seed {name}" in text and "--json" in text


def test_help_imports_neither_numpy_nor_tinygrad():
    code = ("import sys, seed.__main__ as m; m.make_parser(); "
            "sys.exit(bool({'numpy', 'tinygrad', 'safetensors'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_command_file_has_at_most_sixty_lines_of_code():
    files = list((ROOT / "seed/commands").glob("*_command.py"))
    assert {path.stem.removesuffix("_command") for path in files} == set(COMMANDS)
    for path in files:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        assert len(lines) <= 60, path


@pytest.mark.attack
@pytest.mark.parametrize("arguments, message", [
    (["train", "--set", "train.lrr=1"], "nearest is lr"),
    (["train", "--profile", "tyo"], "nearest is toy"),
    (["train", "--profile", ""], "profile '' not found: use control, fast"),
    (["train", "--set", "curriculum.tasks.cpoy=1"], "nearest is copy"),
    (["train", "--threads", "0"], "--threads is 0: use 1 to 64"),
    (["adapt", "--body=cartpole", "--set", "train.lr=1"],
     "--set train.lr=1: this command takes keys of [governor] alone"),
    (["live", "--body=cartpole", "--set", "body.rows=1"],
     "--set body.rows=1: this command takes keys of [live] and [governor] alone"),
    (["train", "--memory", "nan"], "--memory is nan: use 0.001 to"),
    (["train", "--steps", "0"], "--steps is 0: use 1 to"),
    (["train", "--grow", "--minutes", "0"], "--minutes is 0"),
    (["train", "--grow", "--trial-seconds", "0.5"], "--trial-seconds is 0.5: use 1 to 86400"),
    (["scale", "--tokens", "0"], "--tokens is 0"),
    (["eval"], "has no brain: train one"), (["export"], "has no brain: train one"),
    (["eval", "--items", "0"], "--items is 0: use 1 to 100000"),
    (["generate", "--prompt", "1+1="], "has no brain: train one"),
    (["generate", "--prompt", ""], "--prompt is empty"),
    (["generate", "--prompt", "\udcff"], "--prompt is not UTF-8"),
    (["generate", "--prompt", "x", "--temperature=-1"], "--temperature is -1"),
    (["generate", "--prompt", "x", "--max-bytes", "0"], "--max-bytes is 0"),
    (["generate", "--prompt", "x", "--seed=-1"], "--seed is -1"),
    (["generate", "--prompt", "x", "--min-confidence=1.5"], "--min-confidence is 1.5: use 0 to 1"),
    (["chat", "--min-confidence=nan"], "--min-confidence is nan: use 0 to 1"),
    (["serve", "--min-confidence=-1"], "--min-confidence is -1.0: use 0 to 1"),
    (["grow", "--to", "seed"], "has no brain: train one"),
    (["adapt", "--data=rule.jsonl", "--as=worn"], "rule.jsonl has no episodes of a body: leave"),
    (["adapt"], "--data is missing")], ids=lambda value: " ".join(value)[:40] if isinstance(
        value, list) else "")
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, seed, arguments, message):
    """Attacks 120 to 125: ranges; the others are in tests/soak/attacks/test_arguments.py."""
    code, _, errors_printed = seed(*arguments, "--run-dir", tmp_path / "run")
    assert code == errors.BAD_INPUT and len(errors_printed) == 1
    assert message in errors_printed[0] and errors_printed[0].startswith("seed: ")
    assert not RunDir(tmp_path / "run").checkpoint.exists()


@pytest.mark.parametrize("words", ["play --record", "train --data", "adapt --data", "adapt --as",
                                   "export --out"])
def test_a_name_that_is_empty_as_an_unset_variable_is_refused(capsys, words):
    with pytest.raises(SystemExit) as exit:
        main([*words.split(), ""])
    message = capsys.readouterr().err.splitlines()[-1]
    assert exit.value.code == errors.BAD_INPUT and message.endswith("it is empty: give a name")


@pytest.mark.parametrize("arguments", [["samples", "--count", "300"], ["info"], []])
def test_a_reader_that_closes_the_output_ends_it_quietly(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "seed", *arguments], stdout=writer, text=True,
                          stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (errors.FAILED, "")


def raising(error: BaseException):
    def run(args):
        raise error
    return run


@pytest.mark.parametrize("error, code, line", [
    (errors.ConfigError("a: b; c"), 2, "seed: a: b; c"),
    (errors.CheckpointError("x"), 2, "seed: x"), (errors.NotEnoughMemory("x"), 75, "seed: x"),
    (errors.ExportError("x"), 1, "seed: x"), (KeyboardInterrupt(), 130, "seed: interrupted"),
    (MemoryError(), 75, "seed: not enough memory (MemoryError): end other programs, or use a "
     "smaller model or train.batch_size"),
    *((OSError(number, "why", "/f"), code, "seed: cannot use /f: why; check that it exists, is "
       "writable and has free space") for number, code in [
           (errno.ENOSPC, 75), (errno.EROFS, 75), (errno.EIO, 75), (errno.EMFILE, 75),
           (errno.EDQUOT, 75), (errno.ENOMEM, 75), (errno.EAGAIN, 75), (errno.ENOENT, 2),
           (errno.EACCES, 2)]),
    (OSError(errno.EFBIG, "why", "/f"), 75, "seed: cannot use /f: why; raise the limit on the size "
     "of a file (ulimit -f)")],
    ids=str)
def test_the_exit_code_belongs_to_the_error(monkeypatch, seed, error, code, line):
    monkeypatch.setattr("seed.commands.info_command.run", raising(error))
    assert seed("info") == (code, "", [line])


def test_a_limit_on_the_size_of_a_file_is_as_a_full_disk(tmp_path):
    done = subprocess.run(["bash", "-c", 'ulimit -f 1; exec "$@" > samples.txt', "_",
                           sys.executable, "-m", "seed", "samples", "--count=50"], text=True,
                          stderr=subprocess.PIPE, cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": str(ROOT),
                               "PYTHONDONTWRITEBYTECODE": "1"})   # it would be cut short, and stay
    assert (done.returncode, done.stderr) == (errors.RETRY_LATER, (
        "seed: cannot use the output: File too large; raise the limit on the size of a file "
        "(ulimit -f)\n"))


@pytest.mark.parametrize("command, name, flag", [
    ("report", "report.html", "--html"), ("export", "brain.tflite", "--out")])
def test_a_result_that_has_no_room_in_the_run_names_no_flag_that_nobody_gave(
        run_dir, seed, monkeypatch, command, name, flag):
    monkeypatch.setattr("seed.storage.output_file.os.access", lambda *_: False)
    assert seed(command, run_dir) == (2, "", [
        f"seed: {run_dir}/{name}: {run_dir} is not writable: name another file with {flag}"])
    out = run_dir.path / "x"
    assert seed(command, run_dir, flag, out)[2] == [
        f"seed: {flag} {out}: {run_dir} is not writable: use another directory"]


def test_an_error_of_ours_is_not_hidden(monkeypatch):
    monkeypatch.setattr("seed.commands.info_command.run", raising(KeyError("a bug")))
    with pytest.raises(KeyError):
        main(["info"])


def test_flags_become_overrides_of_the_profile(tmp_path):
    from seed.__main__ import make_parser
    args = make_parser().parse_args([
        "train", "--minutes", "3", "--memory", "2", "--no-thermal", "--seed", "5", "--run-dir",
        str(tmp_path), "--set", "train.lr=0.5"])
    profile = options.profile_from(args)
    assert (profile.name, profile.train.minutes, profile.train.steps) == ("toy", 3, 0)
    assert (profile.train.seed, profile.train.lr) == (5, 0.5)
    assert (profile.governor.memory_mb, profile.governor.thermal) == (2048, False)


@pytest.mark.parametrize("override", ["body.rounds={cartpole=4}", "body.rounds.cartpole=4"])
def test_a_number_of_rounds_is_not_lost_beside_a_body(seed, tmp_path, override):
    code, _, lines = seed("train", "--body", "cartpole", "--set", override, "--run-dir", tmp_path)
    assert code == 2 and lines == [
        "seed: --body and --set body.rounds both say which bodies play: give one"]


def test_a_brain_is_described_and_generates_as_its_exported_file_does(run_dir, seed, tmp_path):
    where, out = ["--run-dir", run_dir, "--threads=1"], tmp_path / "out.tflite"
    facts = json.loads(seed("info", *where, "--json")[1])
    assert facts["step"] == 7 and facts["parameters"] > 10_000
    assert "layers      SSA" in seed("info", *where)[1]
    toy = seed("info", "--profile", "toy", "--run-dir", tmp_path / "none")[1]
    assert re.search(r"^parameters +234680$", toy, re.MULTILINE)
    code, text, lines = seed("export", *where, "--out", out, "--json")
    report = json.loads(text)
    assert code == 0 and report["verified"] and report["size"] == out.stat().st_size
    assert report["reference"]["agreed"] == report["trainer"]["agreed"] == 1000
    assert report["delegate"]["partitions"] == 1 and report["holdout"] and report["p50_us"] > 0
    question = ["--prompt", "12+30=", "--max-bytes", "9"]
    facts, of_file = (json.loads(seed(*command, *question, "--json")[1]) for command in (
        ("generate", *where), ("run", out)))
    assert of_file == {**facts, "confidence": pytest.approx(facts["confidence"], abs=1e-4)}
    assert list(facts) == ["prompt", "answer", "confidence", "has_ended"]
    assert seed("run", out, *question)[1].strip()


def test_an_answer_below_the_least_confidence_is_not_printed(run_dir, seed, tmp_path):
    where = ["generate", "--run-dir", run_dir, "--threads=1", "--prompt=12+30=", "--max-bytes=9"]
    facts = json.loads(seed(*where, "--json")[1])
    assert 0 < facts["confidence"] < 0.9 and facts["answer"]
    code, text, lines = seed(*where, "--min-confidence=0.9")
    assert (code, text) == (0, "") and re.fullmatch(
        r"unsure: confidence 0\.\d\d is below 0\.9", lines[-1])
    code, text, lines = seed(*where, "--min-confidence=0.9", "--json")
    assert code == 0 and json.loads(text) == {**facts, "answer": None}
    least = f"--min-confidence={facts['confidence']!r}"
    assert json.loads(seed(*where, least, "--json")[1]) == facts


def test_export_without_verification_says_so(run_dir, seed, tmp_path):
    out = tmp_path / "out.tflite"
    quick = ["export", "--run-dir", run_dir, "--out", out, "--no-verify"]
    assert "not verified" in seed(*quick, "--int8")[1]
    facts = json.loads(seed(*quick, "--json")[1])
    assert facts == {"size": out.stat().st_size, "verified": False}
    for bad, message in ((["--prefill", "1"], "--prefill is 1"),
                         (["--out", run_dir.checkpoint], "is not a TFLite file"),
                         (["--out", out / "x/y"], "is not a directory: create it first")):
        code, _, lines = seed(*quick, *bad)
        assert code == 2 and len(lines) == 1 and message in lines[0]


def test_a_file_that_is_no_brain_cannot_be_run(seed, tmp_path):
    (tmp_path / "f.tflite").write_bytes(b"PK\3\4" + b"x" * 99)
    code, _, lines = seed("run", tmp_path / "f.tflite", "--prompt", "x")
    assert code == 2 and len(lines) == 1 and "is not a TFLite file" in lines[0]


def test_eval_prints_json_or_text_and_writes_a_page(run_dir, seed, tmp_path):
    path = tmp_path / "report.html"
    code, text, _ = seed("eval", "--run-dir", run_dir, "--threads=1", "--html", path)
    assert code == 0 and text.startswith("brain at step 7\n") and "calibration: " in text
    assert path.read_text().startswith("<!doctype html>")


def test_samples_show_an_item_of_every_task_and_level(seed):
    rows = [json.loads(line) for line in seed("samples", "--json", "--count", "2")[1].splitlines()]
    assert {row["task"] for row in rows} >= {"copy", "add", "parity"}
    copy = next(row for row in rows if row["task"] == "copy")
    assert copy["prompt"] == copy["answer"] + ">"
    assert seed("samples", "--count", "0") == (2, "", ["seed: --count is 0: use 1 to 1e+06"])


def test_the_table_of_health_has_a_space_behind_every_name():
    zones = {"cpu-thermal": Reading(55.3), "left-arm-thermal thermal_zone12": Reading(41.0)}
    board = replace(fake_board.health(), zones_c=zones)
    lines = health_command.table(board, governor.Decision(), []).splitlines()
    assert lines[2] == "temp_c left-arm-thermal thermal_zone12  41.0"
    assert lines[1].index("55.3") == lines[2].index("41.0") == lines[0].index("Raspberry")


def test_a_board_without_a_memory_limit_has_none():
    board = replace(fake_board.health(), cgroup_limit_mb=Reading(float("inf")))
    lines = health_command.table(board, governor.Decision(), []).splitlines()
    assert "none" in [line.split()[1] for line in lines if line.startswith("cgroup_limit_mb")]


def test_health_prints_every_reading_and_the_verdict(seed):
    text = seed("health")[1]
    facts = json.loads(seed("health", "--json")[1])
    assert facts["verdict"]["action"] in text and facts["enforcement"][0] in text
    assert facts["rss_mb"]["value"] > 5
    for name in [*system_health.read(Path(".")).readings(), "throttled"]:
        assert f"\n{name} " in text


@pytest.mark.attack
def test_too_little_address_space_for_numpy_is_one_line_and_may_pass():
    """Attack 111: RLIMIT_AS."""
    done = subprocess.run(["bash", "-c", 'ulimit -v 200000; exec "$@"', "_", sys.executable, "-m",
                           "seed", "train", "--steps=1"], capture_output=True, text=True)
    assert done.returncode == errors.RETRY_LATER and "ulimit -v" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("error, limit_mb, text", [
    (MemoryError(), float("inf"), "not enough memory (MemoryError): end other programs, or use"),
    (MemoryError("Unable to\nallocate"), 300.0, "Unable to allocate): end other programs"),
    (ImportError("failed to map"), 300.0, "(ImportError: failed to map)")])
def test_failed_allocations_may_pass(seed, monkeypatch, error, limit_mb, text):
    def fail(*arguments):
        raise error
    monkeypatch.setattr("seed.__main__.address_space_mb", lambda: limit_mb)
    monkeypatch.setattr("seed.commands.info_command.run", fail)
    code, _, lines = seed("info")
    assert code == errors.RETRY_LATER and text in lines[0] and len(lines) == 1


def started(setup: str, *words: str) -> tuple[int, str]:
    """Exit code and standard error of a Python that runs `setup` before seed."""
    code = f"import runpy, sys\n{setup}\nrunpy.run_module('seed', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, text=True,
                          capture_output=True)
    return done.returncode, done.stderr


def test_an_older_python_is_one_line():
    code, error = started("sys.version_info = (3, 10, 2, 'final', 0)", "--version")
    assert code == errors.BAD_INPUT and error == (
        "seed: this is Python 3.10, and seed needs 3.11 or newer: start it as python3.11 -m seed, "
        "or install it there\n")


@pytest.mark.parametrize("module, fix", [
    ("numpy", "pip install numpy"), ("safetensors", "pip install safetensors"),
    ("tomllib", "install all of Python, as apt install python3 does")])
def test_a_package_that_is_missing_is_one_line(module, fix):
    code, error = started(f"sys.modules['{module}'] = None", "info", "--profile", "toy")
    assert code == errors.BAD_INPUT and error == (
        f"seed: {module} is not installed, and this command needs it: {fix}\n")
