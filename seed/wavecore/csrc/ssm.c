/* The SSM mixer with its residual: y = x + out_proj(gated_norm(scan(conv(in_proj(norm(x)))))).
 *
 * Per head, with q, k, v after a causal depthwise convolution and SiLU, q and k of unit length:
 *     Sk_t = S_{t-1}^T k_t        u_t = beta_t (v_t - DELTA a_t Sk_t)
 *     S_t = a_t S_{t-1} + k_t u_t^T        y_t = S_t^T q_t
 * which is S_t = a_t S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T of the gated delta rule (Yang et
 * al. 2412.06464, eq. 10), transposed: S is held as (D_STATE, HEAD_DIM) so that a row is contiguous.
 * DELTA = 0 leaves Mamba-2's diagonal transition (Dao & Gu 2405.21060).
 * beta_t = BETA_MAX times a sigmoid stretched by a tenth and cut to 0..1: at 2 it reflects along k_t and
 * keeps the state's length, however long the text; a plain sigmoid comes near, and what is missing grows
 * with every byte. Its derivative is that without the cut.
 *
 * Shapes: x, y (ROWS, D_MODEL); proj (ROWS, PROJ), of which head h owns the columns q k v z from
 * h * HEAD_PROJ and one beta and one dt column behind all heads; conv state (BATCH, D_CONV-1, HEADS,
 * CHANNELS) before the convolution; ssm state (BATCH, HEADS, D_STATE, HEAD_DIM).
 * Parallel over row tiles for the projections and over (batch, head) for the scan.
 * Saved for the backward pass: proj, the gated output o, and the state at every CHUNK-th step; the
 * steps between are computed again. */
#define CHANNELS (2 * D_STATE + HEAD_DIM) /* q, k, v of one head pass the convolution */
#define HEAD_PROJ (CHANNELS + HEAD_DIM)   /* q, k, v, z */
#define BETA_COLUMN (HEADS * HEAD_PROJ)
#define DT_COLUMN (BETA_COLUMN + HEADS)
#define STATE (D_STATE * HEAD_DIM)
#define CHUNK 16
#define CHUNKS ((TIME + CHUNK - 1) / CHUNK)
#define PAST (D_CONV - 1)
#define UNIT_EPS 1e-6f
#define STRETCH 1.1f /* of the sigmoid that beta_t is; what goes beyond 0 and 1 is cut */

typedef struct {
    float beta[TIME_PADDED], decay[TIME_PADDED]; /* beta_t and a_t */
    float beta_slope[TIME_PADDED];               /* derivative of beta_t, as if it were not cut */
    float rate[TIME_PADDED], slope[TIME_PADDED]; /* softplus(dt + dt_bias) and its derivative */
    float d_beta[TIME_PADDED], d_decay[TIME_PADDED];
} gates_t;

/* Everything of one chunk that does not depend on the state. */
typedef struct {
    float raw[PAST + CHUNK][CHANNELS];  /* before the convolution, with the rows that precede the chunk */
    float conv[CHUNK][CHANNELS], gate[CHUNK][CHANNELS]; /* after it, and its sigmoid */
    float qkv[CHUNK][CHANNELS];         /* after SiLU; q and k of unit length */
    float q_inverse[CHUNK], k_inverse[CHUNK]; /* the factors that made them so */
} chunk_t;

INLINE void read_gates(gates_t *g, const float *proj, const float *w, int h) {
    for (int t = 0; t < TIME_PADDED; t++) {
        g->beta[t] = t < TIME ? proj[(long)t * PROJ + BETA_COLUMN + h] : 0.f;
        g->decay[t] = t < TIME ? proj[(long)t * PROJ + DT_COLUMN + h] : 0.f;
    }
    float A = exp1(w[W_A_LOG + h]), bias = w[W_DT_BIAS + h];
    for (int t = 0; t < TIME_PADDED; t += LANES) {
        vec dt = load(g->decay + t) + bias, rate = softplus(dt);
        vec share = sigmoid(load(g->beta + t)), open = STRETCH * share - 0.5f * (STRETCH - 1.f);
        open = open < 0.f ? (vec)0.f : open;   /* what is not a number stays so */
        store(g->beta + t, BETA_MAX * (open > 1.f ? (vec)1.f : open));
        store(g->beta_slope + t, BETA_MAX * STRETCH * share * (1.f - share));
        store(g->rate + t, rate);
        store(g->slope + t, sigmoid(dt));
        store(g->decay + t, vexp(-rate * A));
    }
}

