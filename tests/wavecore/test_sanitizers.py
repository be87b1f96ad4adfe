"""Every kernel, from the very text that training compiles, under the address, undefined-behaviour
and thread sanitizers. Segments of one buffer are kept apart by poisoned gaps."""
import itertools
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from tinygrad import Tensor, dtypes

from seed.config import ModelConfig, TrainConfig
from seed.training import optim
from seed.wavecore import fast, layout, model
from seed.wavecore.reference import SoftTargets

GAP = 32       # floats between two segments
THREADS = 3
BUILDS = (["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DPOISON"],
          ["-fsanitize=thread"])
WIDTHS, TIMES, BATCHES = (32, 64, 96, 128, 160, 192, 224, 256), (1, 2, 63, 64, 65, 130), (1, 3, 16)
GRID = list(itertools.product(WIDTHS, TIMES, BATCHES))
# The thread sanitizer does not see accesses wider than 16 bytes, so it gets them lane by lane.
WIDE = {f"INLINE {kind} {load}(const float *p) {{ return *(const {kind} *)p; }}":
        f"INLINE {kind} {load}(const float *p) {{ {kind} v;"
        f" for (int i = 0; i < {n}; i++) v[i] = p[i]; return v; }}"
        for kind, load, n in (("vec", "load", 16), ("vec8", "load8", 8))}
WIDE |= {f"INLINE void {store}(float *p, {kind} v) {{ *({kind} *)p = v; }}":
         f"INLINE void {store}(float *p, {kind} v) {{ for (int i = 0; i < {n}; i++) p[i] = v[i]; }}"
         for kind, store, n in (("vec", "store", 16), ("vec8", "store8", 8))}
SAMPLE = [(32, 1, 3), (64, 65, 3), (96, 17, 16)]

