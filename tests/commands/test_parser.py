"""Help with true defaults and an example of each command; errors that name the nearest word."""
import re
import shlex

import pytest

from seed.__main__ import COMMANDS, main, make_parser
from seed.commands.parser import EXAMPLES, FIRST
from seed.commands.shells import commands_of
from seed.config import GovernorConfig, LiveConfig
from seed.errors import BAD_INPUT
from seed.evaluation.trained_brain import MAX_BODIES

PARSERS = commands_of(make_parser())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example_that_parses(name):
    example = re.findall(r"^example: seed (.*)$", PARSERS[name].format_help(), re.MULTILINE)
    words = shlex.split(example[0])
    assert len(example) == 1 and words[0] == name
    args = make_parser().parse_args(words)
    assert args.command == name


def test_there_is_no_example_without_a_command():
    assert EXAMPLES.keys() == {*COMMANDS} and FIRST.keys() <= {*COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_has_a_help_that_tells_its_default(name):
    formatter = PARSERS[name]._get_formatter()
    for action in PARSERS[name]._actions:
        assert action.help, action.dest
        if action.nargs == 0 or action.default is None or action.default in ("", []):
            continue   # a switch is off
        told = re.search(r"\(default: (?:the cores, )?([^)]+)\)", formatter._expand_help(action))
        assert told, action.dest
        assert type(action.default)(told[1]) == action.default, action.dest


@pytest.mark.parametrize("name, flag, value", [
    ("train", "--memory", GovernorConfig().memory_mb / 1024),
    ("live", "--learn-every", LiveConfig().learn_every_ticks),
    ("live", "--learn-minutes", LiveConfig().learn_minutes)])
def test_a_default_of_the_profile_is_that_of_the_profile(name, flag, value):
    action = PARSERS[name]._option_string_actions[flag]
    assert action.default is None and f"(default: the profile's, {value:g} if it has none)" in \
        " ".join(action.help.split())


def test_play_tells_how_many_episodes_are_played_together():
    action = PARSERS["play"]._option_string_actions["--episodes"]
    assert f"{MAX_BODIES} are played together, fewer one by one" in action.help


@pytest.mark.parametrize("name, text", [
    ("train", "that of the run's brain, or of a new one toy, or control with --body or --data"),
    ("scale", "that of the run's brain, or of a new one toy"), ("samples", "toy"),
    ("shrink", "fast"), ("bench", "seed")])
def test_the_profile_that_is_taken_is_the_one_that_the_help_names(name, text):
    action = PARSERS[name]._option_string_actions["--profile"]
    assert f"(default: {text})" in action.help and action.default in (None, text)


@pytest.mark.parametrize("words, message", [
    ("trian", "seed: error: argument COMMAND: there is no 'trian'; nearest is train"),
    ("trian --minutes 3", "seed: error: argument COMMAND: there is no 'trian'; nearest is "
     "train"),
    ("train --minuts 3", "seed train: error: unrecognized argument --minuts; nearest is "
     "--minutes"),
    ("run --promt x", "seed run: error: unrecognized argument --promt; nearest is --prompt"),
    ("chat --temprature=3", "seed chat: error: unrecognized argument --temprature=3; nearest is "
     "--temperature"),
    ("train --zzz", "seed train: error: unrecognized argument --zzz; seed train --help lists what "
     "there is"),
    ("train runs/first", "seed train: error: unrecognized argument runs/first; seed train --help "
     "lists what there is"),
    ("--verson", "seed: error: unrecognized argument --verson; nearest is --version"),
    ("export --target lite", "seed export: error: argument --target: there is no 'lite'; nearest "
     "is litert"),
    ("export --target x", "seed export: error: argument --target: there is no 'x': use portable, "
     "litert"),
    ("completion", "seed completion: error: the following arguments are required: bash|zsh"),
    ("run -- --promt x", "seed run: error: the following arguments are required: --prompt")])
def test_an_unknown_word_is_one_line_that_names_the_nearest(capsys, words, message):
    with pytest.raises(SystemExit) as exit:
        main(words.split())
    output = capsys.readouterr()
    assert exit.value.code == BAD_INPUT and output.out == ""
    assert output.err == message + "\n"


def test_an_unknown_command_without_a_near_one_lists_all(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["zzz"])
    assert exit.value.code == BAD_INPUT
    assert capsys.readouterr().err.endswith(f"use {', '.join(COMMANDS)}\n")


def test_seed_alone_shows_six_commands_with_an_example_of_each(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    examples = [line.strip() for line in lines[3:-2:2]]
    assert len(examples) == len(FIRST) == 6 and max(map(len, lines)) <= 80 and len(lines) <= 24
    for example, name in zip(examples, FIRST):
        words = shlex.split(example)
        args = make_parser().parse_args(words[words.index(name):])
        assert args.command == name


@pytest.mark.parametrize("name", COMMANDS)
def test_an_argument_that_is_one_of_a_few_words_is_called_by_them(name):
    for action in PARSERS[name]._get_positional_actions():
        assert action.choices is None or action.metavar == "|".join(action.choices)
