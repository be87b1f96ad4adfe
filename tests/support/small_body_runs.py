"""Trainings of a small brain with a small body."""
from seed.errors import StopReason
from seed.profile_file import load_profile
from seed.storage import RunDir
from seed.training import train
from seed.training.stop_signals import StopSignals

SMALL = ["model.d_model=32", "model.d_ff=32", "model.n_layers=2", "model.pattern=\"SA\"",
         "model.sliding_window=4", "train.minutes=0", "body.rows=4", "body.ticks=16",
         "body.chunk=8", "body.passes=2", "train.batch_size=2", "train.seq_len=32",
         "curriculum.holdout_items=1", "curriculum.eval_every_steps=0",
         "curriculum.tasks={copy = 1.0}"]


def profile(steps: int, *overrides: str, body: str = "target"):
    return load_profile("control", [*SMALL, f"body.rounds={{{body} = 1}}", f"train.steps={steps}",
                                    *overrides])


def run(folder, steps: int, *overrides: str, threads: int = 1, **options):
    return train(profile(steps, *overrides), RunDir(folder), threads, lambda line: None, **options)


def assert_threads_and_stops_change_no_bit(folder, *overrides: str) -> None:
    run(folder / "whole", 6, *overrides, threads=2)
    for stop_at in (1, 2):   # before the rate decays
        signals = StopSignals()
        result = run(folder / "parts", 6, *overrides, signals=signals,
                     early_stop_fn=lambda step, *_: step == stop_at and signals.stop.set())
        assert (result.reason, result.step) == (StopReason.STOPPED, stop_at)
    assert run(folder / "parts", 6, *overrides).finished
    whole, parts = (RunDir(folder / name).checkpoint.read_bytes() for name in ("whole", "parts"))
    assert whole == parts