MAIN = """
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


class Recorder:
    """Stands between fast.py and tinygrad, and turns every launch into a program."""

    def __init__(self, monkeypatch, short: str = ""):
        """`short` names a segment that is made a sixth too small: a fault to be found."""
        self.cases: dict[str, Case] = {}
        self.gaps: dict[int, list[tuple[int, int]]] = {}   # by the total of the buffer
        launcher, segments, launch = fast._launcher, fast._segments, Tensor.custom_kernel

        def spread(prefix: str, sizes: dict[str, int]) -> tuple[int, dict[str, int]]:
            offsets, gaps, at = {}, [], 0
            for name, size in sizes.items():
                size -= size // 6 if name == short else 0
                offsets[f"{prefix}_{name}"] = at
                end = layout.round_up(at + size + GAP)
                gaps.append((at + size, end - at - size))
                at = end
            # The total tells the buffer: no other of thousands of floats is odd.
            while at + 1 in self.gaps:
                at += 16
            at += 1
            gaps[-1] = (gaps[-1][0], at - gaps[-1][0])
            self.gaps[at] = gaps
            assert segments(prefix, sizes)[1].keys() == offsets.keys()
            return at, offsets

        def named(file: str, defines: dict[str, object]):
            found = launcher(file, defines)
            found.source = fast.source(file, defines)
            found.limit = defines.get("WINDOW", defines.get("VOCAB"))
            return found

        def record(*tensors, fxn, grad_fxn=None):
            self.add(fxn, tensors)
            return launch(*tensors, fxn=fxn, grad_fxn=grad_fxn)
        monkeypatch.setattr(fast, "_segments", spread)
        monkeypatch.setattr(fast, "_launcher", named)
        monkeypatch.setattr(Tensor, "custom_kernel", record)
        model.kernels_of.cache_clear()

    def add(self, fxn, tensors) -> None:
        name, text = fxn.source
        arguments, gaps = [], ["{0, 0, 0}"]
        for i, tensor in enumerate(tensors):
            limit = fxn.limit if tensor.dtype == dtypes.int else 0
            arguments.append(f"{{{tensor.numel()}, {limit}}}")
            gaps += [f"{{{i}, {at}, {count}}}" for at, count in self.gaps.get(tensor.numel(), [])]
        call = ", ".join(f"a[{i}]" for i in range(len(tensors)))
        self.cases[text] = Case(name, text + MAIN.format(
            arguments=", ".join(arguments), gaps=", ".join(gaps), name=name, call=call))


def programs(monkeypatch, shapes, kinds, short: str = "") -> list[Case]:
    """Every kernel that one training step and one forward pass of these shapes would launch."""
    recorder = Recorder(monkeypatch, short)
    for (d, t, b), (pattern, transition) in itertools.product(shapes, kinds):
        config = ModelConfig(d_model=d, d_ff=2 * d, n_layers=len(pattern), pattern=pattern,
                             transition=transition)
        params = model.init_params(config, 0)
        core = model.WaveCore(config, params, THREADS)
        tokens = Tensor(np.zeros((b, t), np.int32)).realize()
        count = Tensor(np.ones(1, np.float32)).realize()
        core(tokens)
        loss, _ = core.loss(tokens, tokens, count)
        grads = loss.gradient(*core.packed.values())
        few = Tensor(np.zeros((b, t, 3), np.int32)).realize()
        core.loss(tokens, tokens, count, soft=SoftTargets(few, few.float().realize(), 2.0, 0.5))
        loss = loss.reshape(1)
        for name in ("muon", "adamw"):
            optim.Optimizer(core, TrainConfig(optimizer=name)).step(grads, loss)
    return list(recorder.cases.values())


def build_and_run(folder: Path, case: Case, flags: list[str]) -> str:
    """What the sanitizers report; empty if nothing."""
    program = folder / f"{case.name}{flags[0][-4:]}"
    source = program.with_suffix(".c")
    text = case.text
    if "thread" in flags[0]:
        for wide, narrow in WIDE.items():
            assert wide in text
            text = text.replace(wide, narrow)
    source.write_text(text)
    command = [os.environ["CC"], "-O1", "-gline-tables-only", "-w", *flags, str(source), "-o",
               str(program), "-lpthread"]
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


@pytest.mark.parametrize("d, t, b", SAMPLE)
def test_every_kernel_is_clean_under_the_sanitizers(monkeypatch, tmp_path, d, t, b):
    cases = programs(monkeypatch, [(d, t, b)], [("SA", "delta")])
    parts = {case.name.rstrip("_0123456789") for case in cases}
    assert parts == {"ssm_forward", "ssm_backward", "attention_forward", "attention_backward",
                     "mlp_forward", "mlp_backward", "embedding_forward", "embedding_backward",
                     "head_forward", "head_soft", "head_backward", "head_logits", "adamw_norm",
                     "adamw_decide", "adamw_apply", "muon_orthogonalize"}
    assert len(cases) == len(parts) + 1  # adamw_apply without matrices and with them
    assert_clean(tmp_path, cases)


@pytest.mark.long
@pytest.mark.parametrize("d, t, b", GRID)
def test_every_kernel_is_clean_under_the_sanitizers_everywhere(monkeypatch, tmp_path, d, t, b):
    kinds = [("SA", "delta"), ("S", "diagonal")]
    assert_clean(tmp_path, programs(monkeypatch, [(d, t, b)], kinds))


@pytest.mark.parametrize("short, says", [
    ("STATES", "use-after-poison"), ("", "data race")])
def test_the_sanitizers_see_a_segment_too_small_and_a_missing_barrier(monkeypatch, tmp_path, short,
                                                                      says):
    """The harness itself: the fault that once corrupted the heap, and a race."""
    if not short:
        text = fast._text
        monkeypatch.setattr(fast, "_text",
                            lambda name: text(name).replace("barrier(team);", ";"))
    forward = next(case for case in programs(monkeypatch, [(64, 130, 16)], [("S", "delta")], short)
                   if case.name.startswith("ssm_forward"))
    assert any(says in build_and_run(tmp_path, forward, flags) for flags in BUILDS)
