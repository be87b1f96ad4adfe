"""Let a brain answer a prompt."""
import argparse
import json

from seed.commands import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_prompt(parser)
    options.add_brain(parser)


def run(args: argparse.Namespace) -> int:
    from seed.evaluation import TrainedBrain
    brain = TrainedBrain.load(args.run_dir, args.threads, options.log)
    text = brain.generate(args.prompt, args.max_bytes, args.temperature, args.seed)
    print(json.dumps({"prompt": args.prompt, "answer": text}) if args.json else text)
    return 0
