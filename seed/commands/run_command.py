"""Let an exported brain answer a prompt."""
import argparse

from seed.commands import options, outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=options.path, help="an exported .tflite file")
    options.add_prompt(parser)


def run(args: argparse.Namespace) -> int:
    from seed.runtime import Brain
    brain = Brain(args.file)
    return outcome.show_answer(args, brain.answer(
        args.prompt, args.max_bytes, None, args.temperature, args.seed, args.min_confidence))
