"""items, info, health and bench."""
import argparse
import dataclasses
import importlib.util
import json
import sys

from seed.commands.start import prepare, profile_of, say
from seed.config import from_dict
from seed.errors import ConfigError
from seed.errors import FAILED


def run_items(args: argparse.Namespace) -> int:
    from seed.curriculum.dataset import Dataset, samples
    profile = profile_of(args)
    dataset = Dataset(profile.curriculum, profile.identity, profile.train.seed)
    for item in samples(dataset, args.count):
        prompt, answer = (part.decode(errors="replace") for part in (item.prompt, item.answer))
        row = {"task": item.task, "level": item.level, "prompt": prompt, "answer": answer}
        print(json.dumps(row) if args.json else
              f"{item.task:<14}{item.level:>2}  {row['prompt']}{row['answer']}")
    return 0


def run_info(args: argparse.Namespace) -> int:
    from seed.wavecore.layout import count_params
    found = args.run_dir.load_newest(say)
    profile = from_dict(found.meta["profile"]) if found else profile_of(args)
    facts = {"profile": profile.name, "parameters": count_params(profile.model),
             "layers": profile.model.layer_kinds, "step": found.meta["step"] if found else None,
             "model": dataclasses.asdict(profile.model)}
    if args.json:
        print(json.dumps(facts))
    else:
        print("\n".join(f"{key:<12}{value}" for key, value in facts.items()))
    return 0


def run_health(args: argparse.Namespace) -> int:
    from seed import governor, system_health
    config = profile_of(args).governor
    health = system_health.read(args.run_dir.path)
    decision = governor.decide(config, governor.History(), health, 0.0)[0]
    ceiling = governor.ceiling_mb(config, health)
    limit = health.cgroup_limit_mb.value
    enforcement = [f"the trainer stops itself above {ceiling:.0f} MB"]
    if limit is not None and limit != float("inf"):
        enforcement.append(f"the kernel's memory cgroup kills above {limit:.0f} MB")
    if args.json:
        facts = dataclasses.asdict(health)
        facts["cgroup_limit_mb"]["value"] = None if limit == float("inf") else limit
        print(json.dumps({**facts, "verdict": decision._asdict(), "enforcement": enforcement}))
        return 0
    print(f"{'board':<18}{health.board or 'none in the device tree'}")
    for name, reading in health.readings().items():
        value = f"unknown: {reading.reason}" if reading.value is None else f"{reading.value:,.1f}"
        print(f"{name:<18}{value}")
    bits = health.throttled
    now = [name for name, on in bits.now().items() if on]
    print(f"{'throttled':<18}" + (f"unknown: {bits.reason}" if bits.bits is None else
                                  f"now {', '.join(now) or 'no'}; since boot "
                                  f"{', '.join(bits.since_boot) or 'no'}"))
    print(f"{'verdict':<18}{decision.action}{decision.reason and ': '}{decision.reason}")
    print(f"{'enforcement':<18}{'; '.join(enforcement)}")
    return 0


def run_bench(args: argparse.Namespace) -> int:
    profile_of(args)  # refuses a bad profile before any process starts
    if args.turns < 1:
        raise ConfigError(f"--turns is {args.turns}: use at least 1")
    if args.peer and importlib.util.find_spec("torch") is None:
        raise ConfigError("--peer torch needs PyTorch: pip install 'seed-brain[peer]'")
    prepare(args.threads)
    from seed.bench.compare import bench, table
    from seed.errors import BenchError
    try:
        report = bench(args.profile, args.overrides, args.threads, bool(args.peer), args.turns)
    except BenchError as error:
        print(f"seed: {error}", file=sys.stderr)
        return FAILED
    print(json.dumps(report) if args.json else table(report))
    return 0
