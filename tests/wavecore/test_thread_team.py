"""The threads of the kernels: one team a process, asleep between launches, through forks, signals
and every end of a process."""
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# run(n) launches n threads, each of which counts in its own place; crash(n) has the last one fail.
START = """
import ctypes, os, signal, sys, threading, time
from pathlib import Path
import numpy as np
from tinygrad.device import Device, TinyELF
from seed.wavecore.tinygrad_seam import CPUProgram, install
install(print)
TEXT = '''
void run_in_team(int threads, void (*body)(void *work, int thread, int members), void *work);
static void body(void *work, int thread, int members) { BODY }
void entry(int *work, int threads) { run_in_team(threads, body, work); work[64]++; }
'''
kept = []

def load(body):
    cpu = Device["CPU"]
    code = cpu.compiler.compile_cached(TEXT.replace("BODY", body))
    kept.append(CPUProgram(cpu, TinyELF(code, "entry", cpu.renderer.target, ())))
    return kept[-1].fxn

count = load("__atomic_add_fetch((int *)work + thread, 1, __ATOMIC_RELAXED);")

def run(threads, times=1, function=count):
    counts = np.zeros(65, np.int32)
    for _ in range(times):
        function(ctypes.c_void_p(counts.ctypes.data), threads)
    assert counts[:64].tolist() == [times] * threads + [0] * (64 - threads), counts

def workers():
    return sorted(set(map(int, os.listdir("/proc/self/task"))) - before)

before = set(map(int, os.listdir("/proc/self/task")))
"""


def python(script: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", START + script], capture_output=True, text=True,
                          cwd=ROOT, timeout=120, **options)


def assert_runs(script: str) -> None:
    done = python(script + "\nprint('end')")
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def test_every_thread_of_a_launch_runs_once_whatever_the_last_launch_had():
    assert_runs("""
for threads in (2, 4, 3, 8, 2, 64, 5) * 4:
    run(threads, 20)
run(1)""")


def test_all_kernels_share_one_team():
    assert_runs("""
run(3)
first = workers()
run(3, function=load("((int *)work)[thread] = 1;"))
run(2)
assert len(first) == 2 and workers() == first, (first, workers())""")


def test_a_team_that_waits_uses_no_processor_time():
    assert_runs("""
run(4, 100)
def states():
    return [Path(f"/proc/self/task/{task}/stat").read_text().rpartition(")")[2].split()[0]
            for task in workers()]
def times():   # nanoseconds on a processor, in its queue, and how often
    return [Path(f"/proc/self/task/{task}/schedstat").read_text() for task in workers()]
while states() != ["S"] * 3:
    time.sleep(0.01)
time.sleep(0.05)
first = times()
time.sleep(0.5)
assert times() == first and states() == ["S"] * 3
run(4)""")


def test_a_worker_that_is_done_early_is_awake_for_the_next_launch():
    """The caller's part takes longer than a worker waits between launches. Threads that do not run
    side by side may sleep, so that not every attempt tells."""
    assert_runs("""
TEXT = "int clock_gettime(int, long *);" + TEXT.replace(
    "run_in_team(threads, body, work);",
    "for (int i = 0; i < 20; i++) run_in_team(threads, body, work);")
slow = load("long t[2]; clock_gettime(1, t); long until = t[0] * 1000000000 + t[1] + 60000;"
            "while (!thread && t[0] * 1000000000 + t[1] < until) clock_gettime(1, t);")
def sleeps():
    worker, = workers()
    line, = (line for line in Path(f"/proc/self/task/{worker}/status").read_text().splitlines()
             if line.startswith("voluntary"))
    return int(line.split()[1])
def sleeps_of_20_launches():
    run(2, function=count)
    before = sleeps()
    slow(ctypes.c_void_p(work.ctypes.data), 2)
    return sleeps() - before
work, until = np.zeros(65, np.int32), time.monotonic() + 60
while sleeps_of_20_launches() > 1:   # one before the first
    assert time.monotonic() < until""")


@pytest.mark.parametrize("is_busy", [False, True])
def test_200_children_have_teams_of_their_own(is_busy):
    """Also of a process that is in the middle of a launch, in another thread."""
    assert_runs(f"""
run(3)
is_over = False
def launch():
    while not is_over:
        run(3)
thread = threading.Thread(target=launch)
if {is_busy}:
    thread.start()
for i in range(200):
    child = os.fork()
    if not child:
        run(4, 3)
        os._exit(len(os.listdir("/proc/self/task")))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
run(3, 3)
is_over = True
if {is_busy}:
    thread.join()""")


