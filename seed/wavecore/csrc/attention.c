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
#define QUERIES 4 /* taken together, so that a key is read once for all of them */

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

/* A block of QUERIES queries and the slots that they see. Behind the last query it is repeated, unused. */
typedef struct {
    float q[QUERIES][HEAD_DIM];             /* rotated and scaled */
    int slot[QUERIES], low[QUERIES], start, low_all, high_all, count;
} queries_t;

INLINE void read_queries(queries_t *b, const float *qkv, const float *rope, int first, int t0, int h) {
    b->count = MIN(QUERIES, TIME - t0);
    for (int r = 0; r < QUERIES; r++) {
        int t = t0 + MIN(r, b->count - 1);
        b->slot[r] = PAST + t;
        b->low[r] = MAX(b->slot[r] - WINDOW + 1, first);
        rotate(b->q[r], qkv + (long)t * 3 * D_MODEL + h * HEAD_DIM, rope + (long)b->slot[r] * HEAD_DIM, SCALE,
               1.f);
    }
    b->low_all = b->low[0];
    b->high_all = b->slot[QUERIES - 1];
    b->start = b->low_all / LANES * LANES;
}

/* s[r] = the products of row r with LANES columns of transposed[d][slot] from `slot` on. */
INLINE void products(vec *s, const float (*rows)[HEAD_DIM], const float *transposed, int slot) {
    UNROLL for (int r = 0; r < QUERIES; r++) s[r] = 0.f;
    for (int d = 0; d < HEAD_DIM; d++) {
        vec column = load(transposed + (long)d * SLOTS_PADDED + slot);
        UNROLL for (int r = 0; r < QUERIES; r++) s[r] += rows[r][d] * column;
    }
}

/* v where query r sees the slot, else `hidden`. */
INLINE vec where_seen(const queries_t *b, int r, int slot, vec v, float hidden) {
    vec at = load(LANE) + (float)slot;
    v = at > (float)b->slot[r] ? (vec)hidden : v;
    return at < (float)b->low[r] ? (vec)hidden : v;
}

