"""Let an exported brain answer a prompt."""
import argparse

from seed.commands import options, outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=options.path, help="an exported .tflite file")
    options.add_prompt(parser)


def run(args: argparse.Namespace) -> int:
    from seed.runtime import Brain
    brain = Brain(args.file)
    text = brain.generate(args.prompt, args.max_bytes, None, args.temperature, args.seed)
    return outcome.show(args, {"prompt": args.prompt, "answer": text}, text,
                        is_data=True)
