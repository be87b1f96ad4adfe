"""Print training items as the brain sees them."""
import argparse

from seed.commands import options, outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_profile(parser, options.DEFAULT_PROFILE)
    parser.add_argument("--count", type=int, default=1, help="items of each task and level")


def run(args: argparse.Namespace) -> int:
    from seed.curriculum.dataset import Dataset, samples
    profile = options.profile_from(args)
    dataset = Dataset(profile.curriculum, profile.identity, profile.train.seed)
    for item in samples(dataset, args.count):
        prompt, answer = (text.decode(errors="replace") for text in (item.prompt, item.answer))
        row = {"task": item.task, "level": item.level, "prompt": prompt, "answer": answer}
        outcome.show(args, row, f"{item.task:<14}{item.level:>2}  {prompt}{answer}")
    return 0