/* Row t of the convolution's input; rows before the first come from the carried state. */
INLINE const float *raw_row(const float *proj, const float *conv_in, int t, int h) {
    return t >= 0 ? proj + (long)t * PROJ + h * HEAD_PROJ
                  : conv_in + ((long)(PAST + t) * HEADS + h) * CHANNELS;
}

INLINE float normalize(float *v, int n) {
    vec q = 0.f;
    for (int j = 0; j < n; j += LANES) q += load(v + j) * load(v + j);
    float inverse = 1.f / root(sum_lanes(q) + UNIT_EPS);
    for (int j = 0; j < n; j += LANES) store(v + j, load(v + j) * inverse);
    return inverse;
}

NOINLINE void read_chunk(chunk_t *c, const float *proj, const float *conv_in, const float *w, int h, int t0,
                         int len) {
    for (int i = 0; i < PAST + len; i++) {
        const float *row = raw_row(proj, conv_in, t0 - PAST + i, h);
        for (int j = 0; j < CHANNELS; j += LANES) store(c->raw[i] + j, load(row + j));
    }
    const float *weight = w + W_CONV1D + h * CHANNELS;
    for (int l = 0; l < len; l++) {
        for (int j = 0; j < CHANNELS; j += LANES) {
            vec s = 0.f;
            UNROLL for (int i = 0; i < D_CONV; i++)
                s += load(weight + (long)i * HEADS * CHANNELS + j) * load(c->raw[l + i] + j);
            vec gate = sigmoid(s);
            store(c->conv[l] + j, s);
            store(c->gate[l] + j, gate);
            store(c->qkv[l] + j, s * gate);
        }
        c->q_inverse[l] = normalize(c->qkv[l], D_STATE);
        c->k_inverse[l] = normalize(c->qkv[l] + D_STATE, D_STATE);
    }
}

/* One step of the recurrence, S to S_next (which may be S); Sk and u are kept when the pointers are set. */
INLINE void recur(const float *S, float *S_next, const float *qkv, float a, float beta, float *y, float *Sk,
                  float *u) {
    const float *q = qkv, *k = qkv + D_STATE, *v = qkv + 2 * D_STATE;
    for (int j = 0; j < HEAD_DIM; j += 2 * LANES) {
        int two = j + LANES < HEAD_DIM; /* HEAD_DIM may be an odd number of vectors */
        int j1 = two ? j + LANES : j;
        vec p0 = 0.f, p1 = 0.f, r0 = 0.f, r1 = 0.f;
        UNROLL for (int i = 0; i < D_STATE; i += 2) {
            const float *row = S + i * HEAD_DIM;
            p0 += k[i] * load(row + j);
            r0 += k[i + 1] * load(row + HEAD_DIM + j);
            if (two) {
                p1 += k[i] * load(row + j1);
                r1 += k[i + 1] * load(row + HEAD_DIM + j1);
            }
        }
        p0 += r0;
        p1 += r1;
        vec u0 = beta * (load(v + j) - DELTA * a * p0), u1 = beta * (load(v + j1) - DELTA * a * p1);
        if (Sk) {
            store(Sk + j, p0);
            store(u + j, u0);
            if (two) {
                store(Sk + j1, p1);
                store(u + j1, u1);
            }
        }
        vec y0 = 0.f, y1 = 0.f;
        UNROLL for (int i = 0; i < D_STATE; i++) {
            vec s0 = a * load(S + i * HEAD_DIM + j) + k[i] * u0;
            store(S_next + i * HEAD_DIM + j, s0);
            y0 += q[i] * s0;
            if (two) {
                vec s1 = a * load(S + i * HEAD_DIM + j1) + k[i] * u1;
                store(S_next + i * HEAD_DIM + j1, s1);
                y1 += q[i] * s1;
            }
        }
        store(y + j, y0);
        if (two) store(y + j1, y1);
    }
}

INLINE float output_inverse_rms(const float *y) {
    vec q = 0.f;
    for (int j = 0; j < HEAD_DIM; j += LANES) q += load(y + j) * load(y + j);
    return 1.f / root(sum_lanes(q) * (1.f / HEAD_DIM) + OUT_NORM_EPS);
}

