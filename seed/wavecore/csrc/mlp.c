/* The SwiGLU MLP with its residual (Shazeer 2002.05202): y = x + out_proj(silu(gate) * up), where
 * (gate, up) = in_proj(rms_norm(x)).
 *
 * Shapes: x, y (ROWS, D_MODEL); hidden (ROWS, 2 * D_FF), gate first. Parallel over row tiles.
 * Saved for the backward pass: hidden. */
#include "projection.h"

#ifdef FORWARD
static void kernel_body(member_t *me, args_t a) {
    pack_projections(me, &a);
    barrier(me);
    FOR_TILES(tile, ROW_TILES) {
        float out[ROW_TILE * D_FF] ALIGNED;
        project_in(&a, tile, a.hidden);
        for (int i = 0; i < tile_count(tile); i++) {
            const float *hi = a.hidden + (long)(tile_row(tile) + i) * 2 * D_FF;
            for (int j = 0; j < D_FF; j += LANES) {
                vec gate = load(hi + j);
                store(out + (long)i * D_FF + j, gate * sigmoid(gate) * load(hi + D_FF + j));
            }
        }
        project_out(&a, tile, out);
    }
}
#endif

#ifdef BACKWARD
static void kernel_body(member_t *me, args_t a) {
    pack_projections_transposed(me, &a);
    barrier(me);
    FOR_TILES(tile, ROW_TILES) {
        float d_out[ROW_TILE * D_FF] ALIGNED;
        project_out_backward(&a, tile, d_out);
        for (int i = 0; i < tile_count(tile); i++) {
            long r = tile_row(tile) + i;
            const float *hi = a.hidden + r * 2 * D_FF;
            float *di = a.d_hidden + r * 2 * D_FF;
            for (int j = 0; j < D_FF; j += LANES) {
                vec gate = load(hi + j), up = load(hi + D_FF + j), s = sigmoid(gate);
                vec silu = gate * s, d = load(d_out + (long)i * D_FF + j);
                store(a.out_panels + ((long)(j / LANES) * ROWS + r) * LANES, silu * up);
                store(di + D_FF + j, d * silu);
                store(di + j, d * up * (s + silu * (1.f - s)));
            }
        }
        project_in_backward(&a, tile, a.d_hidden);
    }
    barrier(me);
    FOR_TILES(tile, PROJECTION_TILES + 1) projection_gradients(&a, tile, a.d_hidden);
}
#endif
