"""A cheap stand-in for the child of a trial: metrics, memory, an exit code.

    python -m tests.support.fake_training [BEHAVIOUR=VALUE ...] -- seed scale ...

runs a command of seed whose trials start this instead of `seed train`; `install` does so within a
test. Behaviours, all together or none:
    pause_s=0.01         between two steps
    memory_mb=0          that it holds
    hangs_after=N        steps after which no metrics are written
    says=TEXT, code=N    its last line on stderr and its exit code, after 5 steps
    skips=1              before that, steps that are not finite
    governor=CAUSE       logs that its governor stopped it for that
"""
import json
import os
import signal
import sys
import time
from pathlib import Path


def install(setattr_fn=setattr, **behaviour) -> None:
    """Trials start this file. `setattr_fn`: that of pytest's monkeypatch, to undo it."""
    from seed.resize import trial
    options = [f"{key}={value}" for key, value in behaviour.items()]

    def command(run_dir, threads: int) -> list[str]:
        return [sys.executable, "-S", __file__, str(run_dir.metrics), *options]
    setattr_fn(trial, "train_command", command)


def row(kind: str, step: int, **values) -> str:
    return json.dumps({"kind": kind, "step": step, **values}) + "\n"


def train(path: Path, pause_s: float = 0.01, memory_mb: float = 0, hangs_after: float = 1e9,
          says: str = "", code: int = 0, skips: float = 0, governor: str = "") -> int:
    held = bytes(range(256)) * int(memory_mb * 4096)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda *received: stopped.append(1))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])   # which the search blocks
    step = 0
    while not stopped:
        time.sleep(pause_s)
        step += 1
        if step > hangs_after:
            continue
        text = row("step", step, loss=5 - min(4, step / 100), grad_norm=1.0)
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(text + (row("eval", step, scores=[]) if step == 1 else ""))
                if step == 5 and (says or code or governor):
                    if skips:
                        file.write(row("skip", step + 1, loss="nan", in_a_row=1))
                    if governor:
                        file.write(row("governor", step, action="stop", cause=governor,
                                       reason=f"because of {governor}", duty=0.0, save=True))
                    break
        except OSError:
            pass   # a full disk: like the real one, it trains without a log
    print(says, file=sys.stderr)
    return code if held is not None else 0


def main() -> int:
    options = sys.argv[1:sys.argv.index("--")]
    install(**dict(text.split("=", 1) for text in options))
    from seed.__main__ import main as run
    sys.argv[1:] = sys.argv[sys.argv.index("--") + 1:]
    return run(sys.argv[1:])


if __name__ == "__main__" and len(sys.argv) > 1 and sys.argv[1].endswith(".jsonl"):
    pairs = [text.split("=", 1) for text in sys.argv[2:]]
    texts = {key: value for key, value in pairs if key in ("says", "governor")}
    numbers = {key: float(value) for key, value in pairs if key not in texts}
    numbers["code"] = int(numbers.get("code", 0))
    os._exit(train(Path(sys.argv[1]), **texts, **numbers))
elif __name__ == "__main__":
    sys.exit(main())