#ifdef FORWARD
NOINLINE void scan(const float *proj, float *o, float *checkpoints, const float *w, const float *conv_in,
                   const float *ssm_in, float *conv_out, float *ssm_out, gates_t *gates, int h) {
    float S[STATE] ALIGNED, y[CHUNK][HEAD_DIM] ALIGNED;
    chunk_t chunk ALIGNED;
    read_gates(gates, proj, w, h);
    copy(S, ssm_in, STATE);
    for (int t0 = 0; t0 < TIME; t0 += CHUNK) {
        int len = MIN(CHUNK, TIME - t0);
        copy(checkpoints + (long)(t0 / CHUNK) * STATE, S, STATE);
        read_chunk(&chunk, proj, conv_in, w, h, t0, len);
        for (int l = 0; l < len; l++)
            recur(S, S, chunk.qkv[l], gates->decay[t0 + l], gates->beta[t0 + l], y[l], 0, 0);
        for (int l = 0; l < len; l++) {
            const float *z = proj + (long)(t0 + l) * PROJ + h * HEAD_PROJ + CHANNELS;
            float *out = o + (long)(t0 + l) * D_INNER + h * HEAD_DIM, r = output_inverse_rms(y[l]);
            for (int j = 0; j < HEAD_DIM; j += LANES) {
                vec zv = load(z + j);
                store(out + j, load(y[l] + j) * r * load(w + W_OUT_NORM + j) * zv * sigmoid(zv));
            }
        }
    }
    copy(ssm_out, S, STATE);
    for (int i = 0; i < PAST; i++)
        copy(conv_out + ((long)i * HEADS + h) * CHANNELS, raw_row(proj, conv_in, TIME - PAST + i, h), CHANNELS);
}

static void kernel_body(team_t *team, int thread) {
    float *y = team->args[0], *conv_out = team->args[1], *ssm_out = team->args[2], *save = team->args[3];
    float *scratch = team->args[4];
    const float *x = team->args[5], *w = team->args[6], *conv_in = team->args[7], *ssm_in = team->args[8];
    float *proj = save + SAVE_PROJ, *o = save + SAVE_OUT, *checkpoints = save + SAVE_STATES;
    float *in_panels = scratch + SCRATCH_IN_PANELS, *out_panels = scratch + SCRATCH_OUT_PANELS;
    gates_t *gates = (gates_t *)(scratch + SCRATCH_PRIVATE + (long)thread * SCRATCH_PRIVATE_STRIDE);

    FOR_TILES(j, 0, PROJ / LANES + D_MODEL / LANES) {
        int i = j - PROJ / LANES;
        if (i < 0) pack_panel(in_panels + (long)j * LANES * D_MODEL, w + W_IN_PROJ + (long)j * LANES * D_MODEL,
                              D_MODEL, 1, D_MODEL);
        else pack_panel(out_panels + (long)i * LANES * D_INNER, w + W_OUT_PROJ + (long)i * LANES * D_INNER,
                        D_INNER, 1, D_INNER);
    }
    barrier(team);
    FOR_TILES(tile, 1, ROW_TILES) {
        int r0 = tile * ROW_TILE, rows = MIN(ROW_TILE, ROWS - r0);
        float xn[ROW_TILE * D_MODEL] ALIGNED;
        norm_rows(xn, x + (long)r0 * D_MODEL, w + W_NORM, rows);
        matmul(proj + (long)r0 * PROJ, PROJ, xn, D_MODEL, rows, in_panels, PROJ, D_MODEL, 0);
    }
    barrier(team);
    FOR_TILES(i, 2, BATCH * HEADS) {
        long b = i / HEADS, h = i % HEADS, past = b * PAST * HEADS * CHANNELS;
        scan(proj + b * TIME * PROJ, o + b * TIME * D_INNER, checkpoints + (long)i * CHUNKS * STATE, w,
             conv_in + past, ssm_in + (long)i * STATE, conv_out + past, ssm_out + (long)i * STATE, gates, h);
    }
    barrier(team);
    FOR_TILES(tile, 3, ROW_TILES) {
        int r0 = tile * ROW_TILE, rows = MIN(ROW_TILE, ROWS - r0);
        copy(y + (long)r0 * D_MODEL, x + (long)r0 * D_MODEL, (long)rows * D_MODEL);
        matmul(y + (long)r0 * D_MODEL, D_MODEL, o + (long)r0 * D_INNER, D_INNER, rows, out_panels, D_MODEL,
               D_INNER, 1);
    }
}

