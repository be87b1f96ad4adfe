"""Kernels that were compiled ahead of time replace the compiler, bit for bit, or say what lacks."""
import json
import os
import shlex
import struct
import subprocess
from pathlib import Path

import pytest

from seed.__main__ import main, make_parser
from seed.body import closed_loop
from seed.body.world import Episode
from seed.commands.kernels_command import PURPOSES as COMMAND_PURPOSES
from seed.curriculum import user_tasks
from seed.export import kernels_ahead
from seed.profile_file import load_profile
from seed.storage import RunDir
from seed.training.adapt import replayed
from seed.wavecore import kernel_set
from seed.wavecore.cpu import NAMED, cpu, find_target
from seed.wavecore.kernel_set import KernelSet
from tests.support import acting_brains
from tests.support.attack_run import is_refused, seed, train, works
from tests.support.tiny_run import TINY, WAIT_S

ELF_MACHINE = {"x86_64": 62, "aarch64": 183}
TRAIN = ("--for=train", *TINY)


def no_compiler(folder: Path, cache: Path) -> dict[str, str]:
    """Of a machine that has nothing but the kernel sets of a folder."""
    return {**os.environ, "CC": "/nonexistent/clang", "XDG_CACHE_HOME": str(cache),
            kernel_set.VARIABLE: str(folder)}


def named_command(done: subprocess.CompletedProcess) -> list[str]:
    """The words of the command that a message names."""
    line = done.stderr.decode().strip().splitlines()[-1]
    return shlex.split(line.partition("run seed ")[2])


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """A folder with a set, which the command has made that a training without it has named; and the
    C texts of its kernels."""
    folder, texts = tmp_path_factory.mktemp("sets"), []
    empty = KernelSet(find_target("native"), "", "", {})
    kernel_set.write(folder / "empty.kernels", empty)
    done = train(folder / "run", env=no_compiler(folder, folder / "cache"), timeout_s=WAIT_S)
    assert is_refused(done, "a kernel is in no set in", "cannot be compiled here", "kernels --cpu=")
    texts_fn = kernels_ahead._texts

    def recorded(*arguments):
        texts.extend(texts_fn(*arguments))
        return texts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels_ahead, "_texts", recorded)
        assert main([*named_command(done), f"--out={folder}"]) == 0
    return folder, texts


def set_in(folder: Path) -> Path:
    """The one that is not empty."""
    path, = {*folder.glob("*.kernels")} - {folder / "empty.kernels"}
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> bytes:
    """The checkpoint of a training with a compiler."""
    return checkpoint_of(tmp_path_factory.mktemp("trained") / "run", dict(os.environ))


def checkpoint_of(run_dir: Path, environment: dict[str, str]) -> bytes:
    """After a whole training there."""
    assert works(train(run_dir, env=environment, timeout_s=WAIT_S))
    return RunDir(run_dir).checkpoint.read_bytes()


def test_a_training_without_a_compiler_has_the_same_bits(rehearsed, trained, tmp_path):
    folder, _ = rehearsed
    assert checkpoint_of(tmp_path / "run", no_compiler(folder, tmp_path / "cache")) == trained
    assert not (tmp_path / "cache").exists()


def test_a_missing_kernel_is_one_line_that_names_the_command(rehearsed, tmp_path):
    folder, _ = rehearsed
    done = train(tmp_path / "run", "--threads=2", env=no_compiler(folder, tmp_path / "cache"),
                 timeout_s=WAIT_S)
    assert is_refused(done, f"a kernel is in no set in {folder}", "CC is '/nonexistent/clang'")
    words = named_command(done)
    assert words[0] == "kernels" and "--for=train" in words and "--threads=2" in words
    assert {word for word in TINY if not word.startswith("--threads")} <= set(words)


@pytest.mark.attack
def test_a_damaged_set_is_refused_in_one_line(rehearsed, tmp_path):
    """Own: a bit of a kernel set flips on a worn card."""
    folder, _ = rehearsed
    path = set_in(folder)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / path.name).write_bytes(data)
    for environment in (no_compiler(tmp_path, tmp_path / "cache"),
                        {**os.environ, kernel_set.VARIABLE: str(tmp_path)}):
        done = train(tmp_path / "run", env=environment, timeout_s=WAIT_S)
        assert is_refused(done, f"{tmp_path / path.name} is damaged", "seed kernels")


@pytest.mark.parametrize("name", NAMED)
def test_a_set_for_another_cpu_has_the_same_kernels(rehearsed, trained, tmp_path, monkeypatch,
                                                    capsys, name):
    """And gives the same bits where it runs too, with the tiles and vectors of that CPU."""
    folder, texts = rehearsed
    made = first = kernel_set.read(set_in(folder))
    if name != first.target.name:
        monkeypatch.setattr(kernels_ahead, "_texts", lambda *_: texts)
        assert main(["kernels", *TRAIN, f"--cpu={name}", f"--out={tmp_path}", "--json"]) == 0
        made = kernel_set.read(Path(json.loads(capsys.readouterr().out)["path"]))
    assert made.target == NAMED[name] and made.made_by.startswith("seed kernels --cpu")
    assert made.objects.keys() == first.objects.keys() and len(texts) > 20
    for code in made.objects.values():
        kind, machine = struct.unpack_from("<HH", code, 16)
        assert (code[:4], kind, machine) == (b"\x7fELF", 1, ELF_MACHINE[NAMED[name].machine])
    if made is not first and not made.target.lacks():   # that of the first: see above
        there = no_compiler(tmp_path, tmp_path / "cache")
        assert checkpoint_of(tmp_path / "run", there) == trained


