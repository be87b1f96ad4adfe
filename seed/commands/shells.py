"""What completes commands, flags and values in bash and zsh, made from the parsers."""
import argparse
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from seed.commands import options

ZSH_HELP = str.maketrans("[]:", "();")   # characters that would end a help
BODIES = "cartpole pendulum rover"
WORDS = {"what": "loss accuracy return tokens_per_s temp_c memory_mb"}   # of an argument


class Kind(Enum):
    """What a value is; the text is the function that completes it."""
    RUN = "_seed_runs"
    DIRECTORY = "_seed_directories"
    FILE = "_seed_files"
    PROFILE = "_seed_profiles"
    BODY = "_seed_bodies"
    TEXT = ":"      # nothing can be proposed


KINDS = {"PROFILE": Kind.PROFILE, "RUN": Kind.RUN, "DIR": Kind.DIRECTORY, "FOLDER": Kind.DIRECTORY,
         "FILE": Kind.FILE, "BODY": Kind.BODY, "BODIES": Kind.BODY, "TASKS": Kind.FILE}


class Option(NamedTuple):
    flag: str          # empty: a positional argument
    help: str
    is_repeated: bool
    has_value: bool
    words: str         # that the value may be; empty: what its kind proposes
    kind: Kind


def options_of(parser: argparse.ArgumentParser) -> Iterator[Option]:
    for action in parser._actions:
        text = " ".join((action.help or "").replace("%(default)s", str(action.default)).split())
        words = " ".join(map(str, action.choices or ())) or WORDS.get(action.dest, "")
        is_repeated = isinstance(action, argparse._AppendAction) or action.nargs in ("*", "+")
        for flag in action.option_strings or [""]:
            yield Option(flag, text, is_repeated, action.nargs != 0, words, _kind(action))


def _kind(action: argparse.Action) -> Kind:
    if action.type in (options.run_dir, options.path):
        is_directory = action.metavar in ("DIR", "FOLDER")
        return (Kind.DIRECTORY if is_directory else
                Kind.RUN if action.type is options.run_dir else Kind.FILE)
    metavar = str(action.metavar).partition("|")[0]
    return KINDS.get(metavar, KINDS.get(action.dest.upper(), Kind.TEXT))


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return next(action.choices for action in parser._actions   # type: ignore[misc]
                if isinstance(action, argparse._SubParsersAction))


def profiles() -> str:
    """The shipped ones."""
    from seed.profile_file import shipped_profiles
    return " ".join(shipped_profiles())


BASH = r'''# bash completion of seed: eval "$(seed completion bash)"
_seed_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur"); }
_seed_paths() {
    compopt -o filenames 2> /dev/null   # fails outside of a completion
    mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}
_seed_files() { _seed_paths -f; }
_seed_directories() { _seed_paths -d; }
_seed_profiles() {
    _seed_words "PROFILES"
    [ ${#COMPREPLY[@]} -gt 0 ] || _seed_files
}
_seed_bodies() {
    _seed_words "BODIES"
    [ ${#COMPREPLY[@]} -gt 0 ] || _seed_files
}
_seed_runs() {   # directories with a run, in runs/ too; where there is none, any
    local path
    compopt -o filenames 2> /dev/null
    for path in "$cur"*/ $([ -n "$cur" ] || echo 'runs/*/'); do
        if [ -e "${path}metrics.jsonl" ] || [ -e "${path}checkpoint.safetensors" ]; then
            COMPREPLY+=("${path%/}")
        fi
    done
    [ ${#COMPREPLY[@]} -gt 0 ] || _seed_directories
}
_seed() {
    local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} flags=
    local command=${COMP_WORDS[1]}
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then _seed_words "COMMANDS"; return; fi
    if [ "$cur" = = ]; then cur=
    elif [ "$before" = = ]; then before=${COMP_WORDS[COMP_CWORD-2]}
    fi
    case $command$before in
VALUES
    esac
    case $command in
FLAGS
    esac
    if [[ $cur == -* ]]; then _seed_words "$flags"; return; fi
    case $command in
POSITIONALS
    *) _seed_words "$flags";;
    esac
}
complete -F _seed seed
'''