void KERNEL(float *y, float *conv_out, float *ssm_out, float *save, float *scratch, float *x, float *w,
            float *conv_in, float *ssm_in) {
    void *args[] = {y, conv_out, ssm_out, save, scratch, x, w, conv_in, ssm_in};
    run_team(args);
}
#endif

#ifdef BACKWARD
/* Partial gradients of one (batch, head): conv1d, out_norm, A_log, dt_bias. */
#define PART_OUT_NORM (D_CONV * CHANNELS)
#define PART_A_LOG (PART_OUT_NORM + HEAD_DIM)
#define PART_DT_BIAS (PART_A_LOG + 1)
#define PARTS ROUND_UP(PART_DT_BIAS + 1, LANES)

/* dS arrives as the gradient of S_t from the future and leaves as that of S_{t-1}.
 *     dS += q dy^T;  du = dS^T k;  dSk = -DELTA beta a du;  dS_{t-1} = a dS + k dSk^T
 *     dq = S_t dy = a S_{t-1} dy + k (u . dy);  dk = dS u + S_{t-1} dSk;  dv = beta du */
INLINE void recur_backward(float *dS, const float *S, const float *qkv, const float *Sk, const float *u,
                           const float *dy, float a, float beta, float *d_qkv, float *d_a, float *d_beta) {
    const float *q = qkv, *k = qkv + D_STATE, *v = qkv + 2 * D_STATE;
    float dSk[HEAD_DIM] ALIGNED;
    vec da = 0.f, dbeta = 0.f, u_dy = 0.f;
    for (int j = 0; j < HEAD_DIM; j += LANES) {
        vec dyj = load(dy + j), du = 0.f, du_odd = 0.f;
        UNROLL for (int i = 0; i < D_STATE; i += 2) {
            float *row = dS + i * HEAD_DIM + j;
            vec even = load(row) + q[i] * dyj, odd = load(row + HEAD_DIM) + q[i + 1] * dyj;
            store(row, even);
            store(row + HEAD_DIM, odd);
            du += k[i] * even;
            du_odd += k[i + 1] * odd;
        }
        du += du_odd;
        store(dSk + j, -DELTA * beta * a * du);
        store(d_qkv + 2 * D_STATE + j, beta * du);
        u_dy += load(u + j) * dyj;
        da += du * load(Sk + j);
        dbeta += du * (load(v + j) - DELTA * a * load(Sk + j));
    }
    float u_dot_dy = sum_lanes(u_dy);
    vec8 dS_S = 0.f;
    for (int i = 0; i < D_STATE; i += 4) {
        vec8 dq[4], dk[4];
        UNROLL for (int r = 0; r < 4; r++) {
            dq[r] = 0.f;
            dk[r] = 0.f;
            UNROLL for (int j = 0; j < HEAD_DIM; j += 8) {
                float *d = dS + (i + r) * HEAD_DIM + j;
                vec8 s = load8(S + (i + r) * HEAD_DIM + j), dSj = load8(d), dSkj = load8(dSk + j);
                dq[r] += s * load8(dy + j);
                dk[r] += dSj * load8(u + j);
                dk[r] += s * dSkj;
                dS_S += dSj * s;
                store8(d, a * dSj + k[i + r] * dSkj);
            }
        }
        vec4 dq4 = sum_lanes4(dq[0], dq[1], dq[2], dq[3]), dk4 = sum_lanes4(dk[0], dk[1], dk[2], dk[3]);
        for (int r = 0; r < 4; r++) {
            d_qkv[i + r] = a * dq4[r] + k[i + r] * u_dot_dy;
            d_qkv[D_STATE + i + r] = dk4[r];
        }
    }
    vec4 s4 = dS_S.lo + dS_S.hi;
    *d_a = (s4.x + s4.y) + (s4.z + s4.w) - DELTA * beta * sum_lanes(da);
    *d_beta = sum_lanes(dbeta);
}

