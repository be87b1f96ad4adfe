"""Arguments that nobody should give: each is one line at once, or is understood."""
import shutil

import pytest

from seed.storage import RunDir
from tests.support.attack_run import is_refused, seed, works

pytestmark = pytest.mark.long
DIGITS, DEEP = "1" * 5000, "[" * 20_000

TRAIN = ["--steps=-1", "--steps=1000000000000000001", f"--steps={DIGITS}", "--minutes=nan",
         "--minutes=inf", "--minutes=0", "--threads=0", "--threads=-1", "--threads=1000",
         "--seed=-1", "--seed=9223372036854775808", "--memory=0", "--memory=nan", "--memory=inf",
         "--memory=-1", f"--set=train.lr={DIGITS}", f"--set=train.lr=1{'0' * 400}",
         f"--set=train.lr={DEEP}", "--set=train.lr=9"]


@pytest.mark.parametrize("option", TRAIN, ids=lambda text: text[:30])
def test_a_training_with_an_impossible_argument_is_refused(tmp_path, option):
    """Attack 120: steps, minutes, threads, seed, memory, numbers of thousands of digits."""
    done = seed("train", f"--run-dir={tmp_path / 'run'}", "--profile=toy",
                *([] if "steps" in option or "minutes" in option else ["--steps=3"]), option,
                timeout_s=30)
    assert done.returncode == 2 if DIGITS in option else is_refused(done)
    assert not RunDir(tmp_path / "run").checkpoint.exists()


def test_a_batch_that_no_memory_holds_is_refused_before_it_is_tried(tmp_path):
    """Attack 120: 4096 rows of 8192 bytes."""
    assert is_refused(seed("train", f"--run-dir={tmp_path}", "--steps=3", "--profile=toy",
                           "--set=train.seq_len=8192", "--set=train.batch_size=4096",
                           timeout_s=30), "ceiling")


@pytest.mark.parametrize("steps", ["0", "00", "-0"])
def test_no_steps_are_refused(tmp_path, steps):
    """Attack 125: they do not mean the minutes of the profile."""
    assert is_refused(seed("train", f"--run-dir={tmp_path}", f"--steps={steps}", timeout_s=30),
                      "--steps is 0")


@pytest.mark.parametrize("count", ["0", "-5", "1000001", "nan", "1e2"])
def test_a_count_of_samples_is_a_number_from_1(count):
    """Attack 124: --count 0 and -5."""
    assert seed("samples", f"--count={count}").returncode == 2
    if count in ("0", "-5"):
        done = seed("samples", f"--count={count}")
        assert is_refused(done, f"--count is {count}: use 1") and not done.stdout


@pytest.mark.parametrize("words", [
    ["--prompt="], ["--prompt=x", "--temperature=nan"], ["--prompt=x", "--temperature=inf"],
    ["--prompt=x", "--temperature=-1"], ["--prompt=x", "--max-bytes=0"],
    ["--prompt=x", "--max-bytes=-1"], ["--prompt=x", "--seed=-1"],
    ["--prompt=x", "--seed=1180591620717411303424"], ["--prompt=\udcff\udcfe"]], ids=ascii)
def test_what_cannot_be_generated_is_refused(base, words):
    """Attack 121: an empty prompt, temperatures, lengths, seeds, invalid UTF-8."""
    assert is_refused(seed("generate", f"--run-dir={base}", *words, timeout_s=30))


@pytest.mark.parametrize("prompt", ["x", "héllo ☃", "a" * 120_000, " ", "-"],
                         ids=lambda text: ascii(text)[:20])
def test_any_text_is_answered(base, prompt):
    """Attack 121: one byte, bytes over 127, 120,000 bytes."""
    assert works(seed("generate", f"--run-dir={base}", f"--prompt={prompt}", "--max-bytes=3"))


REFUSED = [["eval", "--items=0"], ["export", "--prefill=-1"], ["export", "--prefill=100000"],
           ["adapt", "--data={rule}", "--minutes=nan"], ["adapt", "--data={rule}", "--steps=-1"],
           ["adapt", "--data={rule}", "--share=nan"], ["adapt", "--data={rule}", "--lr=inf"],
           ["adapt", "--undo"], ["scale", "--memory=nan"], ["scale", "--trial-seconds=inf"],
           ["scale", "--tokens-per-s=nan"], ["train", "--grow", "--minutes=nan"],
           ["train", "--grow", "--tokens-per-param=nan"], ["grow", "--to=../../../etc/passwd"],
           ["info", "--profile=/dev/null"], ["info", "--profile=/etc"],
           ["shrink", "--run-dir={none}", "--out={child}", "--minutes=1"]]


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_what_no_command_can_do_is_refused(base, rule, tmp_path, words):
    """Attack 122: items, prefills, shares, sizes and files that cannot be."""
    shutil.copytree(base, tmp_path / "run")
    words = [word.format(rule=rule, none=tmp_path / "none", child=tmp_path / "child")
             for word in words]
    where = {"shrink": [], "info": [f"--run-dir={tmp_path / 'none'}"]}.get(
        words[0], [f"--run-dir={tmp_path / 'run'}"])
    whole = RunDir(tmp_path / "run").checkpoint.read_bytes()
    assert is_refused(seed(words[0], *where, *words[1:], timeout_s=30))
    assert RunDir(tmp_path / "run").checkpoint.read_bytes() == whole
    assert not (tmp_path / "none").exists() and not (tmp_path / "child").exists()


@pytest.mark.parametrize("words", [
    ["train", "--set=train.lr"], ["train", "--set==1"], ["train", "--set=train.lr=\x1b[31m"],
    ["train", "--set=train.betas=[0.9]"], ["train", "--set=train.batch_size=1.5"],
    ["train", "--set=train.batch_size=true"], ["train", "--set=model.pattern=\udcff"],
    ["train", "--set=train=5"], ["train", "--task="], ["train", "--task=copy=nan"],
    ["train", "--task=copy=-1"], ["train", "--profile="], ["train", "--run-dir="],
    ["train", "--profile=" + "p" * 5000]], ids=lambda words: ascii(words[1])[:30])
def test_an_override_that_means_nothing_is_refused(tmp_path, words):
    """Own: halves of an assignment, other types, escapes, empty names."""
    done = seed(*words, cwd=tmp_path, timeout_s=30)
    assert is_refused(done) and b"\x1b" not in done.stderr
    assert not list(tmp_path.rglob("*.safetensors"))
