"""The peak of this machine: floating-point operations a second of multiply-adds in registers."""
import time

from seed.config import LANES
from seed.wavecore.kernel_source import whole_text
from seed.wavecore.tinygrad_seam import CapturedGraph, buffer_view, empty, launch, launcher, zeros

REPEATS, TILES_OF_A_THREAD = 50_000, 4
CAPTURE_CALLS = 3
C_TEXT = """\
#ifdef __AVX512F__
#define SUMS 16
#else
#define SUMS 6
#endif
static void kernel_body(member_t *me, args_t a) {
    FOR_TILES(tile, TILES) {
        vec sums[SUMS], half = load(a.in), total = 0.f;
        UNROLL for (int i = 0; i < SUMS; i++) sums[i] = half * (float)i;
        for (int n = 0; n < REPEATS; n++)
            UNROLL for (int i = 0; i < SUMS; i++) sums[i] = sums[i] * half + half;
        UNROLL for (int i = 0; i < SUMS; i++) total += sums[i];
        store(a.out + tile * LANES, total);
        a.out[tile * LANES] = SUMS;
    }
}

void peak(float *out, const float *in) {
    args_t args = {out, in};
    run_team(&args);
}
"""


class Peak:
    """Of a team of threads."""

    def __init__(self, threads: int):
        self._tiles = TILES_OF_A_THREAD * threads
        constants = {"LANES": LANES, "THREADS": threads, "TILES": self._tiles, "REPEATS": REPEATS}
        text = "".join([*(f"#define {name} {value}\n" for name, value in constants.items()),
                        "typedef struct { float *out; const float *in; } args_t;\n",
                        whole_text("team.h"), C_TEXT])
        half = zeros((LANES,))
        buffer_view(half).fill(0.5)
        self._graph = CapturedGraph(lambda: launch(
            [empty(self._tiles * LANES)], [half], launcher("peak", text))[0].realize())
        for _ in range(CAPTURE_CALLS):
            output = self._graph()
        self._sums = int(buffer_view(output)[0])

    def flops(self) -> float:
        """Now: it changes with the load."""
        begin_s = time.perf_counter()
        self._graph()
        seconds = time.perf_counter() - begin_s
        return 2 * LANES * self._sums * REPEATS * self._tiles / seconds
