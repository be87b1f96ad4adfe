"""Describe a profile or a brain."""
import argparse
import dataclasses

from seed.commands import options, outcome


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
    if profile.loop.rate_hz:
        facts["loop"] = dataclasses.asdict(profile.loop)
    return outcome.show(args, facts, "\n".join(f"{k:<12}{v}" for k, v in facts.items()))
