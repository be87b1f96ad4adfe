"""Commands that a person can paste where they stand."""
import sys

import pytest

from seed import interpreter
from seed.interpreter import shown_command


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A checkout and an environment, each without its script, and an empty PATH."""
    for name in ("checkout/seed", "checkout/bin", "venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(interpreter, "__file__", str(tmp_path / "checkout/seed/interpreter.py"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv/bin/python"))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "checkout/seed/__main__.py")])
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_script(path):
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


def test_without_a_script_it_is_a_module_of_this_python(places):
    assert shown_command("chat", "runs/1") == "venv/bin/python -m seed chat runs/1"


def test_a_checkout_has_a_script_and_other_folders_its_whole_path(places, monkeypatch):
    make_script(places / "checkout/bin/seed")
    assert shown_command("chat", "my runs/1") == "checkout/bin/seed chat 'my runs/1'"
    monkeypatch.chdir(places / "venv")
    assert shown_command("chat") == f"{places}/checkout/bin/seed chat"


def test_it_can_be_pasted_beside_the_script_and_at_the_root(places, monkeypatch):
    monkeypatch.chdir("/")
    assert shown_command("chat") == f"{places}/venv/bin/python -m seed chat"
    make_script(places / "venv/bin/seed")
    monkeypatch.chdir(places / "venv/bin")
    assert shown_command("chat") == "./seed chat"


def test_an_installed_command_has_its_name_if_the_shell_finds_it(places, monkeypatch):
    make_script(places / "venv/bin/seed")
    assert shown_command("runs") == "venv/bin/seed runs"
    monkeypatch.setenv("PATH", str(places / "venv/bin"))
    assert shown_command("runs") == "seed runs"
    make_script(places / "checkout/bin/seed")   # another seed than that on PATH
    assert shown_command("runs") == "checkout/bin/seed runs"
    monkeypatch.setattr(sys, "argv", [str(places / "venv/bin/seed")])   # which was started
    assert shown_command("runs") == "seed runs"
