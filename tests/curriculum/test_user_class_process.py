"""The process of a user's class: it answers the same to the same, and nothing of it gets out."""
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from seed.curriculum import user_class_process, user_tasks
from seed.curriculum.user_class_supervisor import MAX_OUTPUT_BYTES
from seed.curriculum.user_tasks import load
from seed.errors import RETRY_LATER, StopRequested, UserTaskError, UserTaskKilled
from seed.system_health import tree_mb
from tests.support.hostile_tasks import (
    DOUBLE_FORK, FLOOD, KILL_IN_NAMESPACE, PRINT_OFTEN, SET_OF_TEXTS, after, hostile)
from tests.support.processes import descendants
from tests.support.small_run import wait_until

TIMEOUT_S = 60.0


@pytest.fixture(params=[True, False], ids=["namespace", "subreaper"])
def contained(request, monkeypatch):
    """Both ways to keep the processes of a class together."""
    monkeypatch.setattr(user_class_process, "USE_PID_NAMESPACE", request.param)
    return request.param


def draw(task, n: int) -> list:
    rng = random.Random(0)
    return [task.generate(rng, 1) for _ in range(n)]


def worker_of(pid: int) -> int:
    return next(int(child) for child in descendants(pid)
                if b"user_class_worker.py\0" in Path(f"/proc/{child}/cmdline").read_bytes()
                and b"user_class_supervisor" not in Path(f"/proc/{child}/cmdline").read_bytes())


