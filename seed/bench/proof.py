"""What a proof says: the board, a training and a life, as facts for JSON and as Markdown.

A fact that cannot be known is null in JSON, a sensor's with the reason beside it.
"""
import contextlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from importlib import metadata
from itertools import islice
from pathlib import Path
from statistics import fmean, median
from typing import Any

from seed import __version__, system_health
from seed.errors import CompilerError
from seed.live.shared_block import Block, quantile_us
from seed.regular_file import read_json
from seed.storage import RunDir, atomic_file, metrics_reader
from seed.wavecore.compiler import find_compiler

ROOT = Path(__file__).parents[2]
LOSS_STEPS = 20     # of the curriculum, whose mean is the loss at the start and at the end
QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
PACKAGES = ("tinygrad", "numpy", "ai-edge-litert")
COMMAND_S = 10.0


def _first_match(pattern: str, path: Path) -> str | None:
    with contextlib.suppress(OSError):
        match = re.search(pattern, path.read_text(errors="replace"), re.MULTILINE)
        return match[1].strip() if match else None
    return None


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S,
                              stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if not done.returncode else None


def _version(package: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def _compiler() -> str | None:
    with contextlib.suppress(CompilerError):
        return (_output(find_compiler(), "--version") or "").partition("\n")[0] or None
    return None


def _preemption(version: str) -> str | None:
    """PREEMPT_RT, PREEMPT_DYNAMIC or PREEMPT, if the kernel names one in its version."""
    match = re.search(r"\bPREEMPT\w*", version)
    return match[0] if match else None


def board_facts(root: Path = Path("/")) -> dict[str, Any]:
    memory_kb = _first_match(r"^MemTotal:\s*(\d+) kB", root / "proc/meminfo")
    commit = _output("git", "-C", str(ROOT), "rev-parse", "HEAD")
    changes = _output("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no",
                      "--", "seed", "profiles") if commit else None
    return {"board": system_health.board(root) or None,
            "cpu": _first_match(r"^model name\s*:\s*(.+)$", root / "proc/cpuinfo"),
            "machine": platform.machine(), "cores": len(os.sched_getaffinity(0)),
            "memory_mb": int(memory_kb) // 1024 if memory_kb else None,
            "kernel": platform.release(), "preemption": _preemption(platform.version()),
            "system": _first_match(r'^PRETTY_NAME="?([^"\n]+)', root / "etc/os-release"),
            "python": platform.python_version(), "clang": _compiler(), "version": __version__,
            "packages": {name: _version(name) for name in PACKAGES},
            "commit": commit, "has_changes": bool(changes) if changes is not None else None}


class StatusSamples:
    """What a training says of itself in status.json, from look to look."""

    def __init__(self, run_dir: RunDir):
        self._path, self.last = run_dir.status, dict[str, Any]()
        self._began_beat: int | None = None
        self._rates: dict[int, float] = {}   # tokens/s by beat
        self._actions: dict[str, str] = {}   # of the governor, with the last reason

    def add(self) -> None:
        try:
            status = read_json(self._path)
            beat, action = int(status["beat"]), str(status["action"])
        except (OSError, ValueError, KeyError, TypeError):
            return   # it has not begun
        self.last = status
        if isinstance(status.get("tokens_per_s"), float):
            self._rates[beat] = status["tokens_per_s"]
        if action != "run":
            self._actions[action] = str(status.get("reason", ""))

    def facts(self) -> dict[str, Any]:
        rates = list(self._rates.values())
        return {"state": self.last.get("state"), "grade": self.last.get("grade"),
                "tokens_per_s": round(median(rates)) if rates else None,
                "waited_s": self.last.get("waited_s"), "governor": self._actions,
                "skipped": self.last.get("skipped"), "rollbacks": self.last.get("rollbacks")}


def training_facts(run_dir: RunDir) -> dict[str, Any]:
    """Of the whole training, those parts included that ran before."""
    path = run_dir.metrics
    rounds = {row["step"] for row in metrics_reader.rows(path, "body")}

    def losses() -> Any:
        return (row["loss"] for row in metrics_reader.rows(path, "step")
                if row["step"] not in rounds)
    n_steps = sum(1 for _ in losses())
    first = list(islice(losses(), LOSS_STEPS))
    last = list(islice(losses(), max(0, n_steps - LOSS_STEPS), None))
    evaluation = (metrics_reader.read(path, "eval") or [{}])[-1]
    scores = evaluation.get("scores") or []
    return {"steps": n_steps + len(rounds), "curriculum_steps": n_steps,
            "body_rounds": len(rounds), "loss_start": fmean(first) if first else None,
            "loss_end": fmean(last) if last else None,
            "holdout": fmean(row["accuracy"] for row in scores) if scores else None,
            "holdout_items": sum(row["count"] for row in scores),
            "evaluated_step": evaluation.get("step"), "returns": evaluation.get("returns") or []}


def real_time_facts(pid: int) -> dict[str, bool | None]:
    """Of the tick loop's process."""
    facts: dict[str, bool | None] = {"is_real_time": None, "memory_is_locked": None}
    with contextlib.suppress(OSError):
        policy = os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK
        facts["is_real_time"] = policy in (os.SCHED_FIFO, os.SCHED_RR)
    locked_kb = _first_match(r"^VmLck:\s*(\d+) kB", Path(f"/proc/{pid}/status"))
    facts["memory_is_locked"] = None if locked_kb is None else int(locked_kb) > 0
    return facts


def live_facts(live_dir: Path, block: Block | None) -> dict[str, Any]:
    decisions: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        for line in (live_dir / "lineage.jsonl").read_text().splitlines():
            decision = str(json.loads(line)["decision"])
            decisions[decision] = decisions.get(decision, 0) + 1
    if block is None:
        return {"ticks": 0, "decisions": decisions}
    words = block.words()
    names = ("ticks", "missed", "late", "late_brain", "late_body", "faults", "episodes", "swaps",
             "last_return", "surprise")
    return {"rate_hz": 1e9 / words["period_ns"] if words["period_ns"] else None,
            **{name: words[name] for name in names}, "decisions": decisions,
            "lateness_us": _quantiles(block.lateness(), words["worst_late_ns"]),
            "tick_us": _quantiles(block.tick_times(), words["worst_tick_ns"])}


def _quantiles(counts: list[int], worst_ns: float) -> dict[str, float] | None:
    """Of a histogram: bounds that so many are below, and the worst."""
    if not sum(counts):
        return None
    return {**{name: min(quantile_us(counts, q), worst_ns / 1000) for name, q in
               QUANTILES.items()}, "worst": worst_ns / 1000}


def _text(value: Any, form: str = "{:,.0f}", otherwise: str = "unknown") -> str:
    return otherwise if value is None else form.format(value)


def _sensor(reading: dict[str, Any], form: str = "{:,.0f}") -> str:
    return _text(reading["value"], form, f"unknown: {reading['reason']}")


def _bits(reading: dict[str, Any]) -> str:
    bits = reading["value"]
    return (f"unknown: {reading['reason']}" if bits is None else
            f"{', '.join(bits['now']) or 'none'}; since boot: "
            f"{', '.join(bits['since_boot']) or 'none'}")


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)])


