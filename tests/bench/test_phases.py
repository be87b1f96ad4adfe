"""Phases of a step are timed in its own kernels, beside the work that they have to do."""
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from seed.bench import phase_plot, phases
from seed.bench.phase_work import REST, phases_of
from seed.bench.phases import OTHERS, OUTSIDE, Clock, Row, gathered
from seed.config import ModelConfig
from seed.profile_file import load_profile
from seed.wavecore import fast, layout

SMALL = ["model.n_layers=2", 'model.pattern="SA"', "model.d_model=32", "model.d_ff=32",
         "train.batch_size=2", "train.seq_len=32"]
SVG = "{http://www.w3.org/2000/svg}"


def test_a_small_step_has_a_table_and_a_picture(tmp_path):
    """In a process of its own: this one may have some of the kernels already."""
    picture = tmp_path / "phases.svg"
    done = subprocess.run(
        [sys.executable, "-m", "seed.bench.phases", "--profile", "toy", "--steps", "2",
         "--svg", str(picture), *(f"--set={text}" for text in SMALL)], capture_output=True,
        text=True)
    assert done.returncode == 0, done.stderr
    rows = {cells[1].strip(): cells for cells in (
        line.split("|") for line in done.stdout.splitlines() if line.count("|") == 5)}
    step_ms = float(rows["a step"][2])
    parts_ms = [float(cells[2]) for name, cells in rows.items()
                if name not in ("phase", "---", "a step")]
    assert {"all others", "outside the kernels"} <= {*rows} and min(parts_ms) >= 0
    assert sum(parts_ms) > 0.9 * step_ms > 0   # the last row is what is left
    assert float(re.search(r"registers: ([\d.]+) GFLOP/s", done.stdout)[1]) > 0.1
    texts = [each.text for each in ElementTree.parse(picture).iter(f"{SVG}text")]
    assert {*rows} - {"phase", "---", "a step"} <= {*texts}
    assert "profile toy, threads: 1" in texts[-1]


def test_the_work_of_phases_is_that_of_the_shapes():
    profile = load_profile("toy", SMALL)
    kernels = phases_of(profile)
    rows, d, f = 64, 32, 32
    assert [phase.multiply_adds for phase in kernels["mlp backward"]] == [
        0, 2 * rows * d * 3 * f, 0]
    assert kernels["head forward"][1].multiply_adds == rows * d * 256
    assert kernels["attention forward"][1].multiply_adds == rows * d * 3 * d


def test_every_phase_of_a_kernel_has_a_name(monkeypatch):
    """Barriers in the text of a kernel, and one phase more."""
    texts: dict[str, str] = {}
    monkeypatch.setattr(fast, "launcher", texts.__setitem__)
    shape = ModelConfig(d_model=32)
    for kind, kernels in fast.KERNELS.items():
        kernels(shape, layout.KINDS[kind].block_fn(shape, kind), 1, 5, 1)
    clock = Clock()
    for name, text in texts.items():
        assert clock.instrument(text).count("note_time(") == 4, name
    with pytest.raises(phases.BenchError, match="team.h or kernel_source.py has changed"):
        clock.instrument(texts["mlp_forward_32_1_5_1"] + "\n")


def test_small_phases_are_one_row_before_the_last():
    rows = [Row("a", 5.0, 1.0), Row(REST, 0.1, 0.0), Row("b", 0.2, 0.1), Row(OUTSIDE, 0.01, 0.0)]
    assert gathered(rows, 1.0) == [rows[0], Row(OTHERS, pytest.approx(0.3), 0.1), rows[-1]]


def test_a_bar_is_as_long_as_its_time():
    root = ElementTree.fromstring(phase_plot.svg(
        [Row("a", 10.0, 5.0), Row("b & c", 2.5, 0.0)], "where"))
    bars = {name: [float(each.get("width")) for each in root.iter(f"{SVG}rect")
                   if each.get("class") == name][1:] for name in ("ms", "ideal")}   # of the legend
    assert bars["ms"][0] == pytest.approx(4 * bars["ms"][1], rel=0.01)
    assert bars["ideal"] == [pytest.approx(bars["ms"][0] / 2, rel=0.01)]


@pytest.mark.parametrize("words, message", [
    (["--threads", "0"], "--threads is 0 and --steps 20: use 1 or more"),
    (["--svg", "/nonexistent/x.svg"], "/nonexistent is not a directory")])
def test_bad_input_is_refused_in_one_line(monkeypatch, capsys, words, message):
    monkeypatch.setattr("sys.argv", ["phases", *words])
    assert phases.main() == 2
    error = capsys.readouterr().err
    assert error.startswith("phases: ") and message in error and error.count("\n") == 1