def wait_ns(pid: int) -> int:
    """How long it has waited for a core."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])


def test_a_set_of_texts_has_the_same_order_in_every_process(tmp_path):
    name = hostile(tmp_path, generate=SET_OF_TEXTS)
    code = (f"import random\nfrom seed.curriculum.user_tasks import load\ntask = load({name!r})\n"
            f"print([task.generate(random.Random(i), 1) for i in range(9)])")
    outputs = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              env={**os.environ, "PYTHONHASHSEED": seed}).stdout
               for seed in ("1", "2", "random")}
    assert len(outputs) == 1 and "Item" in outputs.pop()


def test_a_class_does_not_get_the_key_of_the_teacher(tmp_path, monkeypatch):
    monkeypatch.setenv("SEED_TEACHER_KEY", "secret")
    task = load(hostile(tmp_path, generate="n = 10 * n + ('SEED_TEACHER_KEY' in os.environ)"))
    assert all(item.prompt.endswith(b"0@") for item in draw(task, 3))


@pytest.mark.parametrize("how", [
    "T.n = n = getattr(T, 'n', 0) + 7", "n = time.monotonic_ns() % 100000",
    "n = id(object()) % 99991", "import random; n = random.randrange(10**5)"])
def test_a_class_that_answers_the_same_question_differently_is_refused_by_name(tmp_path, how):
    with pytest.raises(UserTaskError, match="hostile.py:T: generate or verify .* gives another re"):
        load(hostile(tmp_path, generate=how))


def test_a_class_that_judges_differently_is_refused(tmp_path):
    with pytest.raises(UserTaskError, match="gives another result"):
        load(hostile(tmp_path, verify="\n        ".join([
            "T.v = getattr(T, 'v', 0) + 1", "if not answer.isalpha(): return T.v == 2"])))


def test_a_class_that_changes_its_mind_later_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(user_tasks, "PROBE_EVERY_DRAWS", 16)
    task = load(hostile(tmp_path, generate=after(40, "n += 1")))
    with pytest.raises(UserTaskError, match="gives another result"):
        draw(task, 64)


@pytest.mark.parametrize("reply", [
    "b'x' * 2 ** 20", "b'\\xff\\xff\\xff\\xff'", "b'\\0\\0\\0\\2{}'", "b'\\0\\0\\0\\4null'",
    "b'\\0\\0\\0\\2[]'", "b'\\0\\0\\0\\3\\xff\\xfe{'", "b'\\0\\0\\x4e\\x20' + b'[' * 20000",
    "b'\\0\\0\\0\\x21{\"id\": 5, \"value\": [\"a?\", \"b\"]}  '"])
def test_a_damaged_reply_is_named_and_bounded(tmp_path, reply):
    task = load(hostile(tmp_path, generate=after(40, f"os.write(int(sys.argv[1]), {reply})")))
    start_mb = tree_mb()[0].value
    with pytest.raises(UserTaskError, match="hostile.py:T: the reply to .* is damaged"):
        draw(task, 99)
    assert tree_mb()[0].value < start_mb + 20


def test_a_reply_of_the_wrong_kind_is_named(tmp_path, monkeypatch):
    task = load(hostile(tmp_path))
    for value in ("ab", ["a"], ["a", 5], ["a", "\u0100"], ["", "b"], ["a", "\xff"], [["a"], "b"],
                  {"a": "b"}, ["a", "b" * 5000], None, ["abc", "", "x", 5], ["abc", "", "xyz", ""],
                  ["abc", "", "", "xyz"], ["abc", "", "\xfe", ""], ["abc", "", "", "\xfe"],
                  ["abc", "", "x", "y"], ["abc", "", "", "", ""], ["abc", "", "x" * 5000, ""]):
        monkeypatch.setattr(task._process, "ask", lambda *args, **request: (value, 0.0))
        with pytest.raises(UserTaskError, match="is damaged"):
            task.generate(random.Random(0), 1)


@pytest.mark.parametrize("levels", ["'x' * 10 ** 8", "10 ** 5000", "[[]] * 10 ** 6"])
def test_what_a_class_says_of_itself_is_shortened(tmp_path, levels):
    path = tmp_path / "hostile.py"
    path.write_text(Path(hostile(tmp_path)[:-2]).read_text().replace("= 1\n", f"= {levels}\n", 1))
    with pytest.raises(UserTaskError, match="levels is .*: give a number from 1") as error:
        load(f"{path}:T")
    assert len(str(error.value)) < 500


def test_escapes_of_a_class_are_printed_escaped(tmp_path, capfd):
    top = "print('\\x1b[31mred\\x07\\x9b')"
    with pytest.raises(UserTaskError, match=r"\\x1b\]0;title\\x07") as error:
        draw(load(hostile(tmp_path, top, after(40, "raise KeyError('\\x1b]0;title\\x07\\n')"))), 99)
    assert str(error.value).isprintable()
    output = capfd.readouterr().err
    assert r"\x1b[31mred\x07" in output and not set("\x1b\x07\x9b") & set(output)


def test_what_a_class_prints_is_bounded(tmp_path, capfd):
    draw(load(hostile(tmp_path, generate=PRINT_OFTEN)), 2)
    wait_until(lambda: "the rest is dropped" in capfd.readouterr().err, None, TIMEOUT_S)
    draw(load(hostile(tmp_path, generate=PRINT_OFTEN)), 2)
    time.sleep(0.2)
    assert len(capfd.readouterr().err) < 3 * MAX_OUTPUT_BYTES   # of two processes


def test_a_reader_of_stderr_that_sleeps_does_not_stop_a_class(tmp_path):
    name = hostile(tmp_path, generate="print('y' * 2000)")
    code = (f"import random\nfrom seed.curriculum.user_tasks import load\ntask = load({name!r})\n"
            f"print(len([task.generate(random.Random(i), 1) for i in range(99)]))")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    try:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=writer,
                              timeout=TIMEOUT_S)
    finally:
        os.close(reader)
        os.close(writer)
    assert done.stdout == b"99\n"


ESCAPES = {"a child": "import subprocess; subprocess.Popen(['sleep', '300'])",
           "a double fork": DOUBLE_FORK.format(work="pass"),
           "a fork in another session that takes no hint": DOUBLE_FORK.format(
               work="import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))"),
           "many": "for _ in range(40):\n    if os.fork() == 0:\n        time.sleep(300)"}


@pytest.mark.parametrize("how", ESCAPES)
def test_nothing_is_left_of_a_class_that_starts_processes(tmp_path, contained, how):
    task = load(hostile(tmp_path, ESCAPES[how]))
    pids = descendants(task._process.pid)
    assert len(pids) >= 2
    task._process.close()
    assert not pids & descendants(1)


def test_memory_of_an_escaped_process_is_counted(tmp_path, contained):
    before = tree_mb()[0].value
    task = load(hostile(tmp_path, DOUBLE_FORK.format(work="x = os.urandom(2 ** 20) * 150")))
    wait_until(lambda: tree_mb()[0].value > before + 150, None, TIMEOUT_S)
    task._process.close()


@pytest.mark.parametrize("target", ["os.getppid()", "-1", "0"])
def test_a_class_that_kills_its_parent_or_all_that_it_can_is_alone(tmp_path, target):
    """No process outside of a PID namespace can be reached from it, nor its first one killed."""
    task = load(hostile(tmp_path, generate=after(40, KILL_IN_NAMESPACE.format(target))))
    if len(set(map(os.getpgid, map(int, descendants(task._process.pid))))) < 2:
        pytest.skip("no PID namespace here")
    if target == "0":   # its own group
        with pytest.raises(UserTaskKilled):
            draw(task, 60)
    elif target == "-1":
        with pytest.raises(UserTaskError, match="No such process"):
            draw(task, 60)
    else:
        assert len(draw(task, 60)) == 60


def test_without_a_namespace_a_killed_supervisor_ends_the_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(user_class_process, "USE_PID_NAMESPACE", False)
    task = load(hostile(tmp_path, generate=after(40, "os.kill(os.getppid(), 9); time.sleep(9)")))
    pids = {str(task._process.pid)} | descendants(task._process.pid)
    with pytest.raises(UserTaskKilled):
        draw(task, 60)
    wait_until(lambda: not pids & descendants(1), None, TIMEOUT_S)


def test_a_worker_that_is_killed_ends_the_run_resumable(tmp_path, contained):
    task = load(hostile(tmp_path))
    draw(task, 9)
    pids = descendants(task._process.pid)
    os.kill(worker_of(task._process.pid), signal.SIGKILL)
    with pytest.raises(UserTaskKilled, match="was killed during .*memory may have") as error:
        draw(task, 9)
    assert error.value.exit_code == RETRY_LATER
    assert not pids & descendants(1)


def test_a_crash_is_the_fault_of_the_class(tmp_path, contained):
    task = load(hostile(tmp_path, generate=after(
        40, "import ctypes; ctypes.string_at(0)")))
    with pytest.raises(UserTaskError, match="exited during .* by signal 11") as error:
        draw(task, 60)
    assert error.value.exit_code != RETRY_LATER


def test_signals_for_the_run_do_not_end_its_worker(tmp_path, contained):
    """systemd sends SIGTERM to every process of a service, a terminal SIGHUP."""
    task = load(hostile(tmp_path))
    for pid in map(int, descendants(task._process.pid)):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(pid, number)
    assert len(draw(task, 9)) == 9


def test_a_run_that_has_to_stop_does_not_wait_for_a_class(tmp_path):
    task = load(hostile(tmp_path, generate=after(40, "time.sleep(300)")))
    start_s = time.monotonic()
    task.stop_when(lambda: time.monotonic() > start_s + 0.5)
    with pytest.raises(StopRequested):
        draw(task, 99)
    assert time.monotonic() < start_s + 3


def test_a_class_that_stops_itself_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(user_tasks, "MAX_CALL_S", 0.5)
    task = load(hostile(tmp_path, generate=after(40, "os.kill(os.getpid(), 19)")))
    with pytest.raises(UserTaskError, match="takes longer"):
        draw(task, 99)


def test_time_in_which_the_run_is_stopped_does_not_count(tmp_path):
    """The class computes for 0.4 of 2 s; meanwhile both are stopped for 1.5 s, as by a suspended
    machine, and the class continues 0.2 s later: 2.1 s at least."""
    name = hostile(tmp_path, generate=after(40, "print('now', flush=True); "
                                            "e = time.process_time() + 0.4; "
                                            "[0 for _ in iter(lambda: time.process_time() < e, 0)]"
                                            ))
    code = (f"import random\nfrom seed.curriculum import user_tasks\nuser_tasks.MAX_CALL_S = 2.0\n"
            f"task = user_tasks.load({name!r})\n"
            f"print(len([task.generate(random.Random(i), 1) for i in range(39)]))")
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE)
    while run.stderr.readline() != b"now\n":
        assert run.poll() is None
    worker = worker_of(run.pid)
    run.send_signal(signal.SIGSTOP)
    os.kill(worker, signal.SIGSTOP)
    time.sleep(1.5)
    run.send_signal(signal.SIGCONT)
    time.sleep(0.2)
    os.kill(worker, signal.SIGCONT)
    assert run.communicate(timeout=TIMEOUT_S)[0] == b"39\n"


def test_a_class_that_waits_for_a_core_is_not_slow(tmp_path, monkeypatch):
    """Four busy processes on the worker's core, until it has waited for ten times its limit."""
    monkeypatch.setattr(user_tasks, "MAX_CALL_S", 0.5)
    monkeypatch.setattr(user_class_process, "MAX_STARVED", float("inf"))   # by others, too
    task = load(hostile(tmp_path, generate=after(
        30, "e = time.process_time() + 0.15; "
            "[0 for _ in iter(lambda: time.process_time() < e, False)]")))
    worker, core = worker_of(task._process.pid), min(os.sched_getaffinity(0))
    os.sched_setaffinity(worker, {core})
    draw(task, 28)   # with the two at the start: not slow yet
    start_ns = wait_ns(worker)
    rivals = [subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-c",
                                "while 1: pass"], start_new_session=True) for _ in range(4)]
    try:
        while wait_ns(worker) < start_ns + 5e9:
            assert len(draw(task, 1)) == 1
    finally:
        for rival in rivals:
            rival.kill()
            rival.wait()


