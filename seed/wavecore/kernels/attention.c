/* Sliding-window causal attention with RoPE and its residual: y = x + out_proj(attention(norm(x))).
 *
 * Keys and values stand in slots: PAST carried ones, of which the last `length` are valid, then TIME
 * new ones. A query in slot s sees the slots max(s - WINDOW + 1, PAST - length) .. s. Carried keys
 * are not rotated: RoPE (Su et al. 2104.09864) depends on differences only, so slot numbers serve as
 * positions, and no position grows without bound.
 *
 * Shapes: x, y (ROWS, D_MODEL); qkv (ROWS, 3 * D_MODEL); carried k, v (BATCH, PAST, D_MODEL); length
 * (BATCH) int; rope (SLOTS, HEAD_DIM), cosines first. Parallel over row tiles for the projections and
 * over (batch, head) between them.
 * Saved for the backward pass: qkv, the attention output o, and per query the maximal score and the
 * inverse of the sum of exponentials. */
#define PAST (WINDOW - 1)
#define SLOTS (PAST + TIME)
#define SLOTS_PADDED ROUND_UP(SLOTS, LANES)
#define HALF (HEAD_DIM / 2)
#define HIDDEN -1e30f

static const float LANE[LANES] ALIGNED = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* sign = 1 rotates, sign = -1 rotates back. */
INLINE void rotate(float *to, const float *from, const float *rope, float scale, float sign) {
    for (int j = 0; j < HALF; j += LANES) {
        vec a = load(from + j), b = load(from + HALF + j), c = load(rope + j), s = load(rope + HALF + j) * sign;
        store(to + j, (a * c - b * s) * scale);
        store(to + HALF + j, (b * c + a * s) * scale);
    }
}

INLINE const float *slot_row(const float *carried, const float *qkv, int slot, int column, int h) {
    return slot < PAST ? carried + (long)slot * D_MODEL + h * HEAD_DIM
                       : qkv + (long)(slot - PAST) * 3 * D_MODEL + column * D_MODEL + h * HEAD_DIM;
}

/* transposed[d][slot], zero where no valid key stands. */
INLINE void clear_columns(float *transposed, int first) {
    for (int d = 0; d < HEAD_DIM; d++) {
        fill_zero(transposed + (long)d * SLOTS_PADDED, first);
        fill_zero(transposed + (long)d * SLOTS_PADDED + SLOTS, SLOTS_PADDED - SLOTS);
    }
}

INLINE vec mask_scores(vec s, int block, int low, int high) {
    vec slot = load(LANE) + (float)block;
    s = slot > (float)high ? (vec)HIDDEN : s;
    return slot < (float)low ? (vec)HIDDEN : s;
}

#ifdef FORWARD
NOINLINE void attend(const float *qkv, float *o, float *stats, const float *k_in, const float *v_in, int length,
                     const float *rope, float *private, int h) {
    float *keys = private, *p = keys + HEAD_DIM * SLOTS_PADDED;
    float k[HEAD_DIM] ALIGNED, q[HEAD_DIM] ALIGNED;
    int first = PAST - length;
    clear_columns(keys, first);
    for (int s = first; s < SLOTS; s++) {
        rotate(k, slot_row(k_in, qkv, s, 1, h), rope + (long)s * HEAD_DIM, 1.f, 1.f);
        for (int d = 0; d < HEAD_DIM; d++) keys[(long)d * SLOTS_PADDED + s] = k[d];
    }
    for (int t = 0; t < TIME; t++) {
        int slot = PAST + t, low = MAX(slot - WINDOW + 1, first), start = low / LANES * LANES;
        rotate(q, qkv + (long)t * 3 * D_MODEL + h * HEAD_DIM, rope + (long)slot * HEAD_DIM, SCALE, 1.f);
        vec m = HIDDEN;
        for (int j = start; j <= slot; j += LANES) {
            vec s0 = 0.f, s1 = 0.f;
            for (int d = 0; d < HEAD_DIM; d += 2) {
                s0 += q[d] * load(keys + (long)d * SLOTS_PADDED + j);
                s1 += q[d + 1] * load(keys + (long)(d + 1) * SLOTS_PADDED + j);
            }
            vec s = mask_scores(s0 + s1, j, low, slot);
            store(p + j, s);
            m = m > s ? m : s;
        }
        float highest = max_lanes(m);
        vec total = 0.f, out[HEAD_DIM / LANES];
        for (int j = start; j <= slot; j += LANES) {
            vec e = vexp(load(p + j) - highest);
            store(p + j, e);
            total += e;
        }
        float inverse = 1.f / sum_lanes(total);
        UNROLL for (int i = 0; i < HEAD_DIM / LANES; i++) out[i] = 0.f;
        for (int j = low; j <= slot; j++) {
            const float *v = slot_row(v_in, qkv, j, 2, h);
            UNROLL for (int i = 0; i < HEAD_DIM / LANES; i++) out[i] += p[j] * load(v + i * LANES);
        }
        UNROLL for (int i = 0; i < HEAD_DIM / LANES; i++)
            store(o + (long)t * D_MODEL + h * HEAD_DIM + i * LANES, out[i] * inverse);
        stats[2 * t] = highest;
        stats[2 * t + 1] = inverse;
    }
}

