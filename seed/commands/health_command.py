"""Read the board's sensors, and print what the governor decides from them."""
import argparse
import dataclasses
from typing import TYPE_CHECKING

from seed.commands import options, outcome

if TYPE_CHECKING:
    from seed.governor import Decision
    from seed.system_health import Health


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_profile(parser)
    parser.add_argument("--run-dir", type=options.run_dir, default=".",
                        help="whose disk is checked")


def run(args: argparse.Namespace) -> int:
    from seed import governor, system_health
    config = options.profile_from(args).governor
    health = system_health.read(args.run_dir.path)
    decision = governor.decide(config, governor.History(), health, 0.0)[0]
    limit_mb = health.cgroup_limit_mb.value
    if limit_mb == float("inf"):
        limit_mb = None   # JSON has no infinity
    enforcement = [f"the trainer stops itself above {governor.ceiling_mb(config, health):.0f} MB"]
    if limit_mb is not None:
        enforcement.append(f"the kernel's memory cgroup allows {limit_mb:.0f} MB")
    facts = {**dataclasses.asdict(health), "verdict": decision._asdict(),
             "enforcement": enforcement}
    facts["cgroup_limit_mb"]["value"] = limit_mb
    return outcome.show(args, facts, table(health, decision, enforcement))


def table(health: "Health", decision: "Decision", enforcement: list[str]) -> str:
    rows = {"board": health.board or "unknown: not in the device tree"}
    for name, reading in health.readings().items():
        rows[name] = (f"unknown: {reading.reason}" if reading.value is None else
                      f"{reading.value:,.1f}")
    bits = health.throttled
    now = [name for name, is_set in bits.now().items() if is_set]
    rows["throttled"] = (f"unknown: {bits.reason}" if bits.bits is None else
                         f"now: {', '.join(now) or 'no'}; since boot: "
                         f"{', '.join(bits.since_boot) or 'no'}")
    rows["verdict"] = f"{decision.action}: {decision.reason}".removesuffix(": ")
    rows["enforcement"] = "; ".join(enforcement)
    width = max(18, *(len(name) + 2 for name in rows))
    return "\n".join(f"{name:<{width}}{value}" for name, value in rows.items())
