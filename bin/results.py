"""Measures the tables of docs/results.md that take under an hour: `bin/results.sh [TABLE ...]`

Each table stands between the comments `<!-- table: NAME -->` and `<!-- end -->` of the page. It is
replaced together with its date, commit, machine and command; the rest of the page stays.
"""
import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))   # a checkout measures itself

from seed.profile_file import load_profile  # noqa: E402
from seed.wavecore.layout import count_params     # noqa: E402

PAGE = ROOT / "docs" / "results.md"
PROFILES = ("fast", "toy", "mid", "slow", "seed")
EXPORTS = {"portable": (), "litert": ("--target", "litert"),
           "litert-int8": ("--target", "litert", "--int8")}
OLD_RUNTIME = ROOT / ".venv-tflite" / "bin" / "python"   # tflite-runtime 2.14, for portable files


def run(*arguments: str | Path, python: str | Path = sys.executable) -> str:
    """Standard output of `python -m ...`. Raises CalledProcessError."""
    return subprocess.run([python, "-m", *arguments], check=True, text=True, cwd=ROOT,
                          stdout=subprocess.PIPE).stdout


def code_block(text: str) -> str:
    return f"```text\n{text.strip()}\n```"


def profiles(folder: Path, threads: int) -> tuple[str, str]:
    rows = ["| profile | parameters | d_model x layers | pattern | batch x bytes |",
            "|---|---|---|---|---|"]
    for name in PROFILES:
        profile = load_profile(name)
        model, train = profile.model, profile.train
        rows.append(f"| `{name}` | {count_params(model):,} | {model.d_model} x {model.n_layers} "
                    f"| {model.layer_kinds} | {train.batch_size} x {train.seq_len} |")
    return "python -m seed info --profile NAME", "\n".join(rows)


def three_minutes(folder: Path, threads: int) -> tuple[str, str]:
    table = run("seed", "train", "--profile", "toy", "--minutes", "3", "--table",
                "--run-dir", folder / "toy", "--threads", str(threads))
    return f"bin/train.sh --profile toy --minutes 3 --threads {threads} --table", code_block(table)


def export(folder: Path, threads: int) -> tuple[str, str]:
    """Files of brains of three steps: neither size nor time depends on the weights."""
    files: dict[str, list[Path]] = {kind: [] for kind in EXPORTS}
    for name in PROFILES:
        run("seed", "train", "--profile", name, "--steps", "3", "--run-dir", folder / name,
            "--threads", str(threads), "--set", "curriculum.holdout_items=1")
        for kind, options in EXPORTS.items():
            files[kind].append(folder / f"{name}-{kind}.tflite")
            run("seed", "export", "--no-verify", "--run-dir", folder / name,
                "--out", files[kind][-1], *options)
    tables = [run("seed.bench.steps", *(path for paths in files.values() for path in paths))]
    if OLD_RUNTIME.exists():
        tables.append(run("seed.bench.steps", *files["portable"], python=OLD_RUNTIME))
    return "python -m seed.bench.steps FILE...", code_block("\n".join(tables))


def rates(folder: Path, threads: int) -> tuple[str, str]:
    """Of brains of three steps, as above. Raises CalledProcessError if one is too slow here."""
    rows = ["| profile | its loop | p99 of a tick, ms |", "|---|---|---|"]
    for name in ("fast", "mid", "slow"):
        run("seed", "train", "--profile", name, "--steps", "3", "--run-dir", folder / name,
            "--threads", str(threads), "--set", "curriculum.holdout_items=1")
        ticks = json.loads(run("seed", "export", "--no-verify", "--check-rate", "--json",
                               "--run-dir", folder / name))["ticks"]
        rows.append(f"| `{name}` | {ticks['rate_hz']:g} Hz, {ticks['max_tick_ms']:g} ms "
                    f"| {ticks['p99_ms']:.2f} |")
    return "python -m seed export --no-verify --check-rate --json", "\n".join(rows)


def bench(folder: Path, threads: int) -> tuple[str, str]:
    arguments = ("bench", "--turns", "10", "--threads", str(threads))
    return f"python -m seed {' '.join(arguments)}", code_block(run("seed", *arguments))


TABLES: dict[str, Callable[[Path, int], tuple[str, str]]] = {
    "profiles": profiles, "three-minutes": three_minutes, "export": export, "rates": rates,
    "bench": bench}


def commit() -> str:
    """Short hash of the checkout, and whether its code has changes."""
    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], text=True,
                              stdout=subprocess.PIPE).stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "seed", "profiles")
    return (git("rev-parse", "--short=7", "HEAD") or "unknown") + (" with changes" if changed
                                                                   else "")


def machine() -> str:
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"),
                    re.MULTILINE)
    return f"{os.cpu_count()} cores, {cpu[1] if cpu else platform.machine()}"


def replace_table(page: str, name: str, content: str) -> str:
    """The page with other content between a table's comments. Raises ValueError if it has none."""
    pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"the page has no table {name}: add <!-- table: {name} --> and <!-- end "
                         f"-->")
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", page, count=1)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bin/results.sh",
                                     description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE",
                        help=f"{', '.join(TABLES)} (default: all)")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(argv)
    unknown = [name for name in args.tables if name not in TABLES]
    if unknown:
        parser.error(f"no table {unknown[0]}: use {', '.join(TABLES)}")
    for name in args.tables or TABLES:
        with tempfile.TemporaryDirectory() as folder:
            command, table = TABLES[name](Path(folder), args.threads)
        about = f"{date.today()}, commit {commit()}, {machine()}; `{command}`"
        page = args.page.read_text(encoding="utf-8")
        args.page.write_text(replace_table(page, name, f"{about}\n\n{table}"), encoding="utf-8")
        print(f"{name}: {about}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