static void kernel_body(team_t *team, int thread) {
    float *y = team->args[0], *k_out = team->args[1], *v_out = team->args[2], *save = team->args[4];
    float *scratch = team->args[5];
    int *length_out = team->args[3];
    const float *x = team->args[6], *w = team->args[7], *k_in = team->args[8], *v_in = team->args[9];
    const int *length_in = team->args[10];
    const float *rope = team->args[11];
    float *qkv = save + SAVE_QKV, *o = save + SAVE_OUT, *stats = save + SAVE_STATS;
    float *in_panels = scratch + SCRATCH_IN_PANELS, *out_panels = scratch + SCRATCH_OUT_PANELS;
    float *private = scratch + SCRATCH_PRIVATE + (long)thread * SCRATCH_PRIVATE_STRIDE;

    FOR_TILES(j, 0, 3 * D_MODEL / LANES + D_MODEL / LANES) {
        int i = j - 3 * D_MODEL / LANES;
        if (i < 0) pack_panel(in_panels + (long)j * LANES * D_MODEL, w + W_QKV_PROJ + (long)j * LANES * D_MODEL,
                              D_MODEL, 1, D_MODEL);
        else pack_panel(out_panels + (long)i * LANES * D_MODEL, w + W_OUT_PROJ + (long)i * LANES * D_MODEL,
                        D_MODEL, 1, D_MODEL);
    }
    barrier(team);
    FOR_TILES(tile, 1, ROW_TILES) {
        int r0 = tile * ROW_TILE, rows = MIN(ROW_TILE, ROWS - r0);
        float xn[ROW_TILE * D_MODEL] ALIGNED;
        norm_rows(xn, x + (long)r0 * D_MODEL, w + W_NORM, rows);
        matmul(qkv + (long)r0 * 3 * D_MODEL, 3 * D_MODEL, xn, D_MODEL, rows, in_panels, 3 * D_MODEL, D_MODEL, 0);
    }
    barrier(team);
    FOR_TILES(i, 2, BATCH * HEADS) {
        long b = i / HEADS, h = i % HEADS;
        const float *qkv_b = qkv + b * TIME * 3 * D_MODEL;
        const float *k_b = k_in + b * PAST * D_MODEL, *v_b = v_in + b * PAST * D_MODEL;
        attend(qkv_b, o + b * TIME * D_MODEL, stats + (long)i * TIME * 2, k_b, v_b, length_in[b], rope, private,
               h);
        for (int s = 0; s < PAST; s++) {
            long to = (b * PAST + s) * D_MODEL + h * HEAD_DIM;
            copy(k_out + to, slot_row(k_b, qkv_b, TIME + s, 1, h), HEAD_DIM);
            copy(v_out + to, slot_row(v_b, qkv_b, TIME + s, 2, h), HEAD_DIM);
        }
        if (h == 0) length_out[b] = MIN(PAST, length_in[b] + TIME);
    }
    barrier(team);
    FOR_TILES(tile, 3, ROW_TILES) {
        int r0 = tile * ROW_TILE, rows = MIN(ROW_TILE, ROWS - r0);
        copy(y + (long)r0 * D_MODEL, x + (long)r0 * D_MODEL, (long)rows * D_MODEL);
        matmul(y + (long)r0 * D_MODEL, D_MODEL, o + (long)r0 * D_MODEL, D_MODEL, rows, out_panels, D_MODEL,
               D_MODEL, 1);
    }
}

void KERNEL(float *y, float *k_out, float *v_out, int *length_out, float *save, float *scratch, float *x,
            float *w, float *k_in, float *v_in, int *length_in, float *rope) {
    void *args[] = {y, k_out, v_out, length_out, save, scratch, x, w, k_in, v_in, length_in, rope};
    run_team(args);
}
#endif

