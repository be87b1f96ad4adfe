/* The SwiGLU MLP with its residual (Shazeer 2002.05202): y = x + out_proj(silu(gate) * up), where
 * (gate, up) = in_proj(norm(x)).
 *
 * Shapes: x, y (ROWS, D_MODEL); hidden (ROWS, 2 * D_FF), gate first. Parallel over row tiles.
 * Saved for the backward pass: hidden. */

#ifdef FORWARD
static void kernel_body(team_t *team, int thread) {
    float *y = team->args[0], *hidden = team->args[1], *scratch = team->args[2];
    const float *x = team->args[3], *w = team->args[4];
    float *in_panels = scratch + SCRATCH_IN_PANELS, *out_panels = scratch + SCRATCH_OUT_PANELS;

    FOR_TILES(j, 0, 2 * D_FF / LANES + D_MODEL / LANES) {
        int i = j - 2 * D_FF / LANES;
        if (i < 0) pack_panel(in_panels + (long)j * LANES * D_MODEL, w + W_IN_PROJ + (long)j * LANES * D_MODEL,
                              D_MODEL, 1, D_MODEL);
        else pack_panel(out_panels + (long)i * LANES * D_FF, w + W_OUT_PROJ + (long)i * LANES * D_FF, D_FF, 1,
                        D_FF);
    }
    barrier(team);
    FOR_TILES(tile, 1, ROW_TILES) {
        int r0 = tile * ROW_TILE, rows = MIN(ROW_TILE, ROWS - r0);
        float xn[ROW_TILE * D_MODEL] ALIGNED, act[ROW_TILE * D_FF] ALIGNED;
        norm_rows(xn, x + (long)r0 * D_MODEL, w + W_NORM, rows);
        matmul(hidden + (long)r0 * 2 * D_FF, 2 * D_FF, xn, D_MODEL, rows, in_panels, 2 * D_FF, D_MODEL, 0);
        for (int i = 0; i < rows; i++) {
            const float *hi = hidden + (long)(r0 + i) * 2 * D_FF;
            for (int j = 0; j < D_FF; j += LANES) {
                vec gate = load(hi + j);
                store(act + (long)i * D_FF + j, gate * sigmoid(gate) * load(hi + D_FF + j));
            }
        }
        copy(y + (long)r0 * D_MODEL, x + (long)r0 * D_MODEL, (long)rows * D_MODEL);
        matmul(y + (long)r0 * D_MODEL, D_MODEL, act, D_FF, rows, out_panels, D_MODEL, D_FF, 1);
    }
}

void KERNEL(float *y, float *save, float *scratch, float *x, float *w) {
    void *args[] = {y, save, scratch, x, w};
    run_team(args);
}
#endif

#ifdef BACKWARD
static void kernel_body(team_t *team, int thread) {
    float *dx = team->args[0], *dw = team->args[1], *scratch = team->args[2];
    const float *dy = team->args[3], *x = team->args[4], *w = team->args[5], *hidden = team->args[6];
    float *out_panels = scratch + SCRATCH_OUT_PANELS, *in_panels = scratch + SCRATCH_IN_PANELS;
    float *d_hidden = scratch + SCRATCH_D_HIDDEN, *act_panels = scratch + SCRATCH_ACT_PANELS;
    float *xn_panels = scratch + SCRATCH_XN_PANELS, *d_gain = scratch + SCRATCH_D_GAIN;

    FOR_TILES(j, 0, D_FF / LANES + D_MODEL / LANES) {
        int i = j - D_FF / LANES;
        if (i < 0) pack_panel(out_panels + (long)j * LANES * D_MODEL, w + W_OUT_PROJ + j * LANES, D_MODEL, D_FF,
                              1);
        else pack_panel(in_panels + (long)i * LANES * 2 * D_FF, w + W_IN_PROJ + i * LANES, 2 * D_FF, D_MODEL, 1);
    }
    barrier(team);
    FOR_TILES(tile, 1, ROW_TILES) {
        int r0 = tile * ROW_TILE, rows = MIN(ROW_TILE, ROWS - r0);
        float d_act[ROW_TILE * D_FF] ALIGNED, dxn[ROW_TILE * D_MODEL] ALIGNED;
        matmul(d_act, D_FF, dy + (long)r0 * D_MODEL, D_MODEL, rows, out_panels, D_FF, D_MODEL, 0);
        for (int i = 0; i < rows; i++) {
            const float *hi = hidden + (long)(r0 + i) * 2 * D_FF;
            float *di = d_hidden + (long)(r0 + i) * 2 * D_FF;
            for (int j = 0; j < D_FF; j += LANES) {
                vec gate = load(hi + j), up = load(hi + D_FF + j), s = sigmoid(gate), silu = gate * s;
                vec d = load(d_act + (long)i * D_FF + j);
                store(act_panels + ((long)(j / LANES) * ROWS + r0 + i) * LANES, silu * up);
                store(di + D_FF + j, d * silu);
                store(di + j, d * up * (s + silu * (1.f - s)));
            }
        }
        matmul(dxn, D_MODEL, d_hidden + (long)r0 * 2 * D_FF, 2 * D_FF, rows, in_panels, D_MODEL, 2 * D_FF, 0);
        norm_backward_rows(dx, dy, dxn, x, w + W_NORM, xn_panels, d_gain + (long)tile * D_MODEL, r0, rows);
    }
    barrier(team);
    int in_tiles = WEIGHT_TILES(2 * D_FF), out_tiles = WEIGHT_TILES(D_MODEL);
    FOR_TILES(tile, 2, in_tiles + out_tiles + 1) {
        int i = tile - in_tiles;
        if (i < 0) {
            int r0 = tile * WEIGHT_TILE, rows = MIN(WEIGHT_TILE, 2 * D_FF - r0);
            matmul_transposed(dw + W_IN_PROJ + (long)r0 * D_MODEL, D_MODEL, d_hidden + r0, 2 * D_FF, rows,
                              xn_panels, D_MODEL, ROWS);
        } else if (i < out_tiles) {
            int r0 = i * WEIGHT_TILE, rows = MIN(WEIGHT_TILE, D_MODEL - r0);
            matmul_transposed(dw + W_OUT_PROJ + (long)r0 * D_FF, D_FF, dy + r0, D_MODEL, rows, act_panels, D_FF,
                              ROWS);
        } else {
            sum_partials(dw + W_NORM, d_gain, D_MODEL, D_MODEL, ROW_TILES);
        }
    }
}

void KERNEL(float *dx, float *dw, float *scratch, float *dy, float *x, float *w, float *save) {
    void *args[] = {dx, dw, scratch, dy, x, w, save};
    run_team(args);
}
#endif
