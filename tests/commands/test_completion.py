"""What a real bash and a real zsh propose."""
import os
import re
import shutil
import subprocess
import time

import pytest

from seed.__main__ import COMMANDS, main, make_parser
from seed.body.open_body import BODIES
from seed.commands.shells import SCRIPTS, commands_of
from seed.profile_file import shipped_profiles
from tests.support.terminals import terminal

PARSERS = commands_of(make_parser())
DEADLINE_S = 30.0
ASK = r'''
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _seed; printf '%s\n' "${COMPREPLY[@]}"; echo; }
'''


@pytest.fixture
def folder(tmp_path):
    """Where a person stands: runs, a file with a space, a folder."""
    for name in ("runs/first", "runs/second one", "elsewhere/third"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "metrics.jsonl").touch()
    (tmp_path / "runs/none").mkdir()
    (tmp_path / "my rule.jsonl").touch()
    return tmp_path


def bash(folder, *questions: list[str]) -> list[list[str]]:
    """What bash proposes for the last word of each."""
    calls = "\n".join("ask " + " ".join(f"'{word}'" for word in words) for words in questions)
    done = subprocess.run(["bash", "--norc", "-c", SCRIPTS["bash"](make_parser()) + ASK + calls],
                          cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return [answer.split("\n") if answer else [] for answer in
            done.stdout.removesuffix("\n\n").split("\n\n")]


def test_bash_completes_commands_and_all_flags_of_each(folder):
    answers = bash(folder, ["seed", ""], ["seed", "tr"],
                   *(["seed", name, "--"] for name in COMMANDS))
    assert answers[:2] == [[*COMMANDS], ["train"]]
    for name, flags in zip(COMMANDS, answers[2:]):
        assert {*flags} == {flag for flag in PARSERS[name]._option_string_actions
                            if flag.startswith("--")}


@pytest.mark.parametrize("words, expected", [
    ("train --mi", ["--minutes"]), ("export --target ", ["portable", "litert"]),
    ("export --target=l", ["litert"]), ("completion ", ["bash", "zsh"]),
    ("train --profile t", ["toy"]), ("train --body r", ["rover"]), ("train --minutes ", []),
    ("train --run-dir ", ["runs/first", "runs/second one"]),
    ("eval --run-dir=runs/f", ["runs/first"]), ("chat ", ["runs/first", "runs/second one"]),
    ("chat runs/s", ["runs/second one"]), ("chat else", ["elsewhere"]),
    ("curves runs/first elsewhere/", ["elsewhere/third"]), ("adapt --data my", ["my rule.jsonl"]),
    ("run my", ["my rule.jsonl"]), ("curves --what t", ["tokens_per_s", "temp_c"]),
    ("train --data else", ["elsewhere"]), ("zzz --", [])])
def test_bash_completes_values(folder, words, expected):
    split = [part for word in words.split(" ") for part in (
        [word.split("=")[0], "=", word.split("=")[1]] if "=" in word else [word])]
    assert [word for word in bash(folder, ["seed", *split])[0] if word] == expected


def test_all_bodies_are_proposed(folder):
    assert bash(folder, ["seed", "train", "--body", ""]) == [[*BODIES]]


def test_all_profiles_are_proposed(folder):
    assert bash(folder, ["seed", "info", "--profile", ""]) == [shipped_profiles()]


@pytest.mark.parametrize("shell, start", [
    ("bash", ["bash", "--norc", "--noprofile", "-i"]), ("zsh", ["zsh", "-f", "-i"])])
def test_a_person_in_a_shell_gets_words_completed(folder, shell, start):
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    script = folder / "completion"
    script.write_text(SCRIPTS[shell](make_parser()))
    setup = "autoload -Uz compinit; compinit -u -D; " if shell == "zsh" else ""
    lines = [("trai\t--minu\t3 --run-di\truns/fi\t", "train --minutes 3 --run-dir runs/first/?"),
             ("export --target lit\t--no-ver\t", "export --target litert --no-verify"),
             ("run my\t--pro\tx", "run my rule.jsonl --prompt x")]
    with terminal(120, 30) as seen:
        process = subprocess.Popen(
            start, cwd=folder, stdin=seen.out, stdout=seen.out, stderr=seen.out,
            env={**os.environ, "TERM": "xterm", "PS1": "> ", "HOME": str(folder)},
            start_new_session=True)
        try:
            seen.type(f"{setup}. ./completion; seed() {{ echo \"<$*>\"; }}; echo rea''dy\n")
            wait_for(seen, "\nready")
            for keys, expected in lines:
                seen.type(f"seed {keys}\n")
                wait_for(seen, f"<{expected}>")
        finally:
            process.kill()
            process.wait()


def wait_for(seen, pattern: str) -> None:
    until = time.monotonic() + DEADLINE_S
    while not re.search(pattern, "\n".join(seen.lines())):
        assert time.monotonic() < until, "\n".join(seen.lines())
        time.sleep(0.05)


def test_the_script_is_what_the_command_prints(capsys):
    assert main(["completion", "zsh"]) == 0
    assert capsys.readouterr().out == SCRIPTS["zsh"](make_parser()) + "\n"


def test_a_shell_that_is_not_known_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["completion", "bsh"])
    assert "nearest is bash" in capsys.readouterr().err
