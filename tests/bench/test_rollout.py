"""The benchmark of acting times rollouts of several widths, and control steps in the same run."""
from seed.bench import rollout


def test_rollouts_and_control_steps_are_timed(monkeypatch, capsys):
    for name in ("TURNS", "STEPS_PER_TURN", "ANSWER_BYTES"):
        monkeypatch.setattr(rollout, name, 2)
    monkeypatch.setattr("sys.argv", ["rollout", "--profile", "control", "--rows", "1", "3"])
    rollout.main()
    title, head, *rows, steps_head, trainer, file = [
        line.split() for line in capsys.readouterr().out.splitlines()]
    assert title[:3] == ["control,", "1", "threads,"] and [row[0] for row in rows] == ["1", "3"]
    assert (head[0], steps_head[:2]) == ("rows", ["control", "step"])
    assert [trainer[0], file[0], file[2]] == ["trainer", "file", "1.00"]
    assert all(float(number) > 0 for row in (*rows, trainer, file) for number in row[1:])
