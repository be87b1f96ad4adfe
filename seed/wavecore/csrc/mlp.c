/* The SwiGLU MLP with its residual (Shazeer 2002.05202): y = x + out_proj(silu(gate) * up), where
 * (gate, up) = in_proj(rms_norm(x)).
 *
 * Shapes: x, y (ROWS, D_MODEL); hidden (ROWS, 2 * D_FF), gate first. Parallel over row tiles.
 * Saved for the backward pass: hidden. */
#include "projection.h"

#ifndef BACKWARD
static void kernel_body(member_t *me, args_t a) {
    pack_projections(me, &a);
    FOR_ROWS(r0, rows) {
        float out[ROW_TILE * D_FF] ALIGNED;
        project_in(&a, r0, rows, a.hidden);
        for (int i = 0; i < rows; i++) {
            const float *hi = a.hidden + (long)(r0 + i) * 2 * D_FF;
            for (int j = 0; j < D_FF; j += LANES) {
                vec gate = load(hi + j);
                store(out + (long)i * D_FF + j, gate * sigmoid(gate) * load(hi + D_FF + j));
            }
        }
        project_out(&a, r0, rows, out);
    }
}
#endif

#ifdef BACKWARD
#define STRIDE (2 * D_FF + LANES) /* were it a power of two, all rows would share few cache sets */

static void kernel_body(member_t *me, args_t a) {
    pack_projections_transposed(me, &a);
    barrier(me);
    FOR_GROUPED_TILES(tile) {
        float d_out[ROW_TILE * D_FF] ALIGNED, d_hidden[ROW_TILE * STRIDE] ALIGNED;
        float out_panels[ROW_TILE * D_FF] ALIGNED;
        int rows = tile_count(tile);
        project_out_backward(&a, tile_row(tile), rows, d_out);
        for (int i = 0; i < rows; i++) {
            const float *hi = a.hidden + (long)(tile_row(tile) + i) * 2 * D_FF;
            float *di = d_hidden + (long)i * STRIDE;
            for (int j = 0; j < D_FF; j += LANES) {
                vec gate = load(hi + j), up = load(hi + D_FF + j), s = sigmoid(gate);
                vec silu = gate * s, d = load(d_out + (long)i * D_FF + j);
                store(out_panels + ((long)(j / LANES) * rows + i) * LANES, silu * up);
                store(di + D_FF + j, d * silu);
                store(di + j, d * up * (s + silu * (1.f - s)));
            }
        }
        project_in_backward(&a, tile, d_hidden, STRIDE, out_panels);
    }
    barrier(me);
    FOR_TILES(tile, SUMS) sum_gradients(&a, tile);
}
#endif
