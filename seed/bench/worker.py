"""One contender in its own process: it runs steps on request and prints their seconds.

    python -m seed.bench.worker CONTENDER PROFILE THREADS [a.b=value ...]

After its third step it prints one JSON line with the time and the first loss. For each number n on
its input it runs some steps to warm up and n more, and prints the seconds of the latter as a JSON
list. At the end of its input it prints its peak memory.
"""
import importlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import seed.own_hashes  # noqa: F401  (before NumPy, as in the command line)
import numpy as np

from seed.bench.turns import timed
from seed.config import Profile
from seed.curriculum.dataset import Batch
from seed.profile_file import load_profile
from seed.system_health import tree_mb

LR = 1e-3
StepFn = Callable[[], float]   # makes an optimizer step, returns its loss


def batch(profile: Profile) -> Batch:
    """Random tokens and targets: every position counts in the loss."""
    shape = (profile.train.batch_size, profile.train.seq_len)
    rng = np.random.default_rng(0)
    tokens, targets = rng.integers(0, profile.model.vocab_size, (2, *shape)).astype(np.int32)
    return Batch(tokens, targets)


def seed_step(profile: Profile, threads: int) -> StepFn:
    """With AdamW for all parameters, as the peers."""
    from seed.training.step import Learner
    profile = replace(profile, train=replace(profile.train, optimizer="adamw"))
    learner, data = Learner(profile, threads), batch(profile)
    return lambda: learner.step(data, LR).loss


def tinygrad_step(profile: Profile, threads: int) -> StepFn:
    """The same model by tinygrad's own operations, which use one thread."""
    from seed.bench import tinygrad_delta
    from seed.training.step import TrainStep
    from seed.wavecore import model as operations
    from seed.wavecore.model import WaveCore, init_params
    from seed.wavecore.optim import Optimizer
    setattr(operations, "gated_delta_rule", tinygrad_delta.gated_delta_rule)
    config = replace(profile.train, optimizer="adamw")
    model = WaveCore(profile.model, init_params(profile.model, config.seed), reference=True)
    train_step = TrainStep(model, Optimizer(model, config), config.batch_size, config.seq_len)
    data = batch(profile)
    return lambda: train_step.run(data, LR).loss


def mlx_step(profile: Profile, threads: int) -> StepFn:
    """MLX chooses its threads by itself."""
    from seed.bench.mlx_delta import step_fn
    tokens, targets = batch(profile)
    return step_fn(profile, tokens, targets, LR)


def torch_step(profile: Profile, threads: int, module: str, compiled: bool) -> StepFn:
    import torch
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    peer = importlib.import_module(f"seed.bench.{module}").Peer(profile)
    params = list(peer.parameters())
    config = profile.train
    optim = torch.optim.AdamW(params, lr=LR, betas=(config.beta1, config.beta2), eps=config.eps,
                              weight_decay=config.weight_decay, fused=True)
    loss_fn = torch.compile(peer.loss) if compiled else peer.loss
    tokens, targets = (torch.tensor(a, dtype=torch.long) for a in batch(profile))

    def step() -> float:
        loss = loss_fn(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, config.grad_clip)
        optim.step()
        optim.zero_grad(set_to_none=True)
        return loss.item()
    return step


def matmul_step(profile: Profile, threads: int) -> StepFn:
    """Only the products with weight matrices, forward and backward, by numpy's OpenBLAS."""
    from seed.wavecore.layout import blocks
    rows, rng = profile.train.batch_size * profile.train.seq_len, np.random.default_rng(0)
    work = []
    for array in [a for block in blocks(profile.model) for a in block.arrays
                  if a.matrices or block.kind == "embedding"]:  # the embedding as the head
        n, k = array.shape
        x, w, dy = (rng.standard_normal(shape, np.float32)
                    for shape in ((rows, k), (n, k), (rows, n)))
        work.append((x, w, dy, np.empty_like(dy), np.empty_like(x), np.empty_like(w)))

    def step() -> float:
        for x, w, dy, y, dx, dw in work:
            np.matmul(x, w.T, out=y)
            np.matmul(dy, w, out=dx)
            np.matmul(dy.T, x, out=dw)
        return 0.0
    return step


CONTENDERS: dict[str, Callable[[Profile, int], StepFn]] = {
    "seed": seed_step,
    "matmul": matmul_step,
    "tinygrad": tinygrad_step,
    "mlx": mlx_step,
    **{f"{name} {mode}": partial(torch_step, module=module, compiled=mode == "compile")
       for name, module in (("torch", "torch_delta"), ("mamba2", "torch_mamba2"))
       for mode in ("eager", "compile")}}


def main() -> None:
    contender, profile_name, threads, *overrides = sys.argv[1:]
    step = CONTENDERS[contender](load_profile(profile_name, overrides), int(threads))
    losses = [step() for _ in range(3)]
    print(json.dumps({"third_step_at": time.time(), "loss": losses[0]}), flush=True)
    for line in sys.stdin:
        print(json.dumps(timed(step, int(line))), flush=True)
    print(json.dumps({"peak_rss_mb": tree_mb()[1].value}), flush=True)


if __name__ == "__main__":
    main()
