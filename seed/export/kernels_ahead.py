"""Compiles all kernels of a profile ahead of time, also for another CPU: for a board without a
compiler.

The commands of each purpose run here for a few steps, in a directory of their own, with an empty
cache and a compiler that keeps every C text. A text is the same on every machine, so each is then
compiled for the CPU that is asked for.
"""
import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from seed.config import Profile
from seed.errors import ConfigError, KernelSetError
from seed.evaluation.trained_brain import MAX_BODIES
from seed.interpreter import seed_command
from seed.profile_file import to_toml
from seed.storage import atomic_file
from seed.storage.output_file import check_output
from seed.storage.run_dir import Log
from seed.wavecore import kernel_set
from seed.wavecore.compiler import find_compiler
from seed.wavecore.cpu import Target

# A clang that also keeps what it is asked to compile.
RECORDER = """#!/bin/sh
[ "$1" != --version ] || exec {compiler} --version
text=$(mktemp {texts}/XXXXXXXXXX) && cat >"$text" && exec {compiler} "$@" <"$text"
"""
PROMPT = "a prompt that is longer than one prefill call"   # of wavecore/decode.py
RULE = [{"prompt": f"f({i})=", "answer": f"{i + 1}"} for i in range(100)]
Words = Sequence[str]


class Rehearsal(NamedTuple):
    """A run of seed's commands that asks for all kernels of some purposes."""
    profile: Profile
    folder: Path
    threads: int

    def brain(self) -> list[str]:
        return [f"--run-dir={self.folder / 'run'}", f"--threads={self.threads}"]

    def steps(self) -> int:
        """So many that every body has its round and the curriculum its step, also where an
        adaptation has as many steps of the curriculum as bodies."""
        body = self.profile.body
        return (sum(body.rounds.values()) + len(body.rounds) + len(body.data)
                + body.curriculum_steps + 2)

    def train(self) -> list[Words]:
        return [["train", f"--profile={self.folder / 'profile.toml'}", f"--steps={self.steps()}",
                 "--set=selfplay.every_steps=1", "--set=curriculum.eval_every_steps=1",
                 "--set=train.eval_every_minutes=0", "--no-thermal", "--plain", *self.brain()]]

    def evaluate(self) -> list[Words]:
        return [["eval", *self.brain()]]

    def chat(self) -> list[Words]:
        return [["generate", f"--prompt={PROMPT}", "--max-bytes=2", *self.brain()],
                ["chat", "--max-bytes=2", *self.brain()]]

    def play(self) -> list[Words]:
        """In one body alone, and side by side in as many as there may be."""
        return [["play", f"--episodes={n}", *self.brain()] for n in (1, MAX_BODIES)]

    def adapt(self) -> list[Words]:
        rule = self.folder / "rule.jsonl"
        rule.write_text("".join(f"{json.dumps(item)}\n" for item in RULE), encoding="utf-8")
        recipe = [f"--data={rule}", f"--steps={self.steps()}", "--min-gain=0", "--max-loss=100",
                  "--set=governor.thermal=false", *self.brain()]
        return [["adapt", *recipe], ["adapt", "--light", *recipe]]


PURPOSES: dict[str, Callable[[Rehearsal], list[Words]]] = {
    "train": Rehearsal.train, "eval": Rehearsal.evaluate, "chat": Rehearsal.chat,
    "play": Rehearsal.play, "adapt": Rehearsal.adapt}


def build(profile: Profile, target: Target, threads: int, purposes: Sequence[str], folder: Path,
          made_by: str, log: Log = print) -> tuple[Path, kernel_set.KernelSet]:
    """Writes the kernel set of a profile, for one CPU and number of threads, or adds to the one
    that is there. Raises ConfigError, CompilerError, KernelSetError, OSError."""
    for purpose in purposes:
        if purpose not in PURPOSES:
            raise ConfigError(f"--for has {purpose!r}: use some of {', '.join(PURPOSES)}")
    path = folder / f"{target.name}-{profile.name}-{threads}{kernel_set.SUFFIX}"
    compiler = find_compiler()
    atomic_file.make_directory(folder)
    check_output("--out", path, "a kernel set", lambda head: head.startswith(kernel_set.MAGIC),
                 folder != kernel_set.folder())
    texts = _texts(profile, threads, purposes, compiler, log)
    log(f"compiling {len(texts)} kernels for {target.name}")
    from seed.wavecore.tinygrad_seam import compile_for, install
    install(log)
    kernels = kernel_set.KernelSet(target, made_by, _version(compiler), {
        kernel_set.key(text): compile_for(target, text) for text in texts})
    kernels = _with_old(path, kernels)
    kernel_set.write(path, kernels)
    return path, kernels


def _with_old(path: Path, new: kernel_set.KernelSet) -> kernel_set.KernelSet:
    """With the kernels of the set that is there, of other purposes or settings; without them if it
    is damaged, or of another CPU or compiler."""
    with suppress(FileNotFoundError, KernelSetError):
        old = kernel_set.read(path)
        if (old.target, old.compiler) == (new.target, new.compiler):
            commands = dict.fromkeys([*old.made_by.split("; "), new.made_by])
            return new._replace(made_by="; ".join(commands),
                                objects={**old.objects, **new.objects})
    return new


def _texts(profile: Profile, threads: int, purposes: Sequence[str], compiler: str,
           log: Log) -> list[str]:
    """The C texts that the commands of these purposes ask for, sorted."""
    with tempfile.TemporaryDirectory(prefix="seed-kernels-") as name:
        folder = Path(name)
        for part in ("texts", "no-sets"):
            (folder / part).mkdir()
        recorder = folder / "clang"
        recorder.write_text(RECORDER.format(
            compiler=shlex.quote(compiler), texts=shlex.quote(str(folder / "texts"))))
        recorder.chmod(0o700)
        (folder / "profile.toml").write_text(to_toml(profile), encoding="utf-8")
        environment = {**os.environ, "CC": str(recorder), "XDG_CACHE_HOME": str(folder / "cache"),
                       kernel_set.VARIABLE: str(folder / "no-sets")}
        rehearsal = Rehearsal(profile, folder, threads)
        for purpose in dict.fromkeys(["train", *purposes]):   # the others need its brain
            for words in PURPOSES[purpose](rehearsal):
                log(f"running {words[0]} for its kernels")
                _run(words, environment)
        return sorted({path.read_text(encoding="utf-8") for path in (folder / "texts").iterdir()})


def _run(words: Words, environment: dict[str, str]) -> None:
    done = subprocess.run(seed_command(*words), env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, errors="replace")
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise KernelSetError(f"the kernels of seed {words[0]} are not known, because it ends here "
                             f"with exit code {done.returncode}: {reason.removeprefix('seed: ')}")


def _version(compiler: str) -> str:
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True)
    return done.stdout.partition("\n")[0]
