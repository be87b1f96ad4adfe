"""docs/operations.md says what the sources and the units have: codes, commands, versions."""
import re
from pathlib import Path

import pytest

from seed import errors
from seed.body import episodes
from seed.live import carried_state, shared_block
from seed.runtime import sealed_file, state_file
from seed.sharing import pack
from seed.storage import checkpoint
from seed.wavecore import kernel_set

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/operations.md").read_text()
UNITS = [(ROOT / f"bin/seed-{name}.service").read_text() for name in ("brain", "live")]


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def commands(title: str) -> list[str]:
    """Lines of the blocks of a section."""
    blocks = re.findall(r"^```text\n(.*?)^```", section(title), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def all_errors(top: type[errors.SeedError]) -> list[type[errors.SeedError]]:
    return [top, *(error for sub in top.__subclasses__() for error in all_errors(sub))]


def test_exit_codes_are_those_of_the_errors():
    rows = re.findall(r"^\| (\d+) \| (?:`(\w+)`)? ?\|", section("Exit codes"), re.MULTILINE)
    codes = {name: int(code) for code, name in rows if name}
    constants = {name: value for name, value in vars(errors).items()
                 if name.isupper() and type(value) is int}
    assert codes == constants and rows[0] == ("0", "")
    assert {error.exit_code for error in all_errors(errors.SeedError)} <= {*codes.values()}


def test_services_are_installed_by_the_commands_that_the_units_tell():
    told = [line.removeprefix("#   ") for unit in UNITS for line in unit.splitlines()
            if line.startswith("#   ")]
    assert commands("Services") == told[:len(commands("Services"))]


@pytest.mark.parametrize("unit", UNITS, ids=["brain", "live"])
def test_all_places_of_a_unit_are_named_and_taken_away(unit):
    places = {f"/{base}/{name}" for key, base in (
        ("StateDirectory", "var/lib"), ("CacheDirectory", "var/cache"), ("RuntimeDirectory", "run"))
        for name in re.findall(rf"^{key}=(.+)$", unit, re.MULTILINE)}
    command = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)[0]
    places |= {re.match("/opt/[^/]+", command)[0], *re.findall(r"/etc/[^/ ]+", command)}
    removed = next(line for line in commands("Taking it away") if line.startswith("rm -r")).split()
    assert places <= {*removed} and all(place in section("Services") for place in places)
    user = re.findall(r"^User=(.+)$", unit, re.MULTILINE)[0]
    assert f"userdel {user}" in commands("Taking it away")


def test_versions_of_files_are_those_of_the_sources():
    rows = dict(re.findall(r"^\| ([^|]+) \| ([\d; ]*)\|", section("Updates"), re.MULTILINE))

    def stated(magic: bytes) -> int:
        return int(magic.split()[-1])
    assert {name: [int(n) for n in re.findall(r"\d+", text)] for name, text in rows.items()} == {
        "checkpoint": [checkpoint.FORMAT],
        "exported file; state of a robot": [sealed_file.FORMAT, stated(state_file.MAGIC)],
        "pack": [pack.FORMAT], "episodes": [episodes.FORMAT],
        "kernel set": [stated(kernel_set.MAGIC)],
        "state of a life; shared memory": [stated(carried_state.MAGIC), shared_block.VERSION],
        "metrics, lineage": []}