/* y to dy in place through y * r * gain * silu(z), with dz written and the gain's gradient added. */
INLINE void gated_norm_backward(float *y, const float *z, const float *d_out, const float *gain, float *dz,
                                float *d_gain) {
    float r = output_inverse_rms(y);
    vec dot = 0.f;
    for (int j = 0; j < HEAD_DIM; j += LANES) {
        vec zv = load(z + j), s = sigmoid(zv), silu = zv * s, unit = load(y + j) * r, g = load(gain + j);
        vec d = load(d_out + j);
        store(dz + j, d * unit * g * (s + silu * (1.f - s)));
        store(d_gain + j, load(d_gain + j) + d * silu * unit);
        dot += d * silu * g * unit;
    }
    float mean = sum_lanes(dot) * (1.f / HEAD_DIM);
    for (int j = 0; j < HEAD_DIM; j += LANES) {
        vec zv = load(z + j), unit = load(y + j) * r;
        store(y + j, r * (load(d_out + j) * zv * sigmoid(zv) * load(gain + j) - unit * mean));
    }
}

/* d of a unit vector to d of the vector it was made from: inverse (d - unit (unit . d)). */
INLINE void normalize_backward(float *d, const float *unit, float inverse, int n) {
    vec dot = 0.f;
    for (int j = 0; j < n; j += LANES) dot += load(d + j) * load(unit + j);
    float s = sum_lanes(dot);
    for (int j = 0; j < n; j += LANES) store(d + j, inverse * (load(d + j) - load(unit + j) * s));
}

/* d_qkv, in place, becomes the gradient of the convolution's output. */
INLINE void activation_backward(float *d_qkv, const chunk_t *c, int l) {
    normalize_backward(d_qkv, c->qkv[l], c->q_inverse[l], D_STATE);
    normalize_backward(d_qkv + D_STATE, c->qkv[l] + D_STATE, c->k_inverse[l], D_STATE);
    for (int j = 0; j < CHANNELS; j += LANES) {
        vec x = load(c->conv[l] + j), s = load(c->gate[l] + j);
        store(d_qkv + j, load(d_qkv + j) * (s + x * s * (1.f - s)));
    }
}

