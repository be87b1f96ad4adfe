"""Let an exported brain answer a prompt."""
import argparse
import json
from pathlib import Path

from seed.commands import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="an exported .tflite file")
    options.add_prompt(parser)


def run(args: argparse.Namespace) -> int:
    from seed.runtime import Brain
    text = Brain(args.file).generate(args.prompt, args.max_bytes, None, args.temperature,
                                     args.seed)
    print(json.dumps({"prompt": args.prompt, "answer": text}) if args.json else text)
    return 0
