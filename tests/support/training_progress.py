"""A moment of a training."""
from seed.terminal.progress import Answer, Progress

SOMETIME = Progress(
    "toy", "runs/first", step=1340, total_steps=2206, fraction=0.56, left_s=92.4, next_eval_s=9.2,
    loss=0.61, losses=[3 - 0.05 * i for i in range(50)], grade=2, n_grades=6,
    accuracy={1: {"copy": 0.98, "repeat": 0.89, "identity": 1.0},
              2: {"count": 0.06, "next": 0.24, "missing": 0.05}},
    passed=["copy", "repeat", "identity"], event="grade 2 unlocked",
    answers=[Answer("12<39!", "T", "T"), Answer("17+17=", "36…", "34")],
    returns={"cartpole": [10.0, 20.0, 50.0, 200.0, 480.0]}, temp_c=62.0, memory_mb=135.0,
    max_memory_mb=6144.0, tokens_per_s=30_400.0, saved_s=12.0)
