"""bin/sbom.py: each dependency of setup.cfg with its version and licence, and what it needs."""
import configparser
import importlib.util
import json
import re
import subprocess
import sys
from importlib import metadata

import pytest

from tests.support.checkout import ROOT

COMMAND = [sys.executable, str(ROOT / "bin/sbom.py")]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def named(text: str) -> list[str]:
    """Of a key of setup.cfg."""
    return [canonical(re.match(r"[\w.-]+", line)[0]) for line in text.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def config() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.fixture(scope="module")
def bill() -> dict:
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=True)
    again = subprocess.run(COMMAND, capture_output=True, text=True, cwd="/", check=True)
    assert done.stdout == again.stdout
    return json.loads(done.stdout)


def test_it_names_each_dependency_of_setup_cfg_with_its_version(bill, config):
    versions = {component["name"]: component["version"] for component in bill["components"]}
    direct = named(config["options"]["install_requires"])
    assert len(direct) == 5 and {name: versions.get(name) for name in direct} == {
        name: metadata.version(name) for name in direct}
    needs = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    top = bill["metadata"]["component"]["bom-ref"]
    assert needs[top] == sorted(f"pkg:pypi/{name}@{versions[name]}" for name in direct)


def test_all_that_a_dependency_needs_is_a_component_with_a_licence(bill):
    references = {component["bom-ref"] for component in bill["components"]}
    assert all(set(entry["dependsOn"]) <= references for entry in bill["dependencies"])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    for component in bill["components"]:
        assert component["purl"] == f"pkg:pypi/{component['name']}@{component['version']}"
        texts = [entry.get("expression") or entry["license"].get("id")
                 or entry["license"]["name"] for entry in component["licenses"]]
        assert texts and all(texts) and "not stated" not in texts, component["name"]


def test_an_extra_adds_its_packages_and_what_does_not_hold_here_is_left_out(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "bin/sbom.py")
    sbom = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sbom)
    (tmp_path / "seed").mkdir()
    (tmp_path / "seed/__init__.py").write_text('__version__ = "1.2.3"')
    (tmp_path / "setup.cfg").write_text(
        "[metadata]\nlicense = MIT\n[options]\ninstall_requires =\n    numpy>=1\n"
        '    nothing; python_version < "3"\n'
        "[options.extras_require]\nmore =\n    flatbuffers\n")
    monkeypatch.setattr(sbom, "ROOT", tmp_path)
    for extras, names in (([], {"numpy"}), (["more"], {"numpy", "flatbuffers"})):
        bill = sbom.bill(extras)
        assert {component["name"] for component in bill["components"]} == names
        assert bill["metadata"]["component"]["bom-ref"] == "pkg:pypi/seed-brain@1.2.3"


def test_what_is_missing_is_one_line(tmp_path):
    done = subprocess.run([*COMMAND, "nope"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "sbom: setup.cfg has no extra 'nope': leave it out\n"
    code = ("import sys; from importlib import metadata\n"
            "def missing(name): raise metadata.PackageNotFoundError(name)\n"
            "metadata.distribution = missing\n"
            f"sys.path.insert(0, {str(ROOT / 'bin')!r}); import sbom; sys.exit(sbom.main())")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "is not installed beside this Python" in done.stderr


def test_the_page_tells_the_licences_of_the_dependencies(bill, config):
    rows = dict(re.findall(r"^\| ([\w-]+) \| ([\w.-]+)[^|]* \| [^|]+\|$",
                           (ROOT / "docs/sharing.md").read_text(), re.MULTILINE))
    stated = {component["name"]: json.dumps(component["licenses"])
              for component in bill["components"]}
    for name in named(config["options"]["install_requires"]):
        assert rows[name] in stated[name], name