#ifdef FORWARD
NOINLINE void attend(const float *qkv, float *o, float *stats, const float *k_in, const float *v_in, int length,
                     const float *rope, float *private, int h) {
    float *keys = private, *p = keys + HEAD_DIM * SLOTS_PADDED; /* p is (QUERIES, SLOTS_PADDED) */
    float k[HEAD_DIM] ALIGNED;
    int first = PAST - length;
    clear_columns(keys, first);
    for (int s = first; s < SLOTS; s++) {
        rotate(k, slot_row(k_in, qkv, s, 1, h), rope + (long)s * HEAD_DIM, 1.f, 1.f);
        for (int d = 0; d < HEAD_DIM; d++) keys[(long)d * SLOTS_PADDED + s] = k[d];
    }
    for (int t0 = 0; t0 < TIME; t0 += QUERIES) {
        queries_t block ALIGNED;
        vec highest[QUERIES], total[QUERIES];
        float top[QUERIES], inverse[QUERIES];
        read_queries(&block, qkv, rope, first, t0, h);
        UNROLL for (int r = 0; r < QUERIES; r++) highest[r] = HIDDEN;
        for (int j = block.start; j <= block.high_all; j += LANES) {
            vec s[QUERIES];
            products(s, block.q, keys, j);
            UNROLL for (int r = 0; r < QUERIES; r++) {
                s[r] = where_seen(&block, r, j, s[r], HIDDEN);
                store(p + r * SLOTS_PADDED + j, s[r]);
                highest[r] = highest[r] > s[r] ? highest[r] : s[r];
            }
        }
        UNROLL for (int r = 0; r < QUERIES; r++) {
            top[r] = max_lanes(highest[r]);
            total[r] = 0.f;
        }
        for (int j = block.start; j <= block.high_all; j += LANES)
            UNROLL for (int r = 0; r < QUERIES; r++) {
                vec e = vexp(load(p + r * SLOTS_PADDED + j) - top[r]);
                e = where_seen(&block, r, j, e, 0.f);
                store(p + r * SLOTS_PADDED + j, e);
                total[r] += e;
            }
        UNROLL for (int r = 0; r < QUERIES; r++) inverse[r] = 1.f / sum_lanes(total[r]);
        for (int i = 0; i < HEAD_DIM; i += LANES) {
            vec out[QUERIES];
            UNROLL for (int r = 0; r < QUERIES; r++) out[r] = 0.f;
            for (int j = block.low_all; j <= block.high_all; j++) {
                vec v = load(slot_row(v_in, qkv, j, 2, h) + i);
                UNROLL for (int r = 0; r < QUERIES; r++) out[r] += p[r * SLOTS_PADDED + j] * v;
            }
            for (int r = 0; r < block.count; r++)
                store(o + (long)(t0 + r) * D_MODEL + h * HEAD_DIM + i, out[r] * inverse[r]);
        }
        for (int r = 0; r < block.count; r++) {
            stats[2 * (t0 + r)] = top[r];
            stats[2 * (t0 + r) + 1] = inverse[r];
        }
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
    float *p = dv + HEAD_DIM * SLOTS_PADDED, *ds = p + QUERIES * SLOTS_PADDED;
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
    for (int t0 = 0; t0 < TIME; t0 += QUERIES) {
        queries_t block ALIGNED;
        float d_o[QUERIES][HEAD_DIM] ALIGNED, dq[QUERIES][HEAD_DIM] ALIGNED;
        float mean[QUERIES], top[QUERIES], inverse[QUERIES];
        read_queries(&block, qkv, rope, first, t0, h);
        UNROLL for (int r = 0; r < QUERIES; r++) {
            int t = t0 + MIN(r, block.count - 1);
            float use = r < block.count ? 1.f : 0.f; /* a repeated query has no gradient */
            vec dot_o = 0.f;
            for (int i = 0; i < HEAD_DIM; i += LANES) {
                vec d = load(d_out + (long)t * D_MODEL + h * HEAD_DIM + i);
                dot_o += d * load(o + (long)t * D_MODEL + h * HEAD_DIM + i);
                store(d_o[r] + i, d);
            }
            mean[r] = sum_lanes(dot_o);
            top[r] = stats[2 * t];
            inverse[r] = stats[2 * t + 1] * use;
        }
        for (int j = block.start; j <= block.high_all; j += LANES) {
            vec s[QUERIES], g[QUERIES];
            products(s, block.q, keys, j);
            products(g, d_o, values, j);
            UNROLL for (int r = 0; r < QUERIES; r++) {
                vec e = vexp(where_seen(&block, r, j, s[r], HIDDEN) - top[r]) * inverse[r];
                e = where_seen(&block, r, j, e, 0.f);
                store(p + r * SLOTS_PADDED + j, e);
                store(ds + r * SLOTS_PADDED + j, e * (g[r] - mean[r]));
            }
        }
        for (int i = 0; i < HEAD_DIM; i += LANES) {
            vec sum[QUERIES], q[QUERIES], d[QUERIES];
            UNROLL for (int r = 0; r < QUERIES; r++) {
                sum[r] = 0.f;
                q[r] = load(block.q[r] + i);
                d[r] = load(d_o[r] + i);
            }
            for (int j = block.low_all; j <= block.high_all; j++) {
                float *dkj = dk + (long)j * HEAD_DIM + i, *dvj = dv + (long)j * HEAD_DIM + i;
                vec kj = load(k + (long)j * HEAD_DIM + i), dk_sum = load(dkj), dv_sum = load(dvj);
                UNROLL for (int r = 0; r < QUERIES; r++) {
                    float dsj = ds[r * SLOTS_PADDED + j];
                    sum[r] += dsj * kj;
                    dk_sum += dsj * q[r];
                    dv_sum += p[r * SLOTS_PADDED + j] * d[r];
                }
                store(dkj, dk_sum);
                store(dvj, dv_sum);
            }
            UNROLL for (int r = 0; r < QUERIES; r++) store(dq[r] + i, sum[r]);
        }
        for (int r = 0; r < block.count; r++)
            rotate(d_qkv + (long)(t0 + r) * 3 * D_MODEL + h * HEAD_DIM, dq[r],
                   rope + (long)block.slot[r] * HEAD_DIM, SCALE, -1.f);
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
        to_panels(o_panels, o + (long)r0 * D_MODEL, D_MODEL, ROWS, r0, rows);
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
