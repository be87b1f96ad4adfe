"""Let a brain answer a prompt."""
import argparse

from seed.commands import options, outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_prompt(parser)
    options.add_brain(parser)


def run(args: argparse.Namespace) -> int:
    from seed.evaluation import TrainedBrain
    with options.working("answering"):
        brain = TrainedBrain.load(args.run_dir, args.threads, options.log)
        answer = brain.answer(args.prompt, args.max_bytes, args.temperature, args.seed,
                              args.min_confidence)
    return outcome.show_answer(args, answer)
