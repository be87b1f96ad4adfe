"""Every kernel, from the very text that training compiles, under the address, undefined-behaviour
and thread sanitizers. Poisoned gaps keep the arrays of one buffer apart."""
import itertools
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from tinygrad import Tensor, dtypes

from seed.config import LANES, ModelConfig, TrainConfig
from seed.wavecore import optim
from seed.wavecore import (fast, fast_optim, fast_ticks, kernel_source, layout, model,
                           tinygrad_seam)
from seed.wavecore.actor import Actor, Ticks, init_body
from seed.wavecore.compiler import find_compiler
from seed.wavecore.loss import SoftTargets
from seed.wavecore.ticks import TickTargets
from seed.wavecore.tinygrad_seam import LaunchFn

GAP = 32       # floats between two arrays of a buffer
SEQUENCE = 19  # bytes of the sequences of a varying length; the last has fewer
Gap = tuple[int, int]   # first float, floats
THREADS = 3
BUILDS = (["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DPOISON"],
          ["-fsanitize=thread"])
WIDTHS = (32, 64, 96, 128, 160, 192, 224, 256)
TIMES, BATCHES = (1, 2, 17, 63, 64, 65, 130), (1, 3, 16)
BODY = layout.BodyShape("body", input_rows=39, slots=8, n_observations=2, choices=(16, 5, 9))
# The thread sanitizer does not see accesses wider than 16 bytes, so it gets them lane by lane.
WIDE = {f"INLINE {kind} {load}(const float *p) {{ return *(const {kind} *)p; }}":
        f"INLINE {kind} {load}(const float *p) {{ {kind} v;"
        f" for (int i = 0; i < {n}; i++) v[i] = p[i]; return v; }}"
        for kind, load, n in (("vec", "load", 16), ("vec8", "load8", 8), ("vec4", "load4", 4))}
WIDE |= {f"INLINE void {store}(float *p, {kind} v) {{ *({kind} *)p = v; }}":
         f"INLINE void {store}(float *p, {kind} v) {{ for (int i = 0; i < {n}; i++) p[i] = v[i]; }}"
         for kind, store, n in (("vec", "store", 16), ("vec8", "store8", 8), ("vec4", "store4", 4))}

MAIN = """
typedef unsigned long size_t;
void *malloc(size_t);
void free(void *);
#ifdef POISON
void __asan_poison_memory_region(void const volatile *, size_t);
void __asan_unpoison_memory_region(void const volatile *, size_t);
#endif
int main(void) {{
    static const struct {{ long count; int limit; }} args[] = {{{arguments}}};
    static const struct {{ int arg; long at, count; }} gaps[] = {{{gaps}}};
    enum {{ N = sizeof args / sizeof *args }};
    void *a[N];
    unsigned random = 1;
    for (int i = 0; i < N; i++) {{
        a[i] = malloc(args[i].count * 4);
        for (long j = 0; j < args[i].count; j++) {{
            random = random * 1664525u + 1013904223u;
            if (args[i].limit) ((int *)a[i])[j] = (int)(random >> 8) % args[i].limit;
            else ((float *)a[i])[j] = (int)(random >> 8) / 16777216.f;
        }}
    }}
#ifdef VARLEN
    for (int i = 0; i <= TIME; i++) ((int *)a[N - 2])[i] = MIN(i * SEQUENCE, TIME);
    *(int *)a[N - 1] = (TIME + SEQUENCE - 1) / SEQUENCE;
#endif
#ifdef POISON
    for (unsigned i = 1; i < sizeof gaps / sizeof *gaps; i++)
        __asan_poison_memory_region((float *)a[gaps[i].arg] + gaps[i].at, gaps[i].count * 4);
#endif
    {name}({call});
    for (int i = 0; i < N; i++) {{
#ifdef POISON
        __asan_unpoison_memory_region(a[i], args[i].count * 4);
#endif
        free(a[i]);
    }}
    return 0;
}}
"""


class Case(NamedTuple):
    name: str
    text: str    # a whole C program


def int_limit(text: str) -> int:
    """Int arguments of a kernel are below it."""
    scalars = re.findall(r"\{\d+, (\d+), \d+, 1\}", text)   # widths of heads of ticks
    if scalars:   # a target is a column, and the next one belongs to its head
        return min(map(int, scalars)) - 1
    bound = re.search(r"#define (?:WINDOW|VOCAB|ROTARY_STEPS) (\d+)", text)
    return int(bound[1]) if bound else 0


def forget_kernels() -> None:
    for kernels_fn in (fast.kernels_of, fast_ticks.tick_embedding, fast_ticks.tick_head):
        kernels_fn.cache_clear()


