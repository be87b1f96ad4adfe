/* Sliding-window causal attention with RoPE and its residual: y = x +
 * out_proj(attention(in_proj(rms_norm(x)))). in_proj (the layout's qkv_proj) makes q, k and v.
 *
 * Keys and values stand in slots: PAST carried ones, of which the last `length` are valid, then
 * TIME new ones. A query in slot s sees the slots max(s - WINDOW + 1, PAST - length) .. s. Carried
 * keys are not rotated: RoPE (Su et al. 2104.09864) depends on differences only, so slot numbers
 * serve as positions, and no position grows without bound.
 *
 * Shapes: x, y (ROWS, D_MODEL); qkv (ROWS, 3 * D_MODEL); carried k, v (BATCH, PAST, D_MODEL);
 * length (BATCH) int; rope (SLOTS, HEAD_DIM), cosines first. Parallel over row tiles for the
 * projections and over (batch, head) between them.
 * Saved for the backward pass: qkv, the attention output `out`, and stats: per query the maximal
 * score and the inverse of the sum of exponentials. There, d_qkv takes the place of qkv. */
#include "projection.h"
#define HALF (HEAD_DIM / 2)

static const float LANE[] ALIGNED = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* sign = 1 rotates, sign = -1 rotates back. */
INLINE void rotate(float *to, const float *from, const float *rope, float scale, float sign) {
    for (int j = 0; j < HALF; j += LANES) {
        vec a = load(from + j), b = load(from + HALF + j);
        vec c = load(rope + j), s = load(rope + HALF + j) * sign;
        store(to + j, (a * c - b * s) * scale);
        store(to + HALF + j, (b * c + a * s) * scale);
    }
}

/* q, k or v (column 0, 1, 2) of head h in a slot: a carried row, or one of this call. */
INLINE const float *slot_row(const float *carried, const float *qkv, int slot, int column, int h) {
    return slot < PAST ? carried + (long)slot * D_MODEL + h * HEAD_DIM
                       : qkv + (long)(slot - PAST) * 3 * D_MODEL + column * D_MODEL + h * HEAD_DIM;
}

#ifdef BACKWARD
/* transposed[d][slot], zero where no valid key stands. */
INLINE void clear_columns(float *transposed, int first) {
    for (int d = 0; d < HEAD_DIM; d++) {
        fill_zero(transposed + (long)d * SLOTS_PADDED, first);
        fill_zero(transposed + (long)d * SLOTS_PADDED + SLOTS, SLOTS_PADDED - SLOTS);
    }
}
#endif

/* A block of QUERIES queries, taken together so that a key is read once for all of them, and the
 * slots that they see. Behind the last query it is repeated, unused. */
typedef struct {
    float q[QUERIES][HEAD_DIM];             /* rotated and scaled */
    int slot[QUERIES], low[QUERIES], start, low_all, high_all, count;
} queries_t;