NOINLINE void scan_backward(const float *proj, const float *d_out, const float *checkpoints, const float *w,
                            const float *conv_in, float *d_proj, float *d_conv_in, float *d_ssm_in, float *part,
                            gates_t *g, int h) {
    float S[CHUNK + 1][STATE] ALIGNED, dS[STATE] ALIGNED;
    float y[CHUNK][HEAD_DIM] ALIGNED, Sk[CHUNK][HEAD_DIM] ALIGNED, u[CHUNK][HEAD_DIM] ALIGNED;
    float d_conv[CHUNK + PAST][CHANNELS] ALIGNED; /* with the first rows of the later chunk behind */
    chunk_t chunk ALIGNED;
    const float *weight = w + W_CONV1D + h * CHANNELS;
    read_gates(g, proj, w, h);
    fill_zero(g->d_beta, TIME_PADDED);
    fill_zero(g->d_decay, TIME_PADDED);
    fill_zero(part, PARTS);
    fill_zero(dS, STATE);
    fill_zero(d_conv[0], (CHUNK + PAST) * CHANNELS);

    for (int t0 = (CHUNKS - 1) * CHUNK; t0 >= 0; t0 -= CHUNK) {
        int len = MIN(CHUNK, TIME - t0);
        for (int i = PAST - 1; i >= 0; i--) copy(d_conv[len + i], d_conv[i], CHANNELS);
        read_chunk(&chunk, proj, conv_in, w, h, t0, len);
        copy(S[0], checkpoints + (long)(t0 / CHUNK) * STATE, STATE);
        for (int l = 0; l < len; l++)
            recur(S[l], S[l + 1], chunk.qkv[l], g->decay[t0 + l], g->beta[t0 + l], y[l], Sk[l], u[l]);
        for (int l = 0; l < len; l++) {
            long z = (long)(t0 + l) * PROJ + h * HEAD_PROJ + CHANNELS;
            gated_norm_backward(y[l], proj + z, d_out + (long)(t0 + l) * D_INNER + h * HEAD_DIM,
                                w + W_OUT_NORM, d_proj + z, part + PART_OUT_NORM);
        }
        for (int l = len - 1; l >= 0; l--)
            recur_backward(dS, S[l], chunk.qkv[l], Sk[l], u[l], y[l], g->decay[t0 + l], g->beta[t0 + l],
                           d_conv[l], &g->d_decay[t0 + l], &g->d_beta[t0 + l]);
        for (int l = 0; l < len; l++) activation_backward(d_conv[l], &chunk, l);
        for (int j = 0; j < CHANNELS; j += LANES) {
            vec dw[D_CONV];
            UNROLL for (int i = 0; i < D_CONV; i++) dw[i] = load(part + i * CHANNELS + j);
            for (int l = 0; l < len; l++) {
                vec d = load(d_conv[l] + j), dx = 0.f;
                UNROLL for (int i = 0; i < D_CONV; i++) {
                    dw[i] += d * load(chunk.raw[l + i] + j);
                    dx += load(weight + (long)(PAST - i) * HEADS * CHANNELS + j) * load(d_conv[l + i] + j);
                }
                store(d_proj + (long)(t0 + l) * PROJ + h * HEAD_PROJ + j, dx);
            }
            UNROLL for (int i = 0; i < D_CONV; i++) store(part + i * CHANNELS + j, dw[i]);
        }
    }
    copy(d_ssm_in, dS, STATE);
    for (int r = 0; r < PAST; r++) /* row r precedes the first step by PAST - r steps */
        for (int j = 0; j < CHANNELS; j += LANES) {
            vec dx = 0.f;
            for (int i = PAST - r; i < D_CONV; i++)
                if (i - (PAST - r) < TIME)
                    dx += load(weight + (long)(PAST - i) * HEADS * CHANNELS + j) * load(d_conv[i - (PAST - r)] + j);
            store(d_conv_in + ((long)r * HEADS + h) * CHANNELS + j, dx);
        }

    float A = exp1(w[W_A_LOG + h]);
    vec d_A_log = 0.f, d_dt_bias = 0.f;
    for (int t = 0; t < TIME_PADDED; t += LANES) {
        vec d_rate = -load(g->d_decay + t) * load(g->decay + t) * A;
        store(g->d_beta + t, load(g->d_beta + t) * load(g->beta_slope + t));
        d_A_log += d_rate * load(g->rate + t);
        d_rate *= load(g->slope + t);
        d_dt_bias += d_rate;
        store(g->d_decay + t, d_rate);
    }
    part[PART_A_LOG] = sum_lanes(d_A_log);
    part[PART_DT_BIAS] = sum_lanes(d_dt_bias);
    for (int t = 0; t < TIME; t++) {
        d_proj[(long)t * PROJ + BETA_COLUMN + h] = g->d_beta[t];
        d_proj[(long)t * PROJ + DT_COLUMN + h] = g->d_decay[t];
        if (h == 0) /* the padding columns are read by the products below */
            fill_zero(d_proj + (long)t * PROJ + DT_COLUMN + HEADS, PROJ - DT_COLUMN - HEADS);
    }
}