class Recorder:
    """Stands between the kernels and tinygrad, and turns every launch into a program."""

    def __init__(self, monkeypatch, short: str = ""):
        """`short` names an array that is made a sixth too small: a fault to be found."""
        self.cases: dict[str, Case] = {}
        self.gaps: dict[int, list[Gap]] = {}   # by the floats of the buffer
        self.short = short
        self.sources: dict[LaunchFn, tuple[str, str]] = {}
        for module in (fast, fast_optim, fast_ticks):
            monkeypatch.setattr(module, "launcher", self.launcher)
            monkeypatch.setattr(module, "launch", self.launch)
        monkeypatch.setattr(fast, "segments", self.segments)
        forget_kernels()

    def segments(self, sizes: dict[str, int], unit: int = LANES) -> tuple[int, dict[str, int]]:
        """As kernel_source.segments, with a gap behind each array."""
        if unit != LANES:
            return kernel_source.segments(sizes, unit)
        offsets, gaps, at = {}, [], 0
        for name, size in sizes.items():
            offsets[name] = at
            if name == "private":   # a buffer of each thread; few rows have one
                threads = 1 if size in self.gaps else THREADS
                stride = size // threads
                gaps += [(at + thread * stride + start, count) for thread in range(threads)
                         for start, count in self.gaps[stride]]
            size -= size // 6 if self.short and name == self.short else 0
            end = layout.round_up(at + size + GAP)
            gaps.append((at + size, end - at - size))
            at = end
        # The number of floats tells the buffer: no other of thousands of floats is odd.
        while at + 1 in self.gaps:
            at += LANES
        at += 1
        gaps[-1] = (gaps[-1][0], at - gaps[-1][0])
        self.gaps[at] = gaps
        return at, offsets

    def launcher(self, name: str, text: str) -> LaunchFn:
        launch_fn = tinygrad_seam.launcher(name, text)
        self.sources[launch_fn] = name, text
        return launch_fn

    def launch(self, outputs, inputs, launch_fn, gradient_fn=None):
        self.add(launch_fn, [*outputs, *inputs])
        return tinygrad_seam.launch(outputs, inputs, launch_fn, gradient_fn)

    def add(self, launch_fn: LaunchFn, tensors: list[Tensor]) -> None:
        name, text = self.sources[launch_fn]
        arguments, gaps = [], ["{0, 0, 0}"]
        for i, tensor in enumerate(tensors):
            limit = int_limit(text) if tensor.dtype == dtypes.int else 0
            arguments.append(f"{{{tensor.numel()}, {limit}}}")
            gaps += [f"{{{i}, {at}, {count}}}" for at, count in self.gaps.get(tensor.numel(), [])]
        call = ", ".join(f"a[{i}]" for i in range(len(tensors)))
        self.cases[text] = Case(name, text + MAIN.format(
            arguments=", ".join(arguments), gaps=", ".join(gaps), name=name, call=call).replace(
                "SEQUENCE", str(SEQUENCE)))


def zeros(*shape: int, dtype=np.float32) -> Tensor:
    return Tensor(np.zeros(shape, dtype)).realize()


def launch_ticks(core: model.WaveCore, b: int, t: int) -> None:
    """Every kernel of ticks, as a training step launches them, and as acting does."""
    actor, n = Actor(core, BODY), b * t
    def ticks(slots): return Ticks(zeros(n, slots, dtype=np.int32), zeros(n, slots))
    x, _ = actor.hidden(ticks(BODY.slots), core.init_state(b), b, t)
    actor.logits(x)
    actor.step(core.stepper, ticks(BODY.slots), core.init_state(n), n)
    core.stepper.packed()
    loss = Tensor(0.0)
    for name, x in (("control", x), ("world", actor.after_action(x, ticks(len(BODY.choices))))):
        heads = getattr(BODY, name)
        loss = loss + actor.loss(name, x, TickTargets(
            zeros(n, len(heads.heads)), zeros(n, heads.n_scalars, dtype=np.int32),
            zeros(n, heads.n_scalars), zeros(n, heads.policy_width)))
    core.gradients(loss, lambda name: name != "embedding")


def programs(monkeypatch, shapes, kinds, short: str = "") -> list[Case]:
    """Every kernel that one training step, one forward pass, one over sequences and one step of
    acting of these shapes would launch."""
    recorder = Recorder(monkeypatch, short)
    for (d, t, b), (pattern, transition, *turns) in itertools.product(shapes, kinds):
        config = ModelConfig(d_model=d, d_ff=2 * d, n_layers=len(pattern), pattern=pattern,
                             transition=transition, rotary_steps=sum(turns))
        core = model.WaveCore(config, model.init_params(config, 0), THREADS)
        tokens = Tensor(np.zeros((b, t), np.int32)).realize()
        inv_count = Tensor(np.ones(1, np.float32)).realize()
        core(tokens)
        core.stepper.logits(tokens, core.init_state(b), b, t)
        core.stepper.varlen_logits(zeros(1, b * t, dtype=np.int32), fast.Sequences(
            zeros(b * t + 1, dtype=np.int32), zeros(1, dtype=np.int32)), b * t)
        loss, _ = core.loss(tokens, tokens, inv_count)
        grads = loss.gradient(*core.packed.values())
        ids = Tensor(np.zeros((b, t, 3), np.int32)).realize()
        core.loss(tokens, tokens, inv_count,
                  soft=SoftTargets(ids, ids.float().realize(), 2.0, 0.5))
        loss = loss.reshape(1)
        for name in ("muon", "adamw"):
            optim.Optimizer(core, TrainConfig(optimizer=name)).step(grads, loss)
        launch_ticks(model.WaveCore(config, {**core.state_dict(), **init_body(config, BODY, 0)},
                                    THREADS, bodies=[BODY]), b, t)
    forget_kernels()   # no other test gets these
    return list(recorder.cases.values())


