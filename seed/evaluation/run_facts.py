"""What is known of a run and its brain without running it, for a page."""
from contextlib import suppress
from typing import Any, NamedTuple

from seed.body.facts import facts_of
from seed.config import from_dict
from seed.errors import CheckpointError, ConfigError
from seed.evaluation.run_history import FollowedRun, RunHistory
from seed.regular_file import read_json
from seed.storage import checkpoint
from seed.storage.run_dir import RunDir
from seed.wavecore.layout import count_params

LADDER_FIELDS = {"size": str, "fault": str, "peak_mb": float, "predicted_mb": float,
                 "tokens_s": float}


class RunFacts(NamedTuple):
    """None: unknown."""
    name: str
    history: RunHistory
    profile: str | None = None
    parameters: int | None = None
    step: int | None = None          # of the newest checkpoint
    total_steps: int | None = None
    sizes: list[dict[str, Any]] = []


def read_run(run_dir: RunDir, history: RunHistory | None = None) -> RunFacts:
    """`history`: if it is known already. Raises ConfigError if nothing was trained there, OSError.
    """
    history = FollowedRun(run_dir).read() if history is None else history
    facts = RunFacts(run_dir.path.resolve().name, history, sizes=read_ladder(run_dir))
    for path in (run_dir.checkpoint, run_dir.previous_checkpoint):
        with suppress(CheckpointError, ConfigError):
            meta = checkpoint.read_meta(path)
            profile = from_dict(meta["profile"])
            bodies = [body.codec.body for body in facts_of(meta).values()]
            return facts._replace(profile=profile.name, step=meta["step"],
                                  parameters=count_params(profile.model, bodies),
                                  total_steps=meta["plan"]["total_steps"])
    if not history.step:
        raise ConfigError(f"{run_dir} has no brain and no metrics: train one with --run-dir "
                          f"{run_dir}, or name another directory")
    return facts


def read_ladder(run_dir: RunDir) -> list[dict[str, Any]]:
    """The sizes that `seed scale` has tried, as it describes them; none if it has not."""
    try:
        rows = read_json(run_dir.ladder)
        valid = all(isinstance(row[key], kind) or key == "tokens_s" and row[key] is None
                    for row in rows for key, kind in LADDER_FIELDS.items())
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return rows if valid and isinstance(rows, list) else []
