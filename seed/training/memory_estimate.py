"""How much memory a run will take, known before its first step from shapes alone."""
from collections.abc import Sequence
from pathlib import Path

from seed.body.episodes import memory_mb
from seed.config import Profile
from seed.curriculum import corpus
from seed.errors import ConfigError, NotEnoughMemory
from seed.evaluation.exact_match import MAX_PASS_BYTES, graph_size
from seed.governor import ceiling_mb
from seed.system_health import MB, Health
from seed.task_names import is_class_name, is_user_task
from seed.wavecore import footprint
from seed.wavecore.layout import BodyShape
from seed.wavecore.tinygrad_seam import install

PROCESS_MB = 50.0     # interpreter, tinygrad, its graphs and the dataset
COMPILER_MB = 105.0   # one running clang
TASK_PROCESSES_MB = 36.0   # a worker of a user's class and its supervisors
BODY_PROCESSES_MB = 60.0   # with numpy; while a brain is evaluated there are two
MODEL_MEMORY_FACTOR = 12   # of episodes: float32 ticks, and what a model is fitted to
FLOAT_MB = 4 / MB


def estimate_mb(profile: Profile, threads: int,
                bodies: Sequence[BodyShape] = ()) -> dict[str, float]:
    """MB of the process tree at its peak, by use; they add up.

    The peak is in the first evaluation, while it is compiled beside all buffers of a step; or while
    it runs, if that takes more than the compiler. Self-play is compiled after it.
    """
    install()   # the kernels hold tables: without its settings tinygrad looks for every device
    model, train = profile.model, profile.train
    weights = footprint.packed_size(model, bodies)
    step = footprint.training(model, train.batch_size, train.seq_len, threads)
    moments, update = footprint.optimizer(model, train, threads, tuple(bodies))
    shared = step.activations + max(step.scratch, update)   # memory of steps, for all graphs
    evaluation = _beyond(footprint.varlen(model, _longest_pass(profile), threads), shared)
    is_averaged = train.average_fraction > 0 and not bodies
    gradients = weights if train.grad_accum_steps == 1 else 3 * weights
    floats = {"weights": weights, "moments": moments, "gradients": gradients,
              "activations": step.activations, "scratch": max(step.scratch, update),
              "average": is_averaged * weights,
              "packed": weights}   # for evaluations, and for steps of acting
    for body in bodies:
        play = profile.body
        acting = footprint.training(model, play.rows, play.chunk, threads)
        floats["bodies"] = floats.get("bodies", 0) + acting.activations + acting.scratch \
            + footprint.ticks(model, body, play.rows, play.chunk) + play.takes_turns * moments \
            + play.passes * footprint.ticks(model, body, play.rows, play.ticks)
    if profile.distill.parent:  # the arrays, and the file while it is read
        rows = profile.distill.batches * train.batch_size * train.grad_accum_steps * train.seq_len
        floats["parent"] = 2 * rows * (3 + 6 * profile.distill.top_k) // 4
    if profile.selfplay.tasks:
        floats["evaluation"] = evaluation
        floats["rollouts"] = _beyond(
            footprint.step(model, profile.selfplay.questions, threads), shared)
    episodes = sum(memory_mb(Path(directory)) for directory in profile.body.data)
    if profile.body.data_goal == "model":
        episodes *= 1 + MODEL_MEMORY_FACTOR
    return {"process": PROCESS_MB, "compiler": max(COMPILER_MB, evaluation * FLOAT_MB),
            **{name: count * FLOAT_MB for name, count in floats.items()},
            **({"episodes": episodes} if episodes else {}),
            **_user_tasks_mb(profile), **_user_bodies_mb(profile)}


def _beyond(graph: footprint.Footprint, shared: int) -> int:
    """Floats that a graph needs beside memory that it shares with others."""
    return graph.held + max(0, graph.activations + graph.scratch - shared)


def _longest_pass(profile: Profile) -> int:
    """Bytes of an evaluation's pass; items of user tasks may be as long as a row."""
    has_user_tasks = any(map(is_user_task, profile.curriculum.tasks))
    return graph_size(profile.train.seq_len if has_user_tasks else MAX_PASS_BYTES)


def _user_tasks_mb(profile: Profile) -> dict[str, float]:
    """Of the lines of corpora and of the processes of classes, without what these import."""
    names = [name for name, weight in profile.curriculum.tasks.items()
             if weight and is_user_task(name)]
    if not names:
        return {}
    return {"user tasks": sum(TASK_PROCESSES_MB if is_class_name(name) else
                              corpus.memory_mb(Path(name)) for name in names)}


def _user_bodies_mb(profile: Profile) -> dict[str, float]:
    """Of the processes of classes, without what these import."""
    n_bodies = sum(map(is_class_name, profile.body.rounds))
    return {"user bodies": (n_bodies + 1) * BODY_PROCESSES_MB} if n_bodies else {}


def check_fits(profile: Profile, threads: int, health: Health,
               bodies: Sequence[BodyShape] = ()) -> str:
    """A line with the estimate. Raises ConfigError, with the sum, if the run can never fit;
    NotEnoughMemory if it does not fit now."""
    parts = estimate_mb(profile, threads, bodies)
    total, room = sum(parts.values()), ceiling_mb(profile.governor, health)
    limit = f"the ceiling is {room:.0f} MB"
    sums = " + ".join(f"{name} {mb:.0f}" for name, mb in parts.items())
    needs = f"this run needs about {total:.0f} MB ({sums})"
    smaller = "use a smaller train.batch_size, train.seq_len or model"
    if total > room:
        raise ConfigError(f"{needs}, but {limit}: {smaller}, or more --memory")
    if health.mem_available_mb.value is not None:
        free = health.mem_available_mb.value - profile.governor.min_available_mb
        limit = f"{free:.0f} MB of the board's memory are free" if free < room else limit
        if total > free:
            raise NotEnoughMemory(f"{needs}, but {limit}: end other programs, or {smaller}")
    return f"memory: about {total:.0f} MB at its peak; {limit}"