def build_and_run(folder: Path, case: Case, flags: list[str]) -> str:
    """What the sanitizers report; empty if nothing."""
    program = Path(tempfile.mkdtemp(dir=folder)) / case.name
    source = program.with_suffix(".c")
    text = case.text
    if "thread" in flags[0]:
        for wide, narrow in WIDE.items():
            assert wide in text
            text = text.replace(wide, narrow)
    source.write_text(text)
    team = program.parent / "thread_team.c"
    team.write_text(kernel_source.whole_text(team.name))
    # Not optimized, every access of the text is made, and compiling takes a fifth of the time.
    command = [find_compiler(), "-O0", "-gline-tables-only", "-w", *flags, str(source), str(team),
               "-o", str(program), "-lpthread"]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode:
        return built.stderr
    ran = subprocess.run([str(program)], capture_output=True, text=True, timeout=300)
    program.unlink()
    return f"{case.name}: {ran.stderr or ran.returncode}" if ran.returncode or ran.stderr else ""


def assert_clean(folder: Path, cases: list[Case]) -> None:
    with ThreadPoolExecutor(2) as pool:
        reports = pool.map(lambda work: build_and_run(folder, *work),
                           itertools.product(cases, BUILDS))
        assert not [report for report in reports if report]


def test_kernels_of_states_that_turn_are_clean_under_the_sanitizers(monkeypatch, tmp_path):
    cases = [case for case in programs(monkeypatch, [(64, 65, 3)], [("S", "delta", 120)])
             if case.name.startswith("ssm_")]
    assert {case.name.rstrip("_0123456789") for case in cases} == {
        "ssm_forward", "ssm_backward", "ssm_step", "ssm_varlen"}
    assert_clean(tmp_path, cases)


def test_every_kernel_is_clean_under_the_sanitizers(monkeypatch, tmp_path):
    cases = programs(monkeypatch, [(64, 65, 3)], [("SA", "delta")])
    kernels = {case.name.rstrip("_0123456789") for case in cases}
    assert kernels == {"ssm_forward", "ssm_backward", "attention_forward", "attention_backward",
                       "mlp_forward", "mlp_backward", "mlp_again", "ssm_step", "attention_step",
                       "mlp_step", "ssm_varlen", "attention_varlen",
                       "pack_panels", "head_step", "tick_head_step", "embedding_forward",
                       "embedding_backward", "head_forward", "head_soft", "head_backward",
                       "head_logits", "adamw_norm", "adamw_decide", "adamw_apply",
                       "muon_orthogonalize", "tick_embedding_forward", "tick_embedding_backward",
                       "tick_head_forward", "tick_head_backward", "tick_head_logits"}
    # adamw_apply without matrices and with them; ticks and actions; control and world; the matrices
    # of three kinds of blocks and two tables; steps of bytes and of ticks; all rows as one.
    assert len(cases) == len(kernels) + 1 + 2 + 2 + 4 + 3 + 3
    assert_clean(tmp_path, cases)


@pytest.mark.long
@pytest.mark.parametrize("d", WIDTHS)
def test_every_kernel_is_clean_under_the_sanitizers_everywhere(monkeypatch, tmp_path, d):
    shapes = [(d, t, b) for t, b in itertools.product(TIMES, BATCHES)]
    assert_clean(tmp_path, programs(monkeypatch, shapes, [("SA", "delta"), ("S", "diagonal")]))


@pytest.mark.parametrize("short, report", [
    ("states", "use-after-poison"), pytest.param("", "data race", marks=pytest.mark.long)])
def test_the_sanitizers_see_an_array_too_small_and_a_missing_barrier(monkeypatch, tmp_path, short,
                                                                     report):
    """The harness itself: the fault that once corrupted the heap, and a race."""
    if not short:
        c_text = kernel_source.c_text
        take = "int i; (i = take_tile(me)) < (count);"
        share = "int i = me->thread; i < (count); i += THREADS"   # no thread does all the work
        assert take in c_text("team.h")
        monkeypatch.setattr(kernel_source, "c_text", lambda name: c_text(name).replace(
            "barrier(me);", "me->phase++;").replace(take, share))
    forward = next(case for case in programs(monkeypatch, [(32, 65, 3)], [("S", "delta")], short)
                   if case.name.startswith("ssm_forward"))
    assert any(report in build_and_run(tmp_path, forward, flags) for flags in BUILDS)
