"""The shortest cases of tests/soak/same_bits.py; all of them: `python -m tests.soak.same_bits`."""
import pytest

from tests.soak import same_bits


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("golden")


@pytest.mark.parametrize("name", [
    "short", "turns", "short portable", "short int8",
    *(pytest.param(name, marks=pytest.mark.long) for name in ("toy", "portable", "int8"))])
def test_the_bits_are_those_that_were_recorded(name, folder):
    assert same_bits.CASES[name](folder) == same_bits.GOLDEN[name]