def _board_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    versions = (f"{name} {_text(version, '{}')}" for name, version in facts["packages"].items())
    changed = " with changes" if facts["has_changes"] else ""
    return [("board", facts["board"] or "unknown: not in the device tree"),
            ("processor", f"{facts['cpu'] or 'unknown'}, {facts['machine']}, {facts['cores']} "
                          f"cores"),
            ("memory", _text(facts["memory_mb"], "{:,} MB")),
            ("kernel", ", ".join(filter(None, (facts["kernel"], facts["preemption"],
                                               facts["system"] or "unknown system")))),
            ("software", f"Python {facts['python']}, {', '.join(versions)}, "
                         f"{facts['clang'] or 'clang unknown'}"),
            ("Seed Brain", f"{facts['version']}, commit {_text(facts['commit'], '{}')}{changed}")]


def _sensor_rows(board: dict[str, Any]) -> list[tuple[str, str]]:
    return [("hottest", _sensor(board["hottest_c"], "{:.1f} C")),
            ("throttle bits that were set", _bits(board["throttled"])),
            ("lowest clock, of its maximum", _sensor(board["lowest_clock"], "{:.0%}")),
            ("fan, at most", _sensor(board["fastest_fan"], "{:,.0f} rpm")),
            ("peak memory of all processes", _sensor(board["most_memory_mb"], "{:,.0f} MB")),
            ("least memory available", _sensor(board["least_available_mb"], "{:,.0f} MB")),
            ("swap used, at most", _sensor(board["most_swap_mb"], "{:,.0f} MB"))]