static void kernel_body(team_t *team, int thread) {
    float *dx = team->args[0], *dw = team->args[1], *d_conv_in = team->args[2], *d_ssm_in = team->args[3];
    float *scratch = team->args[4];
    const float *dy = team->args[5], *x = team->args[6], *w = team->args[7], *conv_in = team->args[8];
    const float *save = team->args[9];
    const float *proj = save + SAVE_PROJ, *o = save + SAVE_OUT, *checkpoints = save + SAVE_STATES;
    float *out_panels = scratch + SCRATCH_OUT_PANELS, *in_panels = scratch + SCRATCH_IN_PANELS;
    float *d_out = scratch + SCRATCH_D_OUT, *d_proj = scratch + SCRATCH_D_PROJ;
    float *o_panels = scratch + SCRATCH_O_PANELS, *xn_panels = scratch + SCRATCH_XN_PANELS;
    float *d_gain = scratch + SCRATCH_D_GAIN, *parts = scratch + SCRATCH_PARTS;
    gates_t *gates = (gates_t *)(scratch + SCRATCH_PRIVATE + (long)thread * SCRATCH_PRIVATE_STRIDE);

    FOR_TILES(j, 0, D_INNER / LANES + D_MODEL / LANES) {
        int i = j - D_INNER / LANES;
        if (i < 0) pack_panel(out_panels + (long)j * LANES * D_MODEL, w + W_OUT_PROJ + j * LANES, D_MODEL,
                              D_INNER, 1);
        else pack_panel(in_panels + (long)i * LANES * PROJ, w + W_IN_PROJ + i * LANES, PROJ, D_MODEL, 1);
    }
    barrier(team);
    FOR_TILES(tile, 1, ROW_TILES) {
        int r0 = tile * ROW_TILE, rows = MIN(ROW_TILE, ROWS - r0);
        matmul(d_out + (long)r0 * D_INNER, D_INNER, dy + (long)r0 * D_MODEL, D_MODEL, rows, out_panels, D_INNER,
               D_MODEL, 0);
        to_panels(o_panels, o + (long)r0 * D_INNER, D_INNER, ROWS, r0, rows);
    }
    barrier(team);
    FOR_TILES(i, 2, BATCH * HEADS) {
        long b = i / HEADS, h = i % HEADS, past = b * PAST * HEADS * CHANNELS;
        scan_backward(proj + b * TIME * PROJ, d_out + b * TIME * D_INNER, checkpoints + (long)i * CHUNKS * STATE,
                      w, conv_in + past, d_proj + b * TIME * PROJ, d_conv_in + past, d_ssm_in + (long)i * STATE,
                      parts + (long)i * PARTS, gates, h);
    }
    barrier(team);
    FOR_TILES(tile, 3, ROW_TILES) {
        int r0 = tile * ROW_TILE, rows = MIN(ROW_TILE, ROWS - r0);
        float dxn[ROW_TILE * D_MODEL] ALIGNED;
        matmul(dxn, D_MODEL, d_proj + (long)r0 * PROJ, PROJ, rows, in_panels, D_MODEL, PROJ, 0);
        norm_backward_rows(dx, dy, dxn, x, w + W_NORM, xn_panels, d_gain + (long)tile * D_MODEL, r0, rows);
    }
    barrier(team);
    int in_tiles = WEIGHT_TILES(PROJ), out_tiles = WEIGHT_TILES(D_MODEL);
    FOR_TILES(tile, 4, in_tiles + out_tiles + 1) {
        int i = tile - in_tiles;
        if (i < 0) {
            int r0 = tile * WEIGHT_TILE, rows = MIN(WEIGHT_TILE, PROJ - r0);
            matmul_transposed(dw + W_IN_PROJ + (long)r0 * D_MODEL, D_MODEL, d_proj + r0, PROJ, rows, xn_panels,
                              D_MODEL, ROWS);
        } else if (i < out_tiles) {
            int r0 = i * WEIGHT_TILE, rows = MIN(WEIGHT_TILE, D_MODEL - r0);
            matmul_transposed(dw + W_OUT_PROJ + (long)r0 * D_INNER, D_INNER, dy + r0, D_MODEL, rows, o_panels,
                              D_INNER, ROWS);
        } else {
            sum_partials(dw + W_NORM, d_gain, D_MODEL, D_MODEL, ROW_TILES);
            for (int h = 0; h < HEADS; h++) {
                const float *part = parts + (long)h * PARTS;
                long stride = (long)HEADS * PARTS;
                for (int i = 0; i < D_CONV; i++)
                    sum_partials(dw + W_CONV1D + ((long)i * HEADS + h) * CHANNELS, part + i * CHANNELS, CHANNELS,
                                 stride, BATCH);
                sum_partials(dw + W_A_LOG + h, part + PART_A_LOG, 1, stride, BATCH);
                sum_partials(dw + W_DT_BIAS + h, part + PART_DT_BIAS, 1, stride, BATCH);
            }
            sum_partials(dw + W_OUT_NORM, parts + PART_OUT_NORM, HEAD_DIM, PARTS, BATCH * HEADS);
            fill_zero(dw + W_A_LOG + HEADS, ROUND_UP(HEADS, LANES) - HEADS);
            fill_zero(dw + W_DT_BIAS + HEADS, ROUND_UP(HEADS, LANES) - HEADS);
        }
    }
}

void KERNEL(float *dx, float *dw, float *d_conv_in, float *d_ssm_in, float *scratch, float *dy, float *x,
            float *w, float *conv_in, float *save) {
    void *args[] = {dx, dw, d_conv_in, d_ssm_in, scratch, dy, x, w, conv_in, save};
    run_team(args);
}
#endif