def test_a_text_names_neither_the_cpu_nor_its_cores(rehearsed):
    words = (*cpu().split()[1:], "core_id")
    assert not [word for word in words for text in rehearsed[1] if word in text]


@pytest.mark.parametrize("options, message", [
    (["--cpu=z80"], "--cpu is 'z80': use cortex-a76"),
    (["--for=train,fly"], "--for has 'fly': use some of train, eval"),
    (["--profile=toi"], "profile 'toi' not found"), (["--threads=0"], "--threads is 0")])
def test_wrong_options_are_refused_before_any_work(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.setattr(kernels_ahead, "_texts", lambda *_: pytest.fail("it began"))
    assert main(["kernels", *TRAIN, f"--out={tmp_path / 'sets'}", *options]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "sets").exists()


def test_a_set_that_is_there_is_added_to_unless_it_cannot_be_used(tmp_path, monkeypatch):
    path = tmp_path / "native-fast-1.kernels"

    def kernels_after(text: str) -> set[str]:
        monkeypatch.setattr(kernels_ahead, "_texts", lambda *_: [text])
        assert main(["kernels", *TRAIN, f"--out={tmp_path}"]) == 0
        return {*kernel_set.read(path).objects}
    first, second, third = map(kernel_set.key, ("int a;", "int b;", "int c;"))
    assert kernels_after("int a;") == {first}
    assert kernels_after("int b;") == {first, second}
    made_by = kernel_set.read(path).made_by
    assert made_by.startswith("seed kernels --cpu=native") and "; " not in made_by
    kernel_set.write(path, kernel_set.read(path)._replace(compiler="clang version 1"))
    assert kernels_after("int b;") == {second}
    path.write_bytes(path.read_bytes()[:-1])
    assert kernels_after("int c;") == {third}


def test_another_file_in_the_sets_place_stays(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kernels_ahead, "_texts", lambda *_: pytest.fail("it began"))
    path = tmp_path / "native-fast-1.kernels"
    path.write_text("mine")
    assert main(["kernels", *TRAIN, f"--out={tmp_path}"]) == 2
    assert "exists and is not a kernel set" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_a_command_that_cannot_run_here_is_named(tmp_path, capsys):
    assert main(["kernels", *TRAIN, "--for=play", "--set=governor.memory_mb=100",
                 f"--out={tmp_path}"]) == 2
    assert "the kernels of seed train are not known, because it ends" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_rule_that_a_rehearsal_adapts_to_is_one(tmp_path):
    kernels_ahead.Rehearsal(load_profile("toy"), tmp_path, 1).adapt()
    assert user_tasks.load(str(tmp_path / "rule.jsonl")).levels


def test_every_purpose_is_that_of_a_command():
    assert set(COMMAND_PURPOSES.values()) == set(kernels_ahead.PURPOSES)


def test_whatever_number_of_episodes_is_played_its_kernels_are_rehearsed(tmp_path, monkeypatch):
    rows, trained = set[int](), acting_brains.untrained()

    def recorded(player, *arguments, **options):
        rows.add(player.rows)
        return [Episode(0, 1.0, 1, None)]
    monkeypatch.setattr(closed_loop, "act", recorded)
    for words in kernels_ahead.Rehearsal(trained.profile, tmp_path, 1).play():
        trained.returns("cartpole", make_parser().parse_args(words).episodes, 0)
    rehearsed = set(rows)
    for episodes in (1, 2, 3, 15, 16, 17, 100):
        trained.returns("cartpole", episodes, 0)
    assert rows == rehearsed


def test_an_adaptation_is_rehearsed_in_every_body_and_in_the_curriculum(tmp_path):
    profile = load_profile("control", ["body.rounds={cartpole=1, rover=1, target=1}",
                                       "body.curriculum_steps=1"])
    body = replayed(profile.body)
    for words in kernels_ahead.Rehearsal(profile, tmp_path, 1).adapt():
        steps = make_parser().parse_args(words).steps
        assert steps >= sum(body.rounds.values()) + body.curriculum_steps


@pytest.mark.long
def test_every_purpose_runs_without_a_compiler(tmp_path):
    """A body and the curriculum, for longer than the rehearsal."""
    profile = ("--profile=control", "--body=cartpole", "--set=body.curriculum_steps=1",
               "--set=curriculum.holdout_items=2")
    brain = (f"--run-dir={tmp_path / 'run'}", "--threads=2")
    any_result = ("--min-gain=0", "--max-loss=100")
    purposes = ",".join(kernels_ahead.PURPOSES)
    assert works(seed("kernels", *profile, "--threads=2", f"--for={purposes}",
                      f"--out={tmp_path}", timeout_s=3600))
    rule = tmp_path / "rule.jsonl"
    rule.write_text("".join(f'{{"prompt": "g({i})=", "answer": "{2 * i}"}}\n' for i in range(90)))
    for words in (["train", *profile, "--steps=12"], ["train", "--steps=16"], ["eval"],
                  ["chat"], ["generate", "--prompt", 40 * "x"], ["play", "--episodes=3"],
                  ["adapt", f"--data={rule}", "--steps=5", *any_result],
                  ["adapt", f"--data={rule}", "--steps=4", "--light", *any_result]):
        assert works(seed(*words, *brain, env=no_compiler(tmp_path, tmp_path / "cache"),
                          timeout_s=3600))
    assert not (tmp_path / "cache").exists()