#ifdef BACKWARD
/* With p the probabilities and g = dO . v_j: ds = p (g - dO . o), dq = ds K, dK += ds q, dV += p dO. */
NOINLINE void attend_backward(const float *qkv, const float *o, const float *stats, const float *d_out,
                              const float *k_in, const float *v_in, int length, const float *rope, float *d_qkv,
                              float *d_k_in, float *d_v_in, float *private, int h) {
    float *keys = private, *values = keys + HEAD_DIM * SLOTS_PADDED, *k = values + HEAD_DIM * SLOTS_PADDED;
    float *dk = k + HEAD_DIM * SLOTS_PADDED, *dv = dk + HEAD_DIM * SLOTS_PADDED;
    float *p = dv + HEAD_DIM * SLOTS_PADDED, *ds = p + SLOTS_PADDED;
    float q[HEAD_DIM] ALIGNED, dq[HEAD_DIM] ALIGNED;
    int first = PAST - length;
    clear_columns(keys, first);
    clear_columns(values, first);
    fill_zero(dk, HEAD_DIM * SLOTS);
    fill_zero(dv, HEAD_DIM * SLOTS);
    for (int s = first; s < SLOTS; s++) {
        const float *v = slot_row(v_in, qkv, s, 2, h);
        rotate(k + (long)s * HEAD_DIM, slot_row(k_in, qkv, s, 1, h), rope + (long)s * HEAD_DIM, 1.f, 1.f);
        for (int d = 0; d < HEAD_DIM; d++) {
            keys[(long)d * SLOTS_PADDED + s] = k[(long)s * HEAD_DIM + d];
            values[(long)d * SLOTS_PADDED + s] = v[d];
        }
    }
    for (int t = 0; t < TIME; t++) {
        int slot = PAST + t, low = MAX(slot - WINDOW + 1, first), start = low / LANES * LANES;
        const float *dot = d_out + (long)t * D_MODEL + h * HEAD_DIM, *ot = o + (long)t * D_MODEL + h * HEAD_DIM;
        rotate(q, qkv + (long)t * 3 * D_MODEL + h * HEAD_DIM, rope + (long)slot * HEAD_DIM, SCALE, 1.f);
        vec dot_o = 0.f, sums[HEAD_DIM / LANES];
        for (int j = 0; j < HEAD_DIM; j += LANES) dot_o += load(dot + j) * load(ot + j);
        float mean = sum_lanes(dot_o), highest = stats[2 * t], inverse = stats[2 * t + 1];
        for (int j = start; j <= slot; j += LANES) {
            vec s = 0.f, g = 0.f;
            for (int d = 0; d < HEAD_DIM; d++) {
                s += q[d] * load(keys + (long)d * SLOTS_PADDED + j);
                g += dot[d] * load(values + (long)d * SLOTS_PADDED + j);
            }
            vec prob = vexp(mask_scores(s, j, low, slot) - highest) * inverse;
            store(p + j, prob);
            store(ds + j, prob * (g - mean));
        }
        UNROLL for (int i = 0; i < HEAD_DIM / LANES; i++) sums[i] = 0.f;
        for (int j = low; j <= slot; j++) {
            float *dkj = dk + (long)j * HEAD_DIM, *dvj = dv + (long)j * HEAD_DIM;
            UNROLL for (int i = 0; i < HEAD_DIM; i += LANES) {
                sums[i / LANES] += ds[j] * load(k + (long)j * HEAD_DIM + i);
                store(dkj + i, load(dkj + i) + ds[j] * load(q + i));
                store(dvj + i, load(dvj + i) + p[j] * load(dot + i));
            }
        }
        UNROLL for (int i = 0; i < HEAD_DIM / LANES; i++) store(dq + i * LANES, sums[i]);
        rotate(d_qkv + (long)t * 3 * D_MODEL + h * HEAD_DIM, dq, rope + (long)slot * HEAD_DIM, SCALE, -1.f);
    }
    for (int s = 0; s < SLOTS; s++) {
        float *to_k = (float *)slot_row(d_k_in, d_qkv, s, 1, h), *to_v = (float *)slot_row(d_v_in, d_qkv, s, 2, h);
        rotate(to_k, dk + (long)s * HEAD_DIM, rope + (long)s * HEAD_DIM, 1.f, -1.f);
        copy(to_v, dv + (long)s * HEAD_DIM, HEAD_DIM);
    }
}

