"""What makes a brain readable without Seed Brain: weights, a configuration, and a model card as the
Hugging Face Hub shows it. The keys and shapes of the weights are those of the checkpoint.
"""
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import safetensors.numpy

import seed
from seed.config import L2_EPS, SIGMOID_STRETCH, TURN_SCALE
from seed.curriculum.vocab import END, PAD
from seed.errors import ConfigError, printable
from seed.evaluation import TrainedBrain
from seed.live.brains import Decision
from seed.storage import RunDir, metrics_reader
from seed.wavecore.layout import count_params

UNKNOWN_LICENSE = "unknown"
Rows = Sequence[dict[str, Any]]   # of a holdout: task, level, correct, count


def check_license(name: str) -> None:
    """Raises ConfigError unless it is an identifier, as front matter has them."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,39}", name):
        raise ConfigError(f"--license {name!r:.60}: use an identifier such as mit, apache-2.0 or "
                          f"cc-by-4.0")


def weights(trained: TrainedBrain) -> bytes:
    """All parameters as a safetensors file, without the optimizer's moments."""
    return safetensors.numpy.save(trained.params, {"format": "pt"})


def config(trained: TrainedBrain) -> dict[str, Any]:
    """What a reader of the weights needs beside them."""
    c = trained.profile.model
    return {"model_type": "seed_brain", "architectures": ["WaveCore"], **asdict(c),
            "vocab_size": c.vocab_size, "layer_kinds": c.layer_kinds, "d_inner": c.d_inner,
            "ssm_heads": c.ssm_heads, "attn_heads": c.attn_heads, "rope_theta": c.rope_theta,
            "norm_eps": c.norm_eps, "stream_eps": c.stream_eps, "l2_eps": L2_EPS,
            "stretch": SIGMOID_STRETCH, "turn_scale": TURN_SCALE, "end": END, "pad": PAD,
            "step": trained.step,
            "bodies": {name: facts.to_dict() for name, facts in trained.bodies.items()}}


def scores(run_dir: RunDir, step: int) -> Rows:
    """Of the evaluation that ended the training at this step; empty if there was none."""
    rows: Rows = []
    for row in metrics_reader.rows(run_dir.metrics, "eval"):
        if row["step"] == step and isinstance(row.get("scores"), list):
            rows = row["scores"]
    try:
        return [{"task": str(row["task"]), "level": int(row["level"]),
                 "correct": int(row["correct"]), "count": int(row["count"])} for row in rows]
    except (KeyError, TypeError, ValueError):
        return []


def card(trained: TrainedBrain, rows: Rows, lineage: Sequence[Decision], files: Sequence[str],
         license: str) -> str:
    """README.md. `rows`: of the holdout, if it was evaluated; `files`: beside it."""
    profile, shapes = trained.profile, [f.codec.body for f in trained.bodies.values()]
    name = printable(profile.name)
    bodies = [f"- `{_cell(body)}`: {len(facts.codec.channels)} numbers in, "
              f"{' x '.join(map(str, facts.codec.body.choices))} choices out"
              for body, facts in trained.bodies.items()]
    lived = [f"- {row.time}: {row.decision} {row.brain}" for row in lineage]
    parts = [_front_matter(trained, rows, license), f"# Seed Brain: {_cell(name)}", (
        f"A recurrent model of {count_params(profile.model, shapes):,} parameters that reads and "
        f"writes bytes, trained on the robot's own computer by "
        f"[Seed Brain](https://pypi.org/project/seed-brain) {seed.__version__} for "
        f"{trained.step:,} steps. Layers: {profile.model.layer_kinds} (S: gated delta rule, A: "
        f"sliding-window attention). It knows what it was trained on and nothing else, and is not "
        f"tested for anything that could do harm.")]
    parts += [_section("Bodies", bodies), _section("Right on held-out questions", _table(rows)),
              _section("Lineage", lived),
              _section("Files", [f"- `{file}`" for file in files])]
    parts.append("## Use\n\n`seed unpack FILE --run-dir NEW` makes a run of the packed file, which "
                 "trains on, adapts and exports. `config.json` and `model.safetensors` are enough "
                 "for a reader in another framework, as `examples/load_in_torch.py`.")
    return "\n\n".join(filter(None, parts)) + "\n"


def _front_matter(trained: TrainedBrain, rows: Rows, license: str) -> str:
    """YAML, of which JSON is a part, but for its escapes of characters as two halves."""
    kind = "robotics" if trained.bodies else "text-generation"
    fields: dict[str, Any] = {"license": license, "library_name": "seed-brain",
                              "pipeline_tag": kind,
                              "tags": ["seed-brain", "robotics", "byte-level", "tflite"]}
    if rows:
        value = fmean(row["correct"] / row["count"] for row in rows)
        fields["model-index"] = [{"name": printable(trained.profile.name), "results": [{
            "task": {"type": kind}, "dataset": {"name": "held-out questions", "type": "seed-brain"},
            "metrics": [{"type": "exact_match", "name": "exact match, mean of levels",
                         "value": round(value, 4)}]}]}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _table(rows: Rows) -> list[str]:
    lines = [f"| {_cell(row['task'])} | {row['level']} | {row['correct']} of {row['count']} |"
             for row in rows]
    return ["| task | level | right |", "|---|---|---|", *lines] if lines else []


def _cell(text: str) -> str:
    """In one cell, and without the folders of a user's file."""
    return re.sub(r"[|`<>\[\]]", "_", printable(text.rpartition("/")[2]))


def _section(title: str, lines: Sequence[str]) -> str:
    return f"## {title}\n\n" + "\n".join(lines) if lines else ""
