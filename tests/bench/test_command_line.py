"""What benchmarks that run as modules say: their whole first paragraph, and refusals in a line."""
import importlib

import pytest

from seed.bench import command_line
from seed.errors import BenchError
from tests.support import brains
from tests.support.acting_brains import untrained as acting_brain
from tests.support.tflite import SMALL


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """By name: a text brain, one that acts, and a text that is neither TFLite nor C of a brain."""
    folder = tmp_path_factory.mktemp("files")
    text = brains.trained(brains.untrained(folder / "run", "toy", *SMALL))
    (folder / "notes").write_text("int main(void) { return 0; }")
    return {"TEXT": str(brains.exported(text, folder / "text.tflite")),
            "ACTING": str(brains.exported(acting_brain(), folder / "acting.tflite")),
            "NOTES": str(folder / "notes"), "NONE": str(folder / "none.tflite")}


@pytest.mark.parametrize("module, words, message", [
    ("steps", ["NONE"], "cannot use {}: No such file or directory; check its name"),
    ("steps", ["NOTES"], "{} cannot be run by "),
    ("steps", ["ACTING"], "{} has no step of a byte and its states alone: python -m "
                          "seed.bench.control_steps times one that acts"),
    ("control_steps", ["TEXT"], "{} has no body that it could act in: time it with python -m "
                                "seed.bench.steps"),
    ("control_steps", ["NONE"], "{}: No such file or directory"),
    ("control_steps", ["--profile", "tiny"], "profile 'tiny' not found"),
    ("c_step", ["TEXT", "NOTES"], "{} is not a C source of a brain: write one with seed export "
                                  "--c")])
def test_bad_input_is_one_line_that_names_it(monkeypatch, capsys, files, module, words, message):
    words = [files.get(word, word) for word in words]
    monkeypatch.setattr("sys.argv", [module, *words])
    assert importlib.import_module(f"seed.bench.{module}").main() == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"{module}: {message.format(words[-1])}")
    assert output.err.count("\n") == 1 and not output.out


def test_a_figure_that_cannot_be_taken_has_its_own_exit_code(capsys):
    def fail() -> str:
        raise BenchError("it is\nbroken")
    assert command_line.run("phases", fail) == 1
    assert capsys.readouterr().err == "phases: it is broken\n"
    assert command_line.run("phases", lambda: "a table") == 0
    assert capsys.readouterr().out == "a table\n"


def test_help_has_the_whole_first_paragraph():
    parser = command_line.make_parser("One sentence goes\nover two lines.\n\n    a command\n")
    assert parser.description == "One sentence goes\nover two lines."