static void kernel_body(team_t *team, int thread) {
    float *dx = team->args[0], *dw = team->args[1], *d_k_in = team->args[2], *d_v_in = team->args[3];
    float *scratch = team->args[4];
    const float *dy = team->args[5], *x = team->args[6], *w = team->args[7], *k_in = team->args[8];
    const float *v_in = team->args[9], *rope = team->args[11], *save = team->args[12];
    const int *length_in = team->args[10];
    const float *qkv = save + SAVE_QKV, *o = save + SAVE_OUT, *stats = save + SAVE_STATS;
    float *out_panels = scratch + SCRATCH_OUT_PANELS, *in_panels = scratch + SCRATCH_IN_PANELS;
    float *d_out = scratch + SCRATCH_D_OUT, *d_qkv = scratch + SCRATCH_D_QKV;
    float *o_panels = scratch + SCRATCH_O_PANELS, *xn_panels = scratch + SCRATCH_XN_PANELS;
    float *d_gain = scratch + SCRATCH_D_GAIN;
    float *private = scratch + SCRATCH_PRIVATE + (long)thread * SCRATCH_PRIVATE_STRIDE;

    FOR_TILES(j, 0, D_MODEL / LANES + D_MODEL / LANES) {
        int i = j - D_MODEL / LANES;
        if (i < 0) pack_panel(out_panels + (long)j * LANES * D_MODEL, w + W_OUT_PROJ + j * LANES, D_MODEL,
                              D_MODEL, 1);
        else pack_panel(in_panels + (long)i * LANES * 3 * D_MODEL, w + W_QKV_PROJ + i * LANES, 3 * D_MODEL,
                        D_MODEL, 1);
    }
    barrier(team);
    FOR_TILES(tile, 1, ROW_TILES) {
        int r0 = tile * ROW_TILE, rows = MIN(ROW_TILE, ROWS - r0);
        matmul(d_out + (long)r0 * D_MODEL, D_MODEL, dy + (long)r0 * D_MODEL, D_MODEL, rows, out_panels, D_MODEL,
               D_MODEL, 0);
        to_panels(o_panels, o + (long)r0 * D_MODEL, D_MODEL, r0, rows);
    }
    barrier(team);
    FOR_TILES(i, 2, BATCH * HEADS) {
        long b = i / HEADS, h = i % HEADS, row = b * TIME, past = b * PAST * D_MODEL;
        attend_backward(qkv + row * 3 * D_MODEL, o + row * D_MODEL, stats + (long)i * TIME * 2,
                        d_out + row * D_MODEL, k_in + past, v_in + past, length_in[b], rope,
                        d_qkv + row * 3 * D_MODEL, d_k_in + past, d_v_in + past, private, h);
    }
    barrier(team);
    FOR_TILES(tile, 3, ROW_TILES) {
        int r0 = tile * ROW_TILE, rows = MIN(ROW_TILE, ROWS - r0);
        float dxn[ROW_TILE * D_MODEL] ALIGNED;
        matmul(dxn, D_MODEL, d_qkv + (long)r0 * 3 * D_MODEL, 3 * D_MODEL, rows, in_panels, D_MODEL, 3 * D_MODEL,
               0);
        norm_backward_rows(dx, dy, dxn, x, w + W_NORM, xn_panels, d_gain + (long)tile * D_MODEL, r0, rows);
    }
    barrier(team);
    int in_tiles = WEIGHT_TILES(3 * D_MODEL), out_tiles = WEIGHT_TILES(D_MODEL);
    FOR_TILES(tile, 4, in_tiles + out_tiles + 1) {
        int i = tile - in_tiles;
        if (i < 0) {
            int r0 = tile * WEIGHT_TILE, rows = MIN(WEIGHT_TILE, 3 * D_MODEL - r0);
            matmul_transposed(dw + W_QKV_PROJ + (long)r0 * D_MODEL, D_MODEL, d_qkv + r0, 3 * D_MODEL, rows,
                              xn_panels, D_MODEL, ROWS);
        } else if (i < out_tiles) {
            int r0 = i * WEIGHT_TILE, rows = MIN(WEIGHT_TILE, D_MODEL - r0);
            matmul_transposed(dw + W_OUT_PROJ + (long)r0 * D_MODEL, D_MODEL, dy + r0, D_MODEL, rows, o_panels,
                              D_MODEL, ROWS);
        } else {
            sum_partials(dw + W_NORM, d_gain, D_MODEL, D_MODEL, ROW_TILES);
        }
    }
}

void KERNEL(float *dx, float *dw, float *d_k_in, float *d_v_in, float *scratch, float *dy, float *x, float *w,
            float *k_in, float *v_in, int *length_in, float *rope, float *save) {
    void *args[] = {dx, dw, d_k_in, d_v_in, scratch, dy, x, w, k_in, v_in, length_in, rope, save};
    run_team(args);
}
#endif
