"""Print what completes commands, flags and run directories in bash or zsh."""
import argparse

from seed.commands import outcome, shells


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=[*shells.SCRIPTS], metavar="bash|zsh",
                        help="bash: eval \"$(seed completion bash)\" in ~/.bashrc; zsh: the same "
                             "behind compinit in ~/.zshrc")


def run(args: argparse.Namespace) -> int:
    from seed.__main__ import make_parser
    script = shells.SCRIPTS[args.shell](make_parser())
    return outcome.show(args, {"shell": args.shell, "script": script}, script, is_data=True)