INLINE void read_queries(queries_t *b, const float *qkv, const float *rope, int first, int t0,
                         int h, int time) {
    b->count = MIN(QUERIES, time - t0);
    for (int r = 0; r < QUERIES; r++) {
        int t = t0 + MIN(r, b->count - 1);
        b->slot[r] = PAST + t;
        b->low[r] = MAX(b->slot[r] - WINDOW + 1, first);
        rotate(b->q[r], qkv + (long)t * 3 * D_MODEL + h * HEAD_DIM,
               rope + (long)b->slot[r] * HEAD_DIM, SCALE, 1.f);
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

#ifndef BACKWARD
#ifndef VARLEN
/* The last PAST slots of head h, as the next call's carried keys and values. */
INLINE void carry(const args_t *a, long b, int h) {
    const float *qkv = a->qkv + b * TIME * 3 * D_MODEL;
    const float *k_in = a->k_in + b * PAST * D_MODEL, *v_in = a->v_in + b * PAST * D_MODEL;
    for (int s = 0; s < PAST; s++) {
        long to = (b * PAST + s) * D_MODEL + h * HEAD_DIM;
        copy(a->k_out + to, slot_row(k_in, qkv, TIME + s, 1, h), HEAD_DIM);
        copy(a->v_out + to, slot_row(v_in, qkv, TIME + s, 2, h), HEAD_DIM);
    }
}
#endif

/* keys[d][slot], rotated, from the block of LANES slots on that `first` is in up to `slots`; zero
 * where no valid key stands. */
INLINE void read_keys(float *keys, const float *k_in, const float *qkv, const float *rope,
                      int first, int slots, int h) {
    for (int s0 = first / LANES * LANES; s0 < slots; s0 += LANES) {
        float k[LANES][HEAD_DIM] ALIGNED;
        for (int i = 0; i < LANES; i++) {
            int s = s0 + i;
            if (s < first || s >= slots) fill_zero(k[i], HEAD_DIM);
            else rotate(k[i], slot_row(k_in, qkv, s, 1, h), rope + (long)s * HEAD_DIM, 1.f, 1.f);
        }
        for (int d = 0; d < HEAD_DIM; d += LANES) {
            vec m[LANES];
            UNROLL for (int i = 0; i < LANES; i++) m[i] = load(k[i] + d);
            transpose(m);
            UNROLL for (int i = 0; i < LANES; i++)
                store(keys + (long)(d + i) * SLOTS_PADDED + s0, m[i]);
        }
    }
}

NOINLINE void sliding_window_attention(const args_t *a, int thread, long b, int h) {
    long row = first_row(a, b);
    int time = length_of(a, b);
    const float *qkv = a->qkv + row * 3 * D_MODEL, *rope = a->rope;
    float *out = a->out + row * D_MODEL;
    float *private = a->private + (long)thread * FORWARD_STRIDE;
    float *keys = private + PRIVATE_KEYS, *p = private + PRIVATE_P;
#ifdef VARLEN
    const float *k_in = 0, *v_in = 0;
    int first = PAST;
#else
    const float *k_in = a->k_in + b * PAST * D_MODEL, *v_in = a->v_in + b * PAST * D_MODEL;
    int first = PAST - a->length_in[b];
#endif
    read_keys(keys, k_in, qkv, rope, first, PAST + time, h);
    for (int t0 = 0; t0 < time; t0 += QUERIES) {
        queries_t block ALIGNED;
        vec highest[QUERIES], total[QUERIES];
        float top[QUERIES], inverse[QUERIES];
        read_queries(&block, qkv, rope, first, t0, h, time);
        /* scores and their maximum */
        UNROLL for (int r = 0; r < QUERIES; r++) highest[r] = HIDDEN_SCORE;
        for (int j = block.start; j <= block.high_all; j += LANES) {
            vec s[QUERIES];
            products(s, block.q, keys, j);
            UNROLL for (int r = 0; r < QUERIES; r++) {
                s[r] = where_seen(&block, r, j, s[r], HIDDEN_SCORE);
                store(p + r * SLOTS_PADDED + j, s[r]);
                highest[r] = highest[r] > s[r] ? highest[r] : s[r];
            }
        }
        UNROLL for (int r = 0; r < QUERIES; r++) {
            top[r] = max_lanes(highest[r]);
            total[r] = 0.f;
        }
        /* exponentials and their sum */
        for (int j = block.start; j <= block.high_all; j += LANES)
            UNROLL for (int r = 0; r < QUERIES; r++) {
                vec e = vexp(load(p + r * SLOTS_PADDED + j) - top[r]);
                e = where_seen(&block, r, j, e, 0.f);
                store(p + r * SLOTS_PADDED + j, e);
                total[r] += e;
            }
        UNROLL for (int r = 0; r < QUERIES; r++) inverse[r] = 1.f / sum_lanes(total[r]);
        /* weighted sum of values */
        for (int i = 0; i < HEAD_DIM; i += LANES) {
            vec sum[QUERIES];
            UNROLL for (int r = 0; r < QUERIES; r++) sum[r] = 0.f;
            for (int j = block.low_all; j <= block.high_all; j++) {
                vec v = load(slot_row(v_in, qkv, j, 2, h) + i);
                UNROLL for (int r = 0; r < QUERIES; r++) sum[r] += p[r * SLOTS_PADDED + j] * v;
            }
            for (int r = 0; r < block.count; r++)
                store(out + (long)(t0 + r) * D_MODEL + h * HEAD_DIM + i, sum[r] * inverse[r]);
        }
#ifdef FORWARD
        float *stats = a->stats + ((b * HEADS + h) * TIME + t0) * 2;
        for (int r = 0; r < block.count; r++) {
            stats[2 * r] = top[r];
            stats[2 * r + 1] = inverse[r];
        }
#endif
    }
#ifndef VARLEN
    carry(a, b, h);
#endif
}

static void kernel_body(member_t *me, args_t a) {
    mixer_forward(me, &a, HEADS, a.qkv, a.out, sliding_window_attention);
#ifndef VARLEN
    if (me->thread) return;
    for (int b = 0; b < BATCH; b++) /* which all heads have read by now */
        a.length_out[b] = MIN(PAST, a.length_in[b] + TIME);
#endif
}
#endif

#ifdef BACKWARD
typedef struct { /* of a block of queries */
    float d_out[QUERIES][HEAD_DIM], mean[QUERIES], top[QUERIES], inverse[QUERIES];
} incoming_t;

/* Of each query: dO, dO . o, and the stats that make probabilities of scores. */
INLINE void read_incoming(incoming_t *in, const queries_t *block, const float *out,
                          const float *d_out, const float *stats, int t0, int h) {
    UNROLL for (int r = 0; r < QUERIES; r++) {
        int t = t0 + MIN(r, block->count - 1);
        float use = r < block->count ? 1.f : 0.f; /* a repeated query has no gradient */
        vec product = 0.f;
        for (int i = 0; i < HEAD_DIM; i += LANES) {
            vec d = load(d_out + (long)t * D_MODEL + h * HEAD_DIM + i);
            product += d * load(out + (long)t * D_MODEL + h * HEAD_DIM + i);
            store(in->d_out[r] + i, d);
        }
        in->mean[r] = sum_lanes(product);
        in->top[r] = stats[2 * t];
        in->inverse[r] = stats[2 * t + 1] * use;
    }
}

/* All keys, rotated, as rows k and as columns, and values as columns. */
INLINE void read_slots(float *keys, float *values, float *k, const float *k_in, const float *v_in,
                       const float *qkv, const float *rope, int first, int h) {
    clear_columns(keys, first);
    clear_columns(values, first);
    for (int s = first; s < SLOTS; s++) {
        const float *v = slot_row(v_in, qkv, s, 2, h);
        float *ks = k + (long)s * HEAD_DIM;
        rotate(ks, slot_row(k_in, qkv, s, 1, h), rope + (long)s * HEAD_DIM, 1.f, 1.f);
        for (int d = 0; d < HEAD_DIM; d++) {
            keys[(long)d * SLOTS_PADDED + s] = ks[d];
            values[(long)d * SLOTS_PADDED + s] = v[d];
        }
    }
}

/* With p the probabilities and g = dO . v_j: ds = p (g - dO . o), dq = ds K, dK += ds q and
 * dV += p dO. */
NOINLINE void sliding_window_attention_backward(const args_t *a, int thread, long b, int h) {
    float *qkv = a->qkv + b * TIME * 3 * D_MODEL;
    const float *k_in = a->k_in + b * PAST * D_MODEL, *v_in = a->v_in + b * PAST * D_MODEL;
    const float *out = a->out + b * TIME * D_MODEL, *d_out = a->d_out + b * TIME * D_MODEL;
    const float *stats = a->stats + (b * HEADS + h) * TIME * 2, *rope = a->rope;
    float *private = a->private + (long)thread * BACKWARD_STRIDE;
    float *keys = private + PRIVATE_KEYS, *values = private + PRIVATE_VALUES;
    float *k = private + PRIVATE_K, *dk = private + PRIVATE_DK, *dv = private + PRIVATE_DV;
    float *p = private + PRIVATE_P, *ds = private + PRIVATE_DS;
    int first = PAST - a->length_in[b];
    read_slots(keys, values, k, k_in, v_in, qkv, rope, first, h);
    fill_zero(dk, HEAD_DIM * SLOTS);
    fill_zero(dv, HEAD_DIM * SLOTS);
    for (int t0 = 0; t0 < TIME; t0 += QUERIES) {
        queries_t block ALIGNED;
        incoming_t in ALIGNED;
        float dq[QUERIES][HEAD_DIM] ALIGNED;
        read_queries(&block, qkv, rope, first, t0, h, TIME);
        read_incoming(&in, &block, out, d_out, stats, t0, h);
        /* p and ds */
        for (int j = block.start; j <= block.high_all; j += LANES) {
            vec s[QUERIES], g[QUERIES];
            products(s, block.q, keys, j);
            products(g, in.d_out, values, j);
            UNROLL for (int r = 0; r < QUERIES; r++) {
                vec score = where_seen(&block, r, j, s[r], HIDDEN_SCORE);
                vec e = vexp(score - in.top[r]) * in.inverse[r];
                e = where_seen(&block, r, j, e, 0.f);
                store(p + r * SLOTS_PADDED + j, e);
                store(ds + r * SLOTS_PADDED + j, e * (g[r] - in.mean[r]));
            }
        }
        /* dq of the block; dk and dv of the slots that it sees */
        for (int i = 0; i < HEAD_DIM; i += LANES) {
            vec sum[QUERIES], q[QUERIES], d[QUERIES];
            UNROLL for (int r = 0; r < QUERIES; r++) {
                sum[r] = 0.f;
                q[r] = load(block.q[r] + i);
                d[r] = load(in.d_out[r] + i);
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
            rotate(qkv + (long)(t0 + r) * 3 * D_MODEL + h * HEAD_DIM, dq[r],
                   rope + (long)block.slot[r] * HEAD_DIM, SCALE, -1.f);
    }
    /* dk, rotated back, and dv to their slots */
    for (int s = 0; s < SLOTS; s++) {
        float *to_k = (float *)slot_row(a->d_k_in + b * PAST * D_MODEL, qkv, s, 1, h);
        float *to_v = (float *)slot_row(a->d_v_in + b * PAST * D_MODEL, qkv, s, 2, h);
        rotate(to_k, dk + (long)s * HEAD_DIM, rope + (long)s * HEAD_DIM, 1.f, -1.f);
        copy(to_v, dv + (long)s * HEAD_DIM, HEAD_DIM);
    }
}

static void kernel_body(member_t *me, args_t a) {
    mixer_backward(me, &a, HEADS, a.d_out, a.out, a.qkv, sliding_window_attention_backward);
}
#endif
