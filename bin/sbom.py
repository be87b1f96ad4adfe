"""Prints what seed-brain needs and under which licences, as an SBOM (CycloneDX 1.5, JSON), from the
metadata of the packages that are installed beside this Python.

    .venv/bin/python bin/sbom.py [EXTRA ...] > sbom.json

The same packages give the same bytes. It ends with 2 if one of setup.cfg is not installed.
"""
import configparser
import json
import sys
from importlib import metadata
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
BAD_INPUT = 2
SPDX = {"MIT License": "MIT", "Apache Software License": "Apache-2.0",
        "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
        "Python Software Foundation License": "PSF-2.0", "ISC License (ISCL)": "ISC"}
SPDX_NAMES = {"Apache 2.0": "Apache-2.0", "Apache-2.0": "Apache-2.0", "MIT": "MIT",
              "BSD-3-Clause": "BSD-3-Clause", "3-Clause BSD License": "BSD-3-Clause"}
MAX_LICENSE_CHARS = 80   # of a name; longer ones are the text itself


def licenses(fields: metadata.PackageMetadata) -> list[dict]:
    """As CycloneDX has them: an expression, or one that the package names."""
    if expression := fields.get("License-Expression"):
        return [{"expression": expression}]
    named = [text.rpartition(" :: ")[2] for text in fields.get_all("Classifier") or []
             if text.startswith("License :: ") and not text.endswith("OSI Approved")]
    lines = (fields.get("License") or "").strip().splitlines()
    if not named and lines and len(lines[0]) <= MAX_LICENSE_CHARS:
        named = [lines[0]]
    ids = [(SPDX | SPDX_NAMES).get(name) for name in named]
    return [{"license": {"id": spdx} if spdx else {"name": name}}
            for name, spdx in zip(named, ids)] or [{"license": {"name": "not stated"}}]


def requirements(texts: list[str], extras: set[str]) -> list[Requirement]:
    """Those that hold on this machine."""
    parsed = [Requirement(text) for text in texts if text.strip()]
    return [each for each in parsed if each.marker is None or any(
        each.marker.evaluate({"extra": extra}) for extra in (extras or {""}))]


def purl(name: str, version: str) -> str:
    return f"pkg:pypi/{canonicalize_name(name)}@{version}"


def walk(direct: list[Requirement]) -> tuple[dict[str, dict], dict[str, list[str]]]:
    """Components by their reference, and what each depends on. Raises PackageNotFoundError."""
    components: dict[str, dict] = {}
    needs: dict[str, list[str]] = {}
    waiting = list(direct)
    while waiting:
        requirement = waiting.pop()
        distribution = metadata.distribution(requirement.name)
        name, fields = canonicalize_name(requirement.name), distribution.metadata
        ref = purl(name, distribution.version)
        if ref in components:
            continue
        components[ref] = {
            "type": "library", "bom-ref": ref, "name": name, "version": distribution.version,
            "purl": ref, "licenses": licenses(fields)}
        following = requirements(distribution.requires or [], set(requirement.extras))
        needs[ref] = sorted({purl(each.name, metadata.version(each.name)) for each in following})
        waiting += following
    return components, needs


def bill(extras: list[str]) -> dict:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    texts = config["options"]["install_requires"].split("\n")
    for extra in extras:
        texts += config["options.extras_require"][extra].split("\n")
    direct = requirements(texts, set())
    components, needs = walk(direct)
    version = (ROOT / "seed/__init__.py").read_text(encoding="utf-8").partition(
        '__version__ = "')[2].partition('"')[0]
    top = purl("seed-brain", version)
    needs[top] = sorted(purl(each.name, metadata.version(each.name)) for each in direct)
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
            "metadata": {"component": {
                "type": "application", "bom-ref": top, "name": "seed-brain", "version": version,
                "purl": top, "licenses": [{"license": {"id": config["metadata"]["license"]}}]}},
            "components": [components[ref] for ref in sorted(components)],
            "dependencies": [{"ref": ref, "dependsOn": needs[ref]} for ref in sorted(needs)]}


def main(*extras: str) -> int:
    try:
        print(json.dumps(bill(list(extras)), indent=2))
    except metadata.PackageNotFoundError as error:
        print(f"sbom: {error.name} is not installed beside this Python: run bin/train.sh, or use "
              f"its .venv/bin/python", file=sys.stderr)
        return BAD_INPUT
    except KeyError as error:
        print(f"sbom: setup.cfg has no extra {error}: leave it out", file=sys.stderr)
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