def _training_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    holdout = _text(facts["holdout"], "{:.1%}", "not evaluated")
    if facts["holdout"] is not None:
        holdout += (f" of {facts['holdout_items']:,} questions right, mean of all levels, at step "
                    f"{facts['evaluated_step']:,}")
    governor = "; ".join(f"{action}: {reason}" for action, reason in facts["governor"].items())
    return [("time of this run", f"{facts['seconds'] / 60:.1f} min, of which paused "
                                 f"{_text(facts['waited_s'], '{:,} s')}"),
            ("steps", f"{facts['curriculum_steps']:,} of the curriculum, "
                      f"{facts['body_rounds']:,} rounds of the body"),
            ("tokens/s, median", _text(facts["tokens_per_s"], "{:,}")),
            ("loss, first and last steps", f"{_text(facts['loss_start'], '{:.3f}')} to "
                                           f"{_text(facts['loss_end'], '{:.3f}')}"),
            ("holdout", holdout),
            *((f"return in {row['body']}", f"{row['mean']:.1f} of {row['episodes']} unseen "
                                           f"episodes") for row in facts["returns"]),
            ("governor", governor or "never slowed it down"),
            ("steps that were not finite", _text(facts["skipped"])),
            *_sensor_rows(facts["board"])]


def _live_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    if not facts["ticks"]:
        return [("ticks", "0"), *_sensor_rows(facts["board"])]

    def times(row: dict[str, float] | None) -> str:
        return " / ".join(_text(row and row[name]) for name in (*QUANTILES, "worst"))
    decisions = ", ".join(f"{n} {name}" for name, n in facts["decisions"].items())
    yes_no = {True: "yes", False: "no: not permitted", None: "unknown"}
    return [("ticks", f"{facts['ticks']:,} at {facts['rate_hz']:.0f} Hz"),
            ("missed, late by over a tenth of a period",
             f"{facts['missed']:,}, {facts['late']:,}"),
            ("lateness p50 / p99 / p99.9 / worst, us", times(facts["lateness_us"])),
            ("time of a tick p50 / p99 / p99.9 / worst, us", times(facts["tick_us"])),
            ("brain, body too late for a tick", f"{facts['late_brain']:,}, {facts['late_body']:,}"),
            ("real-time priority, locked memory", f"{yes_no[facts['is_real_time']]}, "
                                                  f"{yes_no[facts['memory_is_locked']]}"),
            ("faults", f"{facts['faults']:,}"),
            ("episodes", f"{facts['episodes']:,}, the last with {facts['last_return']:g}"),
            ("decisions about brains", decisions or "none"),
            *_sensor_rows(facts["board"])]


def markdown(facts: dict[str, Any]) -> str:
    plan = facts["plan"]
    lengths = f"{plan['minutes']:g} min of training, {plan['live_minutes']:g} min live"
    state = "complete" if facts["is_complete"] else f"**not complete: {facts['ended']}**"
    board = facts["board"] or facts["machine"]
    parts = [f"# Seed Brain on {board}", f"{facts['time']}; {lengths}; {state}",
             _table(_board_rows(facts))]
    rows_of: dict[str, Callable[[dict[str, Any]], list[tuple[str, str]]]] = {
        "training": _training_rows, "live": _live_rows}
    for name, make_rows in rows_of.items():
        phase = facts[name]
        parts += [f"## {name.capitalize()}", _table(make_rows(phase)) if phase else "not begun"]
    return "\n\n".join(parts) + "\n"


def write(run_dir: RunDir, facts: dict[str, Any]) -> str:
    """Writes proof.json and proof.md; the Markdown, and where they are. Raises OSError."""
    text = markdown(facts)
    paths = run_dir.path / "proof.md", run_dir.path / "proof.json"
    atomic_file.write(paths[0], text.encode())
    atomic_file.write(paths[1], json.dumps(facts, indent=1).encode() + b"\n")
    return f"{text}\nwritten to {paths[0]} and {paths[1].name}; made to be posted"
