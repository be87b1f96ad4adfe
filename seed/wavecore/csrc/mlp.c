/* The SwiGLU MLP with its residual (Shazeer 2002.05202): y = x + out_proj(silu(gate) * up), where
 * (gate, up) = in_proj(rms_norm(x)).
 *
 * Shapes: x, y (ROWS, D_MODEL); hidden (ROWS, 2 * D_FF), gate first. Parallel over row tiles.
 * Saved for the backward pass: hidden; or nothing, and AGAIN, which is BACKWARD, makes
 * hidden again. */
#include "projection.h"

#ifndef BACKWARD
static void kernel_body(member_t *me, args_t a) {
    pack_projections(me, &a);
    FOR_ROWS(r0, rows) {
        float out[ROW_TILE * D_FF] ALIGNED;
        float *hidden = a.hidden + (long)r0 * IN_WIDTH;
        project_in(&a, a.in_proj_panels, r0, rows, hidden, IN_WIDTH);
        for (int i = 0; i < rows; i++) {
            const float *hi = hidden + (long)i * IN_WIDTH;
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

#ifdef AGAIN
static const int HIDDEN_STRIDE = STRIDE;
INLINE void pack_again(member_t *me, const args_t *a) {
    FOR_TILES(j, IN_PANELS) pack_rows(a->forward_panels, a->in_proj, j, D_MODEL);
    barrier(me);
}

/* Of a row tile, where d_hidden will take its place. */
INLINE const float *hidden_of(const args_t *a, int tile, float *d_hidden) {
    project_in(a, a->forward_panels, tile_row(tile), tile_count(tile), d_hidden, STRIDE);
    return d_hidden;
}
#else
static const int HIDDEN_STRIDE = IN_WIDTH;
INLINE void pack_again(member_t *me, const args_t *a) { (void)me, (void)a; }

INLINE const float *hidden_of(const args_t *a, int tile, float *d_hidden) {
    return (void)d_hidden, a->hidden + (long)tile_row(tile) * IN_WIDTH;
}
#endif

static void kernel_body(member_t *me, args_t a) {
    pack_again(me, &a);
    pack_projections_transposed(me, &a);
    barrier(me);
    FOR_GROUPED_TILES(tile) {
        float d_out[ROW_TILE * D_FF] ALIGNED, d_hidden[ROW_TILE * STRIDE] ALIGNED;
        float out_panels[ROW_TILE * D_FF] ALIGNED;
        int rows = tile_count(tile);
        const float *hidden = hidden_of(&a, tile, d_hidden);
        project_out_backward(&a, tile_row(tile), rows, d_out);
        for (int i = 0; i < rows; i++) {
            const float *hi = hidden + (long)i * HIDDEN_STRIDE;
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
