"""The benchmark of a tick runs untrained brains, and files that are named."""
from seed.bench import control_steps


def test_a_narrow_and_a_wide_body_are_timed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(control_steps, "TURNS", 2)
    monkeypatch.setattr(control_steps, "TICKS_PER_TURN", 3)
    monkeypatch.setattr("sys.argv", ["control_steps"])
    assert control_steps.main() == 0
    rows = [line.rsplit(maxsplit=4) for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["narrow portable", "narrow litert", "wide portable",
                                        "wide litert"]
    assert all(float(number) > 0 for _, *numbers in rows for number in numbers)
    path = control_steps.untrained(control_steps.codecs()[0], tmp_path, "control", "litert")
    monkeypatch.setattr("sys.argv", ["control_steps", str(path)])
    assert control_steps.main() == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("narrow litert")
