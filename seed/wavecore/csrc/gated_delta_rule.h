/* The recurrence of one head (the gated delta rule, Yang et al. 2412.06464), as in model.py:
 *     S_t = decay_t (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T        y_t = S_t^T q_t
 * in two steps:
 *     Sk_t = S_{t-1}^T k_t        u_t = beta_t (v_t - DELTA decay_t Sk_t)
 *     S_t = decay_t S_{t-1} + k_t u_t^T
 * DELTA = 0 leaves Mamba-2's diagonal transition (Dao & Gu 2405.21060).
 *
 * Shapes: S (D_STATE, HEAD_DIM); q, k (D_STATE); v, y, u, Sk (HEAD_DIM); qkv is all three in a
 * row. Sequential in t; a vector holds LANES columns of S. The backward pass needs S_{t-1}, Sk and
 * u of the step. */
#define STATE (D_STATE * HEAD_DIM)

/* One step of the recurrence, S to S_next (which may be S); Sk and u are written unless null. */
INLINE void gated_delta_rule(const float *S, float *S_next, const float *qkv, float decay,
                             float beta, float *y, float *Sk, float *u) {
    const float *q = qkv, *k = qkv + D_STATE, *v = qkv + 2 * D_STATE;
    for (int j = 0; j < HEAD_DIM; j += 2 * LANES) {
        int pair = j + LANES < HEAD_DIM; /* not for the last of an odd number of vectors */
        int j1 = pair ? j + LANES : j;
        /* Sk and u, of even and odd rows in turn so that their sums overlap */
        vec p0 = 0.f, p1 = 0.f, r0 = 0.f, r1 = 0.f;
        UNROLL for (int i = 0; i < D_STATE; i += 2) {
            const float *row = S + i * HEAD_DIM;
            p0 += k[i] * load(row + j);
            r0 += k[i + 1] * load(row + HEAD_DIM + j);
            if (pair) {
                p1 += k[i] * load(row + j1);
                r1 += k[i + 1] * load(row + HEAD_DIM + j1);
            }
        }
        p0 += r0;
        p1 += r1;
        vec u0 = beta * (load(v + j) - DELTA * decay * p0);
        vec u1 = beta * (load(v + j1) - DELTA * decay * p1);
        if (Sk) {
            store(Sk + j, p0);
            store(u + j, u0);
            if (pair) {
                store(Sk + j1, p1);
                store(u + j1, u1);
            }
        }
        /* S_next and y */
        vec y0 = 0.f, y1 = 0.f;
        UNROLL for (int i = 0; i < D_STATE; i++) {
            vec s0 = decay * load(S + i * HEAD_DIM + j) + k[i] * u0;
            store(S_next + i * HEAD_DIM + j, s0);
            y0 += q[i] * s0;
            if (pair) {
                vec s1 = decay * load(S + i * HEAD_DIM + j1) + k[i] * u1;
                store(S_next + i * HEAD_DIM + j1, s1);
                y1 += q[i] * s1;
            }
        }
        store(y + j, y0);
        if (pair) store(y + j1, y1);
    }
}

#ifdef BACKWARD
/* Columns of S that the sums over a row take together: as many as keep eight sums in registers.
 * Both widths add in the same order. */
#ifdef __AVX512F__
#define PARTS 1
#define LOAD_PART load
#define STORE_PART store
typedef vec part_t;
INLINE vec8 fold(const part_t *sum) { return sum[0].lo + sum[0].hi; }
#else
#define PARTS 2
#define LOAD_PART load8
#define STORE_PART store8
typedef vec8 part_t;
INLINE vec8 fold(const part_t *sum) { return sum[0] + sum[1]; }
#endif
#define PART (LANES / PARTS)

/* dq and dk of four rows, without the part of dq that goes through u, and their rows of dS. */
INLINE void rows_backward(float *restrict dS, const float *S, const float *dy, const float *u,
                          const float *dSk, const float *k, float decay, vec4 *dq4, vec4 *dk4) {
    part_t dq[4][PARTS], dk[4][PARTS];
    UNROLL for (int part = 0; part < PARTS; part++) {
        UNROLL for (int r = 0; r < 4; r++) dq[r][part] = dk[r][part] = 0.f;
        UNROLL for (int j = part * PART; j < HEAD_DIM; j += LANES) {
            part_t dyj = LOAD_PART(dy + j), uj = LOAD_PART(u + j), dSkj = LOAD_PART(dSk + j);
            UNROLL for (int r = 0; r < 4; r++) {
                float *d = dS + r * HEAD_DIM + j;
                part_t s = LOAD_PART(S + r * HEAD_DIM + j), dSj = LOAD_PART(d);
                dq[r][part] += s * dyj;
                dk[r][part] += dSj * uj;
                dk[r][part] += s * dSkj;
                STORE_PART(d, decay * dSj + k[r] * dSkj);
            }
        }
    }
    *dq4 = decay * sum_lanes4(fold(dq[0]), fold(dq[1]), fold(dq[2]), fold(dq[3]));
    *dk4 = sum_lanes4(fold(dk[0]), fold(dk[1]), fold(dk[2]), fold(dk[3]));
}

/* dS, in: dL/dS_t from later steps; out: dL/dS_{t-1}. Returns v . dv, of which the gradient of the
 * decay is made (ssm.c).
 *     dS += q dy^T;  du = dS^T k;  dSk = -DELTA beta decay du;  dS_{t-1} = decay dS + k dSk^T
 *     dq = S_t dy = decay S_{t-1} dy + k (u . dy);  dk = dS u + S_{t-1} dSk;  dv = beta du */
INLINE float gated_delta_rule_backward(float *dS, const float *S, const float *qkv, const float *Sk,
                                       const float *u, const float *dy, float decay, float beta,
                                       float *d_qkv, float *d_beta) {
    const float *q = qkv, *k = qkv + D_STATE, *v = qkv + 2 * D_STATE;
    float dSk[HEAD_DIM] ALIGNED;
    /* dS += q dy^T, du, dSk, dv */
    vec v_dv = 0.f, dbeta = 0.f, u_dy = 0.f;
    for (int j = 0; j < HEAD_DIM; j += LANES) {
        vec dyj = load(dy + j), vj = load(v + j), du = 0.f, du_odd = 0.f;
        UNROLL for (int i = 0; i < D_STATE; i += 2) {
            float *row = dS + i * HEAD_DIM + j;
            vec even = load(row) + q[i] * dyj, odd = load(row + HEAD_DIM) + q[i + 1] * dyj;
            store(row, even);
            store(row + HEAD_DIM, odd);
            du += k[i] * even;
            du_odd += k[i + 1] * odd;
        }
        du += du_odd;
        vec dv = beta * du;
        store(dSk + j, -DELTA * decay * dv);
        store(d_qkv + 2 * D_STATE + j, dv);
        u_dy += load(u + j) * dyj;
        v_dv += vj * dv;
        dbeta += du * (vj - DELTA * decay * load(Sk + j));
    }
    *d_beta = sum_lanes(dbeta);
    /* dq, dk, and dS of the step before */
    float u_dot_dy = sum_lanes(u_dy);
    for (int i = 0; i < D_STATE; i += 4) {
        vec4 dq4, dk4;
        rows_backward(dS + i * HEAD_DIM, S + i * HEAD_DIM, dy, u, dSk, k + i, decay, &dq4, &dk4);
        store4(d_qkv + i, dq4 + load4(k + i) * u_dot_dy);
        store4(d_qkv + D_STATE + i, dk4);
    }
    return sum_lanes(v_dv);
}
#endif
