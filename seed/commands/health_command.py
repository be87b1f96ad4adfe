"""Check the board and the robot's report: exit code 0 ok, 1 warning, 2 critical, 3 not checked."""
import argparse
import dataclasses
import json
import time
from typing import TYPE_CHECKING

from seed.commands import options, outcome
from seed.errors import CANNOT_CHECK

if TYPE_CHECKING:
    from seed.governor import Decision
    from seed.system_health import Health

ERROR_CODE = CANNOT_CHECK   # of whatever else ends it
HEAD = b'{"status": "'      # of its own JSON


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_profile(parser)
    parser.add_argument("--run-dir", type=options.run_dir, default=".",
                        help="whose disk is checked")
    parser.add_argument("--out", type=options.path, metavar="FILE", help="write the JSON there too")


def run(args: argparse.Namespace) -> int:
    from seed import governor, health_check, robot_report, system_health
    from seed.storage import atomic_file
    from seed.storage.output_file import check_output
    if args.out:
        check_output("--out", args.out, "a health report", lambda head: head.startswith(HEAD))
    config = options.profile_from(args).governor
    health, source = system_health.read(args.run_dir.path), robot_report.open_source(config)
    report = source.poll(config.report_max_age_s)
    source.close()
    decision = governor.decide(config, governor.History(), health, 0.0, report)[0]
    enforcement = health_check.enforcement(config, health)
    rows = health_check.checks(config, health, report)
    facts = {"status": health_check.status_of(rows), "message": health_check.summary(rows),
             "time": time.time(), "checks": [dataclasses.asdict(row) for row in rows],
             **dataclasses.asdict(health), "verdict": decision._asdict(),
             "enforcement": enforcement}
    if facts["cgroup_limit_mb"]["value"] == float("inf"):
        facts["cgroup_limit_mb"]["value"] = None   # JSON has no infinity
    outcome.show(args, facts, f"{health_check.table(rows)}\n\n"
                 f"{table(health, decision, enforcement)}")
    if args.out:
        atomic_file.write(args.out, json.dumps(facts).encode() + b"\n")
    return health_check.EXIT_CODES[facts["status"]]


def table(health: "Health", decision: "Decision", enforcement: list[str]) -> str:
    rows = {"board": health.board or "unknown: not in the device tree"}
    for name, reading in health.readings().items():
        rows[name] = (f"unknown: {reading.reason}" if reading.value is None else
                      "none" if reading.value == float("inf") else f"{reading.value:,.1f}")
    bits = health.throttled
    now = [name for name, is_set in bits.now().items() if is_set]
    rows["throttled"] = (f"unknown: {bits.reason}" if bits.bits is None else
                         f"now: {', '.join(now) or 'no'}; since boot: "
                         f"{', '.join(bits.since_boot) or 'no'}")
    rows["verdict"] = f"{decision.action}: {decision.reason}".removesuffix(": ")
    rows["enforcement"] = "; ".join(enforcement)
    width = max(18, *(len(name) + 2 for name in rows))
    return "\n".join(f"{name:<{width}}{value}" for name, value in rows.items())
