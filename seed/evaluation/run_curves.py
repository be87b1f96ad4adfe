"""Curves of several runs side by side: which there are, to draw and as files."""
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from seed.errors import ConfigError, printable
from seed.settings import MIN_LIKENESS, nearest
from seed.storage import RunDir, atomic_file, event_file
from seed.storage.curves import Curve, matching, read
from seed.storage.output_file import check_output
from seed.terminal.plot import Line

MAX_LISTED = 12   # names in a message
Runs = Mapping[str, Mapping[str, Curve]]   # name of the run, of the curve


def read_runs(run_dirs: Sequence[RunDir]) -> Runs:
    """By the shortest ends of their paths that tell them apart. Raises ConfigError, OSError."""
    paths = list(dict.fromkeys(run_dir.path.resolve() for run_dir in run_dirs))
    runs = {}
    for path, name in zip(paths, _names(paths)):
        curves = read(RunDir(path).metrics)
        if not curves:
            raise ConfigError(f"{path} has no step of a training in {RunDir(path).metrics.name}: "
                              f"name the run directory of one")
        runs[name] = curves
    return runs


def _names(paths: Sequence[Path]) -> list[str]:
    longest = max(len(path.parts) for path in paths)
    for n in range(1, longest + 1):
        names = ["/".join(path.parts[-n:]).replace("//", "/") for path in paths]
        if len({*names}) == len(names):
            break
    return [name.strip("/") or "run" for name in names]


def lines(runs: Runs, what: str, max_points: int) -> list[Line]:
    """What is drawn of a quantity, or of a group of them. Raises ConfigError if no run has it."""
    drawn = []
    for run, curves in runs.items():
        names = matching(list(curves), what)
        for name in names:
            points = curves[name].reduced(max_points)
            values = [value for _, value in points]
            label = run if name == what else f"{run} {name.removeprefix(f'{what}/')}"
            drawn.append(Line(printable(label), points, f"last {values[-1]:.4g}, from "
                              f"{min(values):.4g} to {max(values):.4g}"))
    if not drawn:
        raise ConfigError(_missing(runs, what))
    return drawn


def only_values(lines: Sequence[Line]) -> list[str]:
    """Of lines of one point each, in words."""
    return [f"  {line.name}: {value:.4g} at step {step:,}, its only value yet"
            for line in lines for step, value in line.points]


def _missing(runs: Runs, what: str) -> str:
    names = list(dict.fromkeys(part for curves in runs.values() for name in curves
                               for part in (name, *name.split("/", 1))))
    top = list(dict.fromkeys(name.partition("/")[0] for curves in runs.values() for name in curves))
    listed = ", ".join(top[:MAX_LISTED]) + (", ..." if len(top) > MAX_LISTED else "")
    return printable(f"no run has {what!r}{nearest(what, names, MIN_LIKENESS)}; there are {listed}")


def check_tensorboard(directory: Path, runs: Runs) -> None:
    """Makes the folders of the runs. Raises ConfigError, OSError."""
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"--tensorboard {directory} is not a directory: use another name")
    for run in runs:
        atomic_file.make_directory(directory / run)
        check_output("--tensorboard", directory / run / event_file.NAME, "an event file",
                     event_file.is_event_file)


def write_tensorboard(directory: Path, runs: Runs) -> None:
    """An event file in a folder for each run, in place of the one before. Raises OSError."""
    for run, curves in runs.items():
        atomic_file.write(directory / run / event_file.NAME, event_file.encoded(_scalars(curves)))


def _scalars(curves: Mapping[str, Curve]) -> Iterator[event_file.Scalar]:
    for name, curve in curves.items():
        for step, time, value in curve:
            yield event_file.Scalar(printable(name), step, 0.0 if math.isnan(time) else time, value)