def bash(parser: argparse.ArgumentParser) -> str:
    commands = {name: list(options_of(command)) for name, command in commands_of(parser).items()}
    values: dict[str, list[str]] = {}   # by what completes them: commands with their flags
    flags, positionals = [], []
    for name, known in commands.items():
        for option in known:
            if option.flag and option.has_value:
                values.setdefault(_bash_call(option), []).append(f"{name}{option.flag}")
            elif not option.flag:
                positionals.append(f"    {name}) {_bash_call(option)};;")
        words = " ".join(option.flag for option in known if option.flag.startswith("--"))
        flags.append(f'    {name}) flags="{words}";;')
    lines = [f"    {'|'.join(patterns)})\n        {call}; return;;"
             for call, patterns in values.items()]
    return (BASH.replace("COMMANDS", " ".join(commands)).replace("PROFILES", profiles())
            .replace("BODIES", BODIES).replace("VALUES", "\n".join(lines))
            .replace("FLAGS", "\n".join(flags)).replace("POSITIONALS", "\n".join(positionals)))


def _bash_call(option: Option) -> str:
    return f'_seed_words "{option.words}"' if option.words else option.kind.value


ZSH = r'''#compdef seed
# zsh completion of seed: eval "$(seed completion zsh)" behind compinit
_seed_files() { _files; }
_seed_directories() { _files -/; }
_seed_profiles() { compadd PROFILES; _files -g '*.toml'; }
_seed_bodies() { compadd BODIES; _files -g '*.py'; }
_seed_runs() {   # directories with a run, in runs/ too; where there is none, any
    local -a runs_here
    runs_here=(${PREFIX}*/{metrics.jsonl,checkpoint.safetensors}(N:h))
    [[ -n $PREFIX ]] || runs_here+=(runs/*/{metrics.jsonl,checkpoint.safetensors}(N:h))
    (( $#runs_here )) && compadd -f -- ${(u)runs_here} || _files -/
}
_seed() {
    local curcontext=$curcontext state line
    local -A opt_args
    local -a commands=(
        COMMANDS)
    _arguments -C '1: :->command' '*::argument:->arguments'
    [[ $state == command ]] && _describe command commands
    [[ $state == arguments ]] || return
    case $words[1] in
ARGUMENTS
    esac
}
compdef _seed seed
'''


def zsh(parser: argparse.ArgumentParser) -> str:
    commands = commands_of(parser)
    named = "\n        ".join(_quoted(f"{name}:{command.description}")
                              for name, command in commands.items())
    arguments = []
    for name, command in commands.items():
        specs = " \\\n            ".join(map(_zsh_spec, options_of(command)))
        arguments.append(f"    {name})\n        _arguments {specs};;")
    return (ZSH.replace("COMMANDS", named).replace("PROFILES", profiles())
            .replace("BODIES", BODIES).replace("ARGUMENTS", "\n".join(arguments)))


def _zsh_spec(option: Option) -> str:
    """As _arguments takes it."""
    propose = (f"({option.words})" if option.words else
               " " if option.kind is Kind.TEXT else option.kind.value)
    repeated = "*" if option.is_repeated else ""
    if not option.flag:
        return _quoted(f"{repeated}:argument:{propose}")
    text = option.help.translate(ZSH_HELP)
    if not option.has_value:
        return _quoted(f"{option.flag}[{text}]")
    return _quoted(f"{repeated}{option.flag}[{text}]:{option.flag.strip('-')}:{propose}")


def _quoted(text: str) -> str:
    """As one word of a shell."""
    return "'" + text.replace("'", "'\\''") + "'"


SCRIPTS = {"bash": bash, "zsh": zsh}
