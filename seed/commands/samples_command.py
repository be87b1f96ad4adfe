"""Print training items as the brain sees them. {} after a byte of a prompt: what is asked there;
<>: a label, which only helps the training."""
import argparse

from seed.commands import options, outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_profile(parser, options.DEFAULT_PROFILE)
    parser.add_argument("--count", type=int, default=1, help="items of each task and level")


def run(args: argparse.Namespace) -> int:
    from seed.curriculum.dataset import Dataset, samples
    from seed.curriculum.user_items import marked, to_json
    profile = options.profile_from(args)
    dataset = Dataset(profile.curriculum, profile.identity, profile.train.seed)
    for item in samples(dataset, args.count):
        row = {"task": item.task, "level": item.level, **to_json(*item[2:6])}
        outcome.show(args, row, f"{item.task:<14}{item.level:>2}  {marked(*item[2:6])}")
    return 0
