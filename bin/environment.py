"""Prints what the environment of a checkout lacks, a line each; ends with 3 if there is a line.

    .venv/bin/python bin/environment.py ROOT [EXTRA]

It compares versions with those of setup.cfg. Any other exit code means that this Python is unfit.
"""
import configparser
import importlib.util
import os
import sys
from importlib import metadata
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement   # without pip nothing can be installed

MISSING = 3


def missing_packages(requirements: list[str]) -> list[str]:
    lines = []
    for requirement in map(Requirement, requirements):
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            version = None
        if version is None:
            lines.append(str(requirement))
        elif not requirement.specifier.contains(version, prereleases=True):
            lines.append(f"{requirement} in place of {version}")
    return lines


def is_installed(root: Path) -> bool:
    """Whether `import seed` finds this checkout from everywhere, and its command is there."""
    spec = importlib.util.find_spec("seed")
    try:
        commands = metadata.distribution("seed-brain").entry_points.names
    except metadata.PackageNotFoundError:
        return False
    return (spec is not None and spec.origin is not None and "seed" in commands
            and os.path.realpath(spec.origin) == os.path.realpath(root / "seed/__init__.py"))


def main(root: Path, *extras: str) -> int:
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg", encoding="utf-8")
    requirements = config["options"]["install_requires"].split("\n")
    for extra in extras:
        requirements += config["options.extras_require"][extra].split("\n")
    lines = missing_packages([line for line in requirements if line.strip()])
    # An environment behind a link may serve several checkouts: their scripts name their own code.
    if not (root / ".venv").is_symlink() and not is_installed(root):
        lines.append(f"seed-brain of {root}")
    print("\n".join(lines))
    return MISSING if lines else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
