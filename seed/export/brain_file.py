"""From a checkpoint to a verified TFLite file. The same checkpoint gives the same bytes.

The file holds the weights, with each norm's gain folded into the projection behind it, and the
signatures (graph.py) `step`, on request `prefill_T`, and `reset` for recurrent states that are
variables which the signatures share; with explicit states they are inputs and outputs instead. That
of a brain with bodies has `save`, `load` and `predict` too. Its metadata says with which profile
and from which checkpoint it was made, its states, vocabulary, oldest runtimes, scores on the
holdout, and the control loop that the profile is for.
"""
import dataclasses
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import seed
from seed.body.results import shown
from seed.curriculum.vocab import END, PAD, VOCAB_SIZE
from seed.errors import ConfigError, ExportError
from seed.evaluation import TrainedBrain
from seed.export.graph import Options, build_model, initial_value, state_shapes
from seed.export.operations import LITERT
from seed.export.reference import Reference
from seed.export.verify_acting import ActingReport, verify_acting
from seed.export.verify import Report, rejection_reason, same_logits, steady_bytes, verify
from seed.runtime import (CHECKSUM_DIGITS, FORMAT, MAGIC, Brain, TickTimes, TooSlow,
                          measure_selftest, seal)
from seed.storage import RunDir, atomic_file
from seed.storage.output_file import check_output
from seed.storage.run_dir import Log

METADATA = "seed"
FASTER = "export with --int8 or --target litert, train a smaller profile, or end other programs"
# By target: the runtimes that read its files, from the oldest tested version on.
MIN_RUNTIMES = {"portable": {"ai-edge-litert": "2.1.6", "tflite-runtime": "2.14.0"},
                LITERT: {"ai-edge-litert": "2.1.6"}}


class BrainFile:
    """A brain's graphs, built once, and the description that a file carries beside them."""

    def __init__(self, trained: TrainedBrain, options: Options):
        profile = trained.profile
        hidden = profile.model.d_model if trained.bodies and profile.body.world_weight else 0
        bodies = [facts.codec.body for facts in trained.bodies.values()]
        self.model = build_model(profile.model, trained.params, options,
                                 f"seed brain {profile.name} at step {trained.step}", bodies,
                                 hidden > 0)
        oldest = self.model.min_runtime_version.encode()
        self.model.metadata["min_runtime_version"] = oldest.ljust(16, b"\0")
        states = {name: {"shape": shape, "start": initial_value(name)}
                  for name, shape in state_shapes(profile.model).items()}
        self.description = {
            "blake2b": "0" * CHECKSUM_DIGITS, "format": FORMAT,
            "made_by": f"seed {seed.__version__}", "runtimes": MIN_RUNTIMES[options.target],
            **dataclasses.asdict(options), "profile": profile.to_dict(),
            "step": trained.step, "states": states,
            "vocabulary": {"size": VOCAB_SIZE, "end": END, "pad": PAD, "encoding": "utf-8"},
            "plain_questions": trained.plain_questions,
            "checkpoint_sha256": trained.sha256,
            "bodies": {name: {**facts.to_dict(), "hidden": hidden}
                       for name, facts in trained.bodies.items()}}
        if profile.loop.rate_hz:
            self.description["loop"] = dataclasses.asdict(profile.loop)

    def tobytes(self, holdout: list[dict[str, Any]] | None = None,
                selftest: dict[str, Any] | None = None) -> bytes:
        """The sealed file. `holdout` and `selftest`: its scores, and what it was seen to compute on
        this machine; None if it is not verified."""
        description = {**self.description, "verified": holdout is not None, "holdout": holdout,
                       "selftest": selftest}
        self.model.metadata[METADATA] = json.dumps(description, separators=(",", ":")).encode()
        data = self.model.tobytes()
        assert data[4:8] == MAGIC
        return seal(data)


@dataclass(frozen=True)
class ExportedFile:
    """What was written, and how it was verified."""
    path: Path
    size: int               # bytes
    report: Report | None   # None if it was not verified
    acting: list[ActingReport]
    ticks: TickTimes | None = None   # if its rate was checked


def build(run_dir: RunDir, options: Options = Options(), out: Path | None = None,
          threads: int = 1, verified: bool = True, log: Log = print,
          tasks: Collection[str] = (), bodies: Collection[str] = (),
          check_rate: bool = False) -> ExportedFile:
    """Writes the newest brain of a run directory as a TFLite file, `out` or brain.tflite in it.

    If `verified`, the file first runs beside the numpy reference and the trainer, and its holdout
    scores become part of it; `tasks` are user tasks that may be used for them, `bodies` classes
    that may run. With `check_rate` it must keep the rate of its profile's loop here, in one thread.
    Raises ExportError if it differs from either, TooSlow, ConfigError if there is no brain or no
    loop, or `out` cannot be used, CheckpointError; nothing is written then.
    """
    path = out or run_dir.exported_brain
    trained = TrainedBrain.load(run_dir, threads, log, tasks)
    check_output("--out", path, "a TFLite file", lambda head: head[4:8] == MAGIC, bool(out))
    if check_rate and not trained.has_rate:
        raise ConfigError(f"--check-rate: the profile {trained.profile.name} is for no loop: train "
                          f"the brain with --set loop.rate_hz=100 --set loop.max_tick_ms=5, or a "
                          f"body with rate_hz")
    file, report, acting = BrainFile(trained, options), None, list[ActingReport]()
    if verified:
        brain, items = _open(file.tobytes(holdout=[])), trained.holdout()
        report = verify(brain, trained, items,
                        [score.to_dict() for score in trained.scores(items)])
        reason = rejection_reason(report, options.weights)
        if reason:
            raise ExportError(f"{path} was not written: {reason}")
        acting = verify_acting(brain, trained, bodies, log)
        lost = next((row for row in acting if row.has_lost), None)
        if lost:
            raise ExportError(f"{path} was not written: in {lost.body} its return is "
                              f"{shown(lost.mean_return)}, the checkpoint's "
                              f"{shown(lost.checkpoint_return)}; export wider weights than "
                              f"{options.weights}")
        tested = steady_bytes(Reference(trained.profile.model, trained.params))
        data = file.tobytes(report.holdout, measure_selftest(brain, tested))
        if not same_logits(_open(data), brain):
            raise ExportError(f"{path} was not written: its logits changed as its scores were "
                              f"added; use another TFLite runtime")
    else:
        data = file.tobytes()
    ticks = _open(data).time_ticks() if check_rate else None
    if ticks and not ticks.is_kept:
        raise TooSlow(f"{path} was not written: {ticks.describe()}; {FASTER}")
    atomic_file.write(path, data)
    return ExportedFile(path, len(data), report, acting, ticks)


def _open(data: bytes) -> Brain:
    """A brain of a file's bytes, which need no place on a disk."""
    with os.fdopen(os.memfd_create("brain.tflite"), "wb") as file:
        file.write(data)
        file.flush()
        return Brain(f"/proc/self/fd/{file.fileno()}")