@pytest.mark.parametrize("state, run_s, wait_s, over_s", [
    ("R", 1.0, 0.0, 1.0), ("S", 0.0, 0.0, 1.0), ("R", 0.05, 0.05, 2.0),
    ("R", 0.002, 0.03, 16.0), ("R", 0.002, 0.4, 20.0), ("R", 0.002, 7.0, 20.0)])
def test_a_wait_for_a_core_does_not_count_however_long(
        tmp_path, monkeypatch, state, run_s, wait_s, over_s):
    """The kernel adds a wait to its total when it ends. After 20 times the limit a call is over."""
    now_s = 0.0
    monkeypatch.setattr(user_class_process, "time", SimpleNamespace(monotonic=lambda: now_s))
    timer = user_class_process._Timer(tmp_path)
    (tmp_path / "stat").write_text(f"5 (a ) b) {state} 1")
    while not timer.is_over(1.0):
        now_s += user_class_process.SLICE_S
        turns, rest_s = divmod(now_s, wait_s + run_s) if run_s else (0, 0)
        cpu_s, waited_s = turns * run_s + max(0, rest_s - wait_s), turns * wait_s
        waited_s += wait_s if rest_s >= wait_s else 0
        (tmp_path / "schedstat").write_text(f"{cpu_s * 1e9:.0f} {waited_s * 1e9:.0f} 1")
        timer.add_slice()
    assert now_s == pytest.approx(over_s, rel=0.1)


def test_a_flood_of_replies_ends_at_once(tmp_path):
    start_s, peak_mb = time.monotonic(), tree_mb()[1].value
    task = load(hostile(tmp_path, generate=after(40, f"[{FLOOD} for _ in range(3000)]")))
    with pytest.raises(UserTaskError, match="is damaged"):
        draw(task, 99)
    assert time.monotonic() < start_s + 20 and tree_mb()[1].value < peak_mb + 20
