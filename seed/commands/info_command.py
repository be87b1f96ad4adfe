"""Describe a profile or a brain."""
import argparse
import dataclasses
import json

from seed.commands import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_profile(parser)
    options.add_brain(parser)


def run(args: argparse.Namespace) -> int:
    from seed.config import from_dict
    from seed.wavecore.layout import count_params
    newest = args.run_dir.load_newest(options.log)
    profile = from_dict(newest.meta["profile"]) if newest else options.profile_from(args)
    facts = {"profile": profile.name, "parameters": count_params(profile.model),
             "layers": profile.model.layer_kinds, "step": newest.meta["step"] if newest else None,
             "model": dataclasses.asdict(profile.model)}
    if args.json:
        print(json.dumps(facts))
    else:
        print("\n".join(f"{key:<12}{value}" for key, value in facts.items()))
    return 0
