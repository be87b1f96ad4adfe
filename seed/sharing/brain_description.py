"""What a brain is, as `seed info` prints it: of a profile, a run, a checkpoint or an exported file.

A file from anybody is read as data: what it says of itself is checked, and nothing of it is run.
"""
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from seed.body.facts import Facts, facts_of
from seed.config import Profile, from_dict
from seed.curriculum.state import CurriculumState
from seed.errors import CheckpointError, ConfigError, printable
from seed.export.c_source import MARK
from seed.live.brains import Decision
from seed.regular_file import reader
from seed.runtime import MAGIC, BrainError, describe, installed_runtime
from seed.runtime.sealed_file import name_of, read
from seed.storage import RunDir, checkpoint
from seed.storage.checkpoint import Checkpoint
from seed.storage.jsonl_log import JsonlLog
from seed.storage.run_dir import Log
from seed.wavecore.layout import count_params

ZIP = b"PK\3\4"   # what a packed brain begins with


def of_profile(profile: Profile, bodies: Mapping[str, Facts] | None = None,
               step: int | None = None) -> dict[str, Any]:
    """Of a profile, or of a brain with these bodies."""
    bodies = bodies or {}
    shapes = [facts.codec.body for facts in bodies.values()]
    fields = {"profile": profile.name, "parameters": count_params(profile.model, shapes),
              "layers": profile.model.layer_kinds, "step": step,
              "model": dataclasses.asdict(profile.model)}
    if profile.loop.rate_hz:
        fields["loop"] = dataclasses.asdict(profile.loop)
    if bodies:
        fields["bodies"] = {name: _spaces(facts) for name, facts in bodies.items()}
    return fields


def of_path(path: Path, log: Log) -> dict[str, Any]:
    """Of a run directory, a checkpoint or an exported file. Raises ConfigError, CheckpointError,
    BrainError, OSError."""
    if path.is_dir():
        run_dir = RunDir(path)
        return of_run(run_dir, run_dir.load_brain(log))
    if not path.exists():
        raise ConfigError(f"{path} is not there: name a .tflite file, a checkpoint or a run "
                          f"directory")
    with reader(path) as file:
        head = file.read(len(MARK))
    if head[4:8] == MAGIC:
        return of_exported(path)
    if head.startswith(ZIP):
        raise ConfigError(f"{path} is a zip file: if it is a packed brain, make a run of it with "
                          f"seed unpack, and describe that")
    if head == MARK:
        raise ConfigError(f"{path} is a C source of a brain: the comment that it begins with "
                          f"describes it; seed info tells more of the run it was exported from")
    if path.suffix == ".toml":
        raise ConfigError(f"{path} is a profile: describe it with --profile {path}")
    return {"file": str(path), **of_checkpoint(checkpoint.read(path))}


def of_run(run_dir: RunDir, newest: Checkpoint) -> dict[str, Any]:
    """Of a run directory and its newest brain. Raises CheckpointError, ConfigError, OSError."""
    fields = {"run": str(run_dir), **of_checkpoint(newest)}
    if run_dir.exported_brain.exists():
        fields |= _exported_in(run_dir, newest)
    lineage = lineage_of(run_dir)
    if lineage:
        fields["lineage"] = {row.time: " ".join(filter(None, [
            row.decision, row.brain, row.parent and f"from {row.parent}"])) for row in lineage[-5:]}
    return fields


def _exported_in(run_dir: RunDir, newest: Checkpoint) -> dict[str, Any]:
    try:
        exported = of_exported(run_dir.exported_brain)
    except BrainError as error:   # the run itself can be described
        return {"exported": str(error)}
    is_same = exported["checkpoint"] == newest.sha256
    text = "this checkpoint" if is_same else "another checkpoint: export it again"
    fields = {"exported": f"{run_dir.exported_brain.name}, of {text}"}
    # Of more items than those of a training.
    return {**fields, "scores": exported["scores"]} if is_same and "scores" in exported else fields


