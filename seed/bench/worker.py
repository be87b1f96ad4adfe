"""One contender in its own process: it runs steps on request and prints their seconds.

    python -m seed.bench.worker CONTENDER PROFILE THREADS [a.b=value ...]

After its third step it prints one JSON line with the time and the first loss. For each number n on
its input it runs WARM_UP_STEPS steps and n more, and prints the seconds of the latter as a JSON
list. At the end of its input it prints its peak memory.
"""
import json
import sys
import time
import typing
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from seed.config import Profile, load_profile
from seed.curriculum.dataset import Batch
from seed.system_health import tree_mb

LR = 1e-3
WARM_UP_STEPS = 3  # untimed, at the start of a turn: an idle core is slow at first
Step = Callable[[], float]


def batch(profile: Profile) -> Batch:
    """Random tokens and targets: every position counts in the loss."""
    shape = (profile.train.batch_size, profile.train.seq_len)
    rng = np.random.default_rng(0)
    tokens, targets = rng.integers(0, profile.model.vocab_size, (2, *shape)).astype(np.int32)
    return Batch(tokens, targets)


def seed_step(profile: Profile, threads: int) -> Step:
    """With AdamW for all parameters, as the peers."""
    from seed.training.step import Learner
    profile = replace(profile, train=replace(profile.train, optimizer="adamw"))
    learner, data = Learner(profile, threads), batch(profile)
    return lambda: learner.step(data, LR).loss


def torch_step(profile: Profile, threads: int, architecture: str, compiled: bool) -> Step:
    import torch
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    peer: typing.Any
    if architecture == "delta":
        from seed.bench import torch_delta
        from seed.wavecore.model import init_params
        peer = torch_delta.Peer(profile.model, init_params(profile.model, profile.train.seed),
                                profile.train.seq_len)
    else:
        from seed.bench import torch_mamba2
        peer = torch_mamba2.Peer(profile.model)
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


def matmul_step(profile: Profile, threads: int) -> Step:
    """Only the products with weight matrices, forward and backward, by numpy's OpenBLAS."""
    from seed.wavecore.layout import blocks
    rows = profile.train.batch_size * profile.train.seq_len
    shapes = [a.shape for block in blocks(profile.model) for a in block.arrays
              if a.matrices or block.kind == "embedding"]  # the embedding as the head
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)
    work = []
    for n, k in shapes:
        x, w, dy = normal(rows, k), normal(n, k), normal(rows, n)
        work.append((x, w, dy, np.empty_like(dy), np.empty_like(x), np.empty_like(w)))

    def step() -> float:
        for x, w, dy, y, dx, dw in work:
            np.matmul(x, w.T, out=y)
            np.matmul(dy, w, out=dx)
            np.matmul(dy.T, x, out=dw)
        return 0.0
    return step


CONTENDERS: dict[str, Callable[[Profile, int], Step]] = {
    "seed": seed_step,
    "matmul": matmul_step,
    "torch eager": lambda p, n: torch_step(p, n, "delta", False),
    "torch compile": lambda p, n: torch_step(p, n, "delta", True),
    "mamba2 eager": lambda p, n: torch_step(p, n, "mamba2", False),
    "mamba2 compile": lambda p, n: torch_step(p, n, "mamba2", True),
}


def main() -> None:
    contender, profile_name, threads, *overrides = sys.argv[1:]
    step = CONTENDERS[contender](load_profile(profile_name, overrides), int(threads))
    losses = [step() for _ in range(3)]
    print(json.dumps({"third_step_at": time.time(), "loss": losses[0]}), flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(WARM_UP_STEPS):
            step()
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        print(json.dumps(seconds), flush=True)
    print(json.dumps({"peak_rss_mb": tree_mb()[1].value}), flush=True)


if __name__ == "__main__":
    main()