def test_launches_of_several_python_threads_wait_for_each_other():
    assert_runs("""
failures = []
def launch(threads):
    try:
        run(threads, 500)
    except BaseException as error:
        failures.append(error)
threads = [threading.Thread(target=launch, args=(n,)) for n in (2, 3, 4, 2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
until = time.monotonic() + 30   # a thread that was joined may be listed for a moment
while len(workers()) > 3 and time.monotonic() < until:
    time.sleep(0.01)
assert not failures and len(workers()) == 3, failures""")


@pytest.mark.parametrize("end, code", [
    ("sys.exit(3)", 3), ("os._exit(4)", 4), ("os.kill(os.getpid(), signal.SIGTERM)", -15),
    ("raise KeyboardInterrupt", -2),
    ("threading.Thread(target=lambda: [run(2) for _ in iter(int, 1)], daemon=True).start();"
     "time.sleep(0.1); sys.exit(5)", 5),
    ("threading.Thread(target=lambda: [run(2) for _ in iter(int, 1)], daemon=True).start();"
     "time.sleep(0.1); os.kill(os.getpid(), signal.SIGTERM)", -15)])
def test_a_process_ends_at_once_whatever_its_team_does(end, code):
    assert python(f"run(4, 10)\n{end}").returncode == code


def test_workers_take_no_signals_but_those_of_their_own_faults():
    assert_runs("""
run(3)
for task in workers():
    line, = (line for line in Path(f"/proc/self/task/{task}/status").read_text().splitlines()
             if line.startswith("SigBlk"))
    blocked = {n for n in range(1, 65) if int(line.split()[1], 16) >> (n - 1) & 1}
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD} <= blocked
    assert not blocked & {signal.SIGSEGV, signal.SIGILL, signal.SIGBUS, signal.SIGFPE}
assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])""")


def test_a_fault_in_a_worker_is_told_like_one_of_the_caller():
    done = python("import faulthandler; faulthandler.enable()\n"
                  "run(3, function=load('if (thread == 2) *(volatile int *)0 = 1;'))")
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr


def test_four_threads_on_one_core_get_on_under_every_policy():
    """A caller that has become a real-time thread does not keep out the threads it waits for."""
    policies = [os.SCHED_OTHER, os.SCHED_IDLE, os.SCHED_BATCH]
    policies += [os.SCHED_FIFO] * (os.geteuid() == 0)
    assert_runs(f"""
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
for policy in {policies} * 2:
    child = os.fork()
    if not child:
        run(4)
        os.sched_setscheduler(0, policy, os.sched_param(int(policy == os.SCHED_FIFO)))
        run(4, 20)
        os._exit(0)
    assert not os.waitpid(child, 0)[1]""")


def test_where_no_more_threads_may_start_a_launch_runs_on_those_there_are():
    """Barriers wait for no others, no bit changes, and a later launch starts the rest."""
    assert_runs("""
import resource
from seed.profile_file import load_profile
from seed.wavecore.model import WaveCore, init_params
from seed.wavecore.tinygrad_seam import CapturedGraph, buffer_view, from_array
config = load_profile("toy", ["model.n_layers=2"]).model
tokens = from_array(np.arange(200, dtype=np.int32).reshape(2, 100))
model = WaveCore(config, init_params(config, 0), threads=4)
graph = CapturedGraph(lambda: model(tokens)[0].realize())
def logits():
    return buffer_view(graph()).tobytes()
expected = [logits() for _ in range(3)][-1]
def n_tasks():
    return len(os.listdir("/proc/self/task"))
for n_threads in (1, 3):
    child = os.fork()   # which has no threads yet
    if child:
        assert not os.waitpid(child, 0)[1]
        continue
    signal.alarm(60)
    if os.geteuid() == 0:   # whom the limit does not stop
        os.setuid(54321)
    run(n_threads)
    _, most = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, most))
    assert (logits(), n_tasks()) == (expected, n_threads)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    assert (logits(), n_tasks()) == (expected, 4)
    os._exit(0)""")