def of_checkpoint(newest: Checkpoint) -> dict[str, Any]:
    """Raises CheckpointError if its bodies are damaged."""
    meta = newest.meta
    try:
        bodies = facts_of(meta)
    except ConfigError as error:
        raise CheckpointError(f"the checkpoint cannot be used: {error}") from None
    profile, state = from_dict(meta["profile"]), CurriculumState.from_dict(meta["curriculum"])
    fields = of_profile(profile, bodies, meta["step"])
    if profile.distill.parent:
        fields["parent"] = profile.distill.parent
    if state.accuracy:
        fields["grade"] = state.describe()
        fields["scores"] = {task: sum(levels) / len(levels)
                            for task, levels in state.accuracy.items()}
    return {"kind": "checkpoint", **fields, "trained_s": meta["elapsed_s"],
            "sha256": newest.sha256}


def of_exported(path: Path) -> dict[str, Any]:
    """Of an exported file, whose checksum is right. Raises BrainError."""
    data, name = read(path), name_of(path)
    description = describe(data, name)
    try:
        profile, holdout = from_dict(description["profile"]), description["holdout"] or []
        fields = of_profile(profile, facts_of(description), int(description["step"]))
        if holdout:
            fields["scores"] = _accuracies(holdout)
        selftest = description.get("selftest")
        verified_on = "not verified" if not description["verified"] else (
            f"{selftest['machine']}, {selftest['runtime']}" if selftest else "an unknown machine")
        return {"kind": "exported file", "file": name, **fields, "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(), "blake2b": description["blake2b"],
                "checkpoint": description["checkpoint_sha256"], "made_by": description["made_by"],
                **{key: description[key] for key in ("target", "weights", "prefill",
                                                     "explicit_state", "runtimes")},
                "verified": verified_on, "here": installed_runtime()}
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError):
        raise BrainError(f"{name} has a wrong description: export it again") from None


def _accuracies(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The mean of levels by task, of rows of a holdout."""
    levels: dict[str, list[float]] = {}
    for row in rows:
        levels.setdefault(str(row["task"]), []).append(int(row["correct"]) / int(row["count"]))
    return {task: fmean(accuracies) for task, accuracies in levels.items()}


def _spaces(facts: Facts) -> dict[str, Any]:
    """What a body sees and does."""
    codec = facts.codec
    return {"observation": [[channel.low, channel.high] for channel in codec.channels],
            "action": [list(part) for part in codec.actions], "form": codec.form,
            "shape": list(codec.shape), "returns": [facts.values.low, facts.values.high],
            "rate_hz": facts.rate_hz}


def lineage_of(run_dir: RunDir) -> list[Decision]:
    """What was decided of the brains that acted on a robot; empty if none did. Raises OSError,
    ConfigError."""
    paths = run_dir.lineage, run_dir.path / "live" / "lineage.jsonl"   # before it was packed; here
    return [row for path in paths
            for row in JsonlLog(path, Decision.from_dict, is_independent=True).rows]


def text(fields: Mapping[str, Any]) -> str:
    """A line for each field: a value from elsewhere adds none."""
    return "\n".join(map(printable, _lines(fields)))


def _lines(fields: Mapping[str, Any]) -> Iterator[str]:
    for key, value in fields.items():
        if key == "scores":
            key = "scores, mean of levels"
            value = {task: f"{100 * accuracy:.1f} %" for task, accuracy in value.items()}
        elif key == "bodies":
            value = {name: _in_words(spaces) for name, spaces in value.items()}
        if isinstance(value, dict):
            yield key
            yield from (f"  {name:<23} {each}" for name, each in value.items())
        else:
            yield f"{key:<11} {value}"


def _in_words(spaces: dict[str, Any]) -> str:
    observation, parts = spaces["observation"], spaces["action"]
    low, high = (fn(ends) for fn, ends in zip((min, max), zip(*observation)))
    rate = f", {spaces['rate_hz']:g} Hz" if spaces["rate_hz"] else ""
    return (f"{len(observation)} numbers of {low:g} to {high:g} in; out {spaces['form']} "
            f"of {' x '.join(str(len(part)) for part in parts)} choices{rate}")
