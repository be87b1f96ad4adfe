"""How the threads of a kernel share rows that are each made alone (csrc/rows.h)."""
import numpy as np
import pytest

from seed.wavecore.fast import ROW_TILE
from seed.wavecore.kernel_source import c_text
from seed.wavecore.tinygrad_seam import buffer_view, empty, from_array, launch, launcher

SMALL_TILE_ROWS = 4
PLACES = 256
TEXT = f"""
#define INLINE static inline
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define ROUND_UP(n, unit) (((n) + (unit) - 1) / (unit) * (unit))
#define ROW_TILE {ROW_TILE}
#define SMALL_TILE_ROWS {SMALL_TILE_ROWS}
static int ROWS, THREADS;
{c_text("rows.h")}
void first_rows(float *out, const float *in) {{
    ROWS = in[0];
    THREADS = in[1];
    for (int i = 0; i < {PLACES}; i++) out[i] = first_row_of(MIN(i, EVEN_TILES + THREADS));
}}
"""


def tiles(rows: int, threads: int) -> list[int]:
    """Rows of each."""
    values = from_array(np.array([rows, threads], np.float32))
    first, = launch([empty(PLACES)], [values], launcher("first_rows", TEXT))
    return [int(n) for n in np.diff(buffer_view(first.realize()), prepend=0) if n]


@pytest.mark.parametrize("rows", [1, 3, 16, 32, 96, 97, 192, 195, 2000, 2048, 4097])
def test_every_row_is_in_one_tile_and_threads_have_as_many_rows(rows):
    for threads in (1, 2, 3, 4):
        sizes = tiles(rows, threads)
        assert sum(sizes) == rows and max(sizes) <= ROW_TILE and min(sizes) > 0
        shares = sorted(sum(sizes[i::threads]) for i in range(threads))
        assert shares[-1] <= -(-rows // threads) + SMALL_TILE_ROWS - 1, (threads, sizes)


def test_one_thread_has_whole_tiles_and_what_is_left():
    assert tiles(2048, 1) == [ROW_TILE] * 21 + [32]
    assert tiles(2048, 2) == [ROW_TILE] * 20 + [64, 64]
