"""Every internal of tinygrad that the seam relies on is there, and the seam does what it says."""
import configparser
import ctypes
import dataclasses
import gc
import inspect
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from tinygrad import Tensor, TinyJit, dtypes, helpers
from tinygrad.device import Buffer, Compiler, Device, TinyELF
from tinygrad.runtime.ops_cpu import MAX_ARGS, CPUAllocator, CPUProgram
from tinygrad.runtime.support.compiler_cpu import ClangCompiler
from tinygrad.runtime.support.elf import jit_loader
from tinygrad.schedule.memory import memory_plan_rewrite
from tinygrad.uop.ops import KernelInfo, Ops, UOp

from seed.wavecore import fast_optim, tinygrad_seam
from seed.wavecore.tinygrad_seam import (LAUNCH_WORDS, Arena, CapturedGraph, FarCalls, buffer_view,
                                         copy_into, empty, install, launch, launcher, zeros)

ROOT = Path(__file__).parents[2]


def parameters_of(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_tinygrad_is_the_version_that_the_seam_was_written_for():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert f"tinygrad=={metadata.version('tinygrad')}" in setup["options"]["install_requires"]


def test_the_settings_are_where_install_writes_them():
    assert helpers.DEV.device == "CPU" and not helpers.PARALLEL.value
    assert not helpers.CACHELEVEL.value and helpers._db_connection is None
    assert helpers.NUM_CPU_THREADS.value == 1
    assert parameters_of(helpers.getenv.__wrapped__) == ["key", "default"]
    assert "os.getenv(key" in inspect.getsource(helpers.getenv.__wrapped__)


def test_the_replaced_functions_have_the_arguments_of_the_replacements():
    assert parameters_of(helpers.diskcache_get) == ["table", "key"]
    assert parameters_of(helpers.diskcache_put)[:3] == ["table", "key", "val"]
    cached = inspect.getsource(Compiler.compile_cached)
    assert "diskcache_get(self.cachekey, src)" in cached
    assert "diskcache_put(self.cachekey, src, lib)" in cached
    compile_source = inspect.getsource(ClangCompiler.compile)
    assert compile_source.count("subprocess.") == 1
    assert "subprocess.check_output([getenv(" in compile_source and "input=" in compile_source
    assert parameters_of(CPUProgram._load) == ["program", "lib", "base"]
    assert parameters_of(jit_loader) == ["obj", "base", "link_libs"]
    for library in (CPUProgram.libm, CPUProgram.rt_lib):
        assert isinstance(library, ctypes.CDLL)


def test_what_loads_the_threads_of_all_kernels_is_there():
    fields = [field.name for field in dataclasses.fields(TinyELF)]
    assert fields[:4] == ["lib", "name", "target", "signature"]
    assert isinstance(Device["CPU"].compiler, ClangCompiler) and Device["CPU"].renderer.target
    assert "self.mem = mmap.mmap(-1, len(obj.lib)" in inspect.getsource(CPUProgram.__init__)


def test_a_graph_is_captured_at_its_first_call_because_its_count_is_one():
    assert TinyJit(lambda: None).cnt == 0
    runs, x = [], Tensor([1.0, 2.0]).realize()

    def double() -> Tensor:
        runs.append(1)
        return (x * 2).realize()
    graph = CapturedGraph(double)
    results = []
    for value in (1.0, 3.0, 4.0, 5.0):
        copy_into(x, np.array([value, 0], np.float32))
        results.append(graph().numpy().tolist())
    assert results == [[2, 0], [6, 0], [8, 0], [10, 0]] and len(runs) == 1


def test_launches_of_a_graph_are_called_directly_and_write_the_same_buffers():
    assert parameters_of(CPUProgram.__call__)[:2] == ["self", "bufs"]
    x, y = (Tensor(np.arange(4, dtype=np.float32)).realize() for _ in range(2))

    def run() -> tuple[Tensor, Tensor]:
        first = (x * 3).contiguous()
        return first.realize(), (first.sum() + y).realize()
    graph, calls = CapturedGraph(run), []
    for value in range(5):
        copy_into(x, np.full(4, value, np.float32))
        outputs = graph()
        calls.append([buffer_view(output).copy() for output in outputs])
        assert graph.is_replayed == (value >= 1)
    for value, (first, second) in enumerate(calls):
        assert (first == 3 * value).all() and (second == 12 * value + np.arange(4)).all()


def test_launches_run_in_order_and_each_gets_all_its_arguments():
    """A launch adds up weighted first numbers of its inputs, among them the last launch's."""
    assert LAUNCH_WORDS == MAX_ARGS + 1
    x, inputs = zeros((1,)), [tinygrad_seam.from_array(np.full(1, i, np.float32))
                              for i in range(MAX_ARGS)]

    def run() -> Tensor:
        result = x
        for count in range(2, MAX_ARGS + 1):   # arguments
            names = [f"in_{i}" for i in range(1, count)]
            terms = " + ".join(f"{i % 7}.f * *{name}" for i, name in enumerate(names, 1))
            parameters = ", ".join(f"float *{name}" for name in ["out", *names])
            result, = launch([empty(1)], [result, *inputs[2:count]], launcher(
                f"sum_{count}", f"void sum_{count}({parameters}) {{ *out = {terms}; }}"))
        return result.realize()
    graph = CapturedGraph(run)
    for value in range(4):
        copy_into(x, np.full(1, value, np.float32))
        got, want = float(buffer_view(graph())[0]), float(value)
        for count in range(2, MAX_ARGS + 1):
            want += sum(i % 7 * i for i in range(2, count))
        assert got == want and graph.is_replayed == (value >= 1)
    copy_into(x, np.full(1, 9, np.float32))
    for one in graph.launches():
        one.call_fn()
    assert len(graph.launches()) == MAX_ARGS - 1 and float(buffer_view(graph())[0]) == want + 6


def test_graphs_of_one_arena_share_its_memory_and_keep_their_results():
    assert inspect.getsource(memory_plan_rewrite).count("UOp.new_buffer(") == 1
    assert "UOp(" not in inspect.getsource(memory_plan_rewrite)
    arena, graphs, added = Arena(), [], []
    for n in (3000, 1000, 5000, 4000):
        x = Tensor(np.ones(n, np.float32)).realize()
        graph = CapturedGraph(lambda x=x: (x * 2).contiguous().sum().realize(), arena)
        gc.collect()   # so that nothing else is freed meanwhile
        gc.disable()
        before = helpers.GlobalCounters.mem_used
        result = graph()
        added.append(helpers.GlobalCounters.mem_used - before)
        gc.enable()
        assert result.item() == 2 * n
        graphs.append((x, graph))
    assert [bytes_ > 4000 for bytes_ in added] == [True, False, True, False], added
    for value in range(4):
        for x, graph in graphs:
            copy_into(x, np.full(x.shape, value, np.float32))
            assert graph().item() == 2 * value * x.shape[0]


def test_the_memory_of_buffers_is_mapped_as_the_replacement_takes_it():
    assert ("mmap.mmap(-1, size, mmap.MAP_ANON | mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)"
            in inspect.getsource(CPUAllocator._alloc))


def test_a_forked_child_has_a_copy_of_the_buffers_and_may_have_huge_pages():
    x = zeros((1 << 20,))
    view = buffer_view(x)
    child = os.fork()
    if not child:
        view[0] = 1
        os._exit(int(view[0]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1 and view[0] == 0
    if Path("/sys/kernel/mm/transparent_hugepage").exists():
        address, flags = view.ctypes.data, ""
        for line in Path("/proc/self/smaps").read_text().splitlines():
            if area := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                is_here = int(area[1], 16) <= address < int(area[2], 16)
            elif line.startswith("VmFlags") and is_here:
                flags = line
        assert " hg" in flags


def test_a_view_of_a_buffer_is_the_memory_itself():
    x = Tensor(np.arange(6, dtype=np.float32).reshape(2, 3)).realize()
    assert isinstance(x.uop.base.buffer, Buffer) and x.dtype.fmt == "f"
    view = buffer_view(x)
    view[1, 2] = 9
    assert x.numpy()[1, 2] == 9 and view.shape == (2, 3)
    with pytest.raises(TypeError):
        copy_into(x, np.zeros((2, 3)))   # float64


def test_a_c_kernel_is_launched_and_its_gradient_reaches_the_inputs():
    assert parameters_of(UOp.custom_kernel) == ["srcs", "fxn", "grad_fxn"]
    assert KernelInfo(name="k").name == "k" and {Ops.LINEAR, Ops.PROGRAM, Ops.SOURCE} < set(Ops)
    text = "void {0}(float *y, float *x) {{ for (int i = 0; i < 16; i++) y[i] = {1} * x[i]; }}"
    twice, thrice = (launcher(name, text.format(name, factor))
                     for name, factor in (("twice", 2), ("thrice", 3)))

    def empty() -> Tensor:
        return Tensor.empty(16, dtype=dtypes.float)

    def gradient(dy: Tensor, outputs: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
        assert len(outputs) == len(inputs) == 1
        return launch([empty()], [dy], thrice)
    x = Tensor(np.arange(16, dtype=np.float32)).realize()
    y, = launch([empty()], [x], twice, gradient)
    dx, = y.sum().gradient(x)
    assert np.array_equal(y.numpy(), np.arange(16) * 2) and (dx.numpy() == 3).all()


def test_an_optimizer_launch_has_no_more_arguments_than_tinygrad_takes():
    assert 2 * fast_optim.MAX_GROUP_TENSORS + 4 <= MAX_ARGS


COMPUTE = """
from seed.wavecore.tinygrad_seam import Tensor, install
install(print)
print((Tensor([1.0, 2.0]).contiguous() * 3).sum().item())
"""


def run(script: str, **variables: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT,
                          timeout=120, env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr
    return done.stdout


ESTIMATE = """
import sys
from seed.profile_file import load_profile
from seed.training.memory_estimate import estimate_mb
estimate_mb(load_profile("fast"), 1)
print(*(name for name in sys.modules if name.startswith("tinygrad.runtime.ops_")))
"""


def test_memory_is_estimated_without_a_look_for_other_devices():
    """Which takes longer than all else; a size search estimates before anything is trained."""
    assert run(ESTIMATE) == "tinygrad.runtime.ops_cpu\n"


@pytest.mark.attack
@pytest.mark.parametrize("variables", [
    {"DEBUG": "true"}, {"DEBUG": "1"}, {"PROFILE": "release"}, {"JIT": "off"}, {"THREADS": "auto"},
    {"DEV": "1"}, {"CPU_LLVM": "1"}, {"CPU": "arm"}, {"CPU_CC": "gcc"}, {"BEAM": "4"},
    {"ASSERT_COMPILE": "1"}, {"CCACHE": "0"}, {"CAPTURE_PROCESS_REPLAY": "1"}, {"CC": "gcc"}],
    ids=lambda variables: " ".join(variables))
def test_variables_that_other_programs_use_change_nothing(tmp_path, variables):
    """Reports 30, 31: DEBUG=true, PROFILE=release, CC=gcc ..."""
    assert run(COMPUTE, **variables, XDG_CACHE_HOME=str(tmp_path)) == "9.0\n"


def test_the_seam_leaves_the_environment_as_it_was_and_may_be_imported_after_tinygrad():
    script = """
import os
before = {**os.environ}
import tinygrad, seed.wavecore.model
assert os.environ == before and type(os.environ).__name__ == "_Environ"
"""
    assert run(script + COMPUTE, DEBUG="0", FOO="1") == "9.0\n"


def test_a_program_that_needs_what_the_seam_leaves_out_imports_it_itself(tmp_path):
    script = """
import sys
import seed.wavecore.tinygrad_seam as seam
assert "tinygrad.renderer.nir" in seam.UNUSED and not {*seam.UNUSED} & {*sys.modules}
print((seam.Tensor([1.0, 2.0]) * 3).sum().item())   # with tinygrad's own cache
import sqlite3
from tinygrad.renderer.llvmir import CPULLVMRenderer
print(sqlite3.connect(":memory:").execute("select 7").fetchone()[0], CPULLVMRenderer.__name__)
"""
    assert run(script, XDG_CACHE_HOME=str(tmp_path)) == "9.0\n7 CPULLVMRenderer\n"


def test_memory_that_is_free_is_given_back_before_an_arena_takes_more():
    script = """
import numpy as np
from seed.system_health import tree_mb
from seed.wavecore.tinygrad_seam import Arena, CapturedGraph, Tensor, install
install()
x = Tensor(np.ones(9, np.float32)).realize()
CapturedGraph(lambda: (x * 2).contiguous().sum().realize(), Arena())()   # compiles
arrays = [np.ones(8000) for _ in range(800)]   # 49 MB, each too small to be mapped alone
del arrays[:-1]
before_mb = tree_mb()[0].value
CapturedGraph(lambda: (x * 2).contiguous().sum().realize(), Arena())()
print(before_mb - tree_mb()[0].value > 40)
"""
    assert run(script) == "True\n"


FULL_DISK = """
import os
{compute}
filler = open(os.path.join(os.environ["XDG_CACHE_HOME"], "filler"), "wb", buffering=0)
try:
    while filler.write(bytes(4096)):
        pass
except OSError:
    pass
print((Tensor([1.0, 2.0]).contiguous() * 5).sum().item())
os.truncate(filler.name, 0)
print((Tensor([1.0, 2.0]).contiguous() * 7).sum().item())
"""
MOUNT = 'mount -t tmpfs -o size=2m none "$1"; shift; exec "$@"'


@pytest.mark.attack
def test_a_disk_that_fills_up_costs_only_the_cache(tmp_path):
    """Own: the disk of the kernels fills up."""
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", MOUNT, "sh", str(tmp_path), sys.executable, "-c",
         FULL_DISK.format(compute=COMPUTE)], capture_output=True, text=True, cwd=ROOT, timeout=120,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)})
    assert (done.returncode, done.stdout) == (0, "9.0\n15.0\n21.0\n"), done.stderr


FAR_AWAY = """
import ctypes, mmap
import numpy as np
from tinygrad import Tensor
from seed.config import ModelConfig
from seed.wavecore.model import WaveCore, init_params

def address(region):
    return ctypes.addressof(ctypes.c_char.from_buffer(region))

def reserve(size):
    region = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # NORESERVE
    regions.append(region)
    return address(region)

regions = []
config = ModelConfig(d_model=32, n_layers=2, pattern="SA", d_ff=64)
params = init_params(config, 0)
if {far}:
    wall = reserve(4 << 30)
    while reserve(4096) > wall:   # whatever is left beside the libraries
        pass
model = WaveCore(config, params, threads=2)
logits, _ = model(Tensor(np.arange(40, dtype=np.int32).reshape(2, 20)))
print(np.abs(logits.numpy()).sum())
"""


def test_a_kernel_four_gigabytes_from_the_c_library_starts_its_threads():
    near, far = (subprocess.run([sys.executable, "-c", FAR_AWAY.format(far=far)],
                                capture_output=True, text=True) for far in (False, True))
    assert (near.returncode, far.returncode) == (0, 0), far.stderr
    assert float(near.stdout) > 0 and near.stdout == far.stdout


def test_a_symbol_that_no_library_has_is_an_error():
    with pytest.raises(AttributeError, match="seed_has_no_such_function"):
        getattr(FarCalls([], 1 << 40), "seed_has_no_such_function")


def test_install_may_be_called_again():
    install()
    install()
    assert (Tensor([1.0, 2.0]).contiguous() * 11).sum().item() == 33
    assert CPUProgram._load is tinygrad_seam.load_with_far_calls or os.uname().machine != "x86_64"
