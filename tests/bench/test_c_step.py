"""The benchmark of C sources runs a TFLite file and a source of one brain in turns."""
from seed.bench import c_step
from seed.export.c_source import c_source
from tests.support import brains
from tests.support.tflite import SMALL


def test_each_compiler_is_timed_beside_the_tflite_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(c_step, "TURNS", 2)
    monkeypatch.setattr(c_step, "STEPS_PER_TURN", 3)
    brain = brains.trained(brains.untrained(tmp_path / "run", "toy", *SMALL))
    file, source = brains.exported(brain, tmp_path / "brain.tflite"), tmp_path / "brain.c"
    source.write_bytes(c_source(brain))
    monkeypatch.setattr("sys.argv", ["c_step", str(file), str(source)])
    assert c_step.main() == 0
    rows = [line.rsplit(maxsplit=2) for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows][:2] == ["brain.tflite", "brain.c clang"]
    assert rows[0][2] == "1.00" and all(float(number) > 0 for row in rows for number in row[1:])
