/* The SSM mixer with its residual: y = x + out_proj(gated_norm(scan(conv(in_proj(rms_norm(x)))))).
 *
 * Per head, with q, k, v after a causal depthwise convolution and SiLU, q and k of norm 1, the
 * scan is gated_delta_rule.h, with the gates
 *     decay_t = exp(-exp(A_log) softplus(dt_t + dt_bias))    beta_t = BETA_MAX rectified_sigmoid(.)
 * where the sigmoid is stretched to SIGMOID_STRETCH about 1/2 and clipped to 0..1. At beta_t = 2 a
 * step reflects along k_t and preserves the state's norm; a sigmoid only approaches 2, and the
 * error grows with every byte. The derivative ignores the clipping. With ROTARY_STEPS the state
 * turns (rotary.h), and beta's projection gets beta_bias.
 *
 * Shapes: x, y (ROWS, D_MODEL); proj (ROWS, IN_WIDTH), of which head h owns the columns q k v z
 * from h * HEAD_PROJ, one beta and one dt column behind all heads, and PAIRS of turns behind those;
 * conv state (BATCH, PAST, HEADS, CHANNELS) before the convolution, where CHANNELS are q, k, v; ssm
 * state (BATCH, HEADS, D_STATE, HEAD_DIM); phase (BATCH, HEADS, PAIRS). Parallel over row tiles for
 * the projections and over (batch, head) for the scan.
 * Saved for the backward pass: proj and the state at every CHUNK-th step after the first; the steps
 * between and the gated output `out` are computed again. There, `out` takes the place of its
 * gradient d_out, and d_proj that of proj, from the last chunk to the first. Sums are made LANES
 * steps at a time, so the length of a chunk changes no bit. */
#include "projection.h"
#include "gated_delta_rule.h"
#define BETA_COLUMN (HEADS * HEAD_PROJ)
#define DT_COLUMN (BETA_COLUMN + HEADS)
#if ROTARY_STEPS
#include "rotary.h"
#endif

/* Of one head at every step; rate = softplus(dt + dt_bias). The slopes are the derivatives of
 * beta, before clipping, and of rate. */
typedef struct { float GATE_ARRAYS; } gates_t;

/* Everything of one chunk that does not depend on the state. */
typedef struct {
    float raw[PAST + CHUNK][CHANNELS]; /* before the convolution, with the rows before the chunk */
    float conv[CHUNK][CHANNELS], gate[CHUNK][CHANNELS]; /* after it, and its sigmoid */
    float qkv[CHUNK][CHANNELS];        /* after SiLU; q and k of unit norm */
    float q_inverse[CHUNK], k_inverse[CHUNK]; /* 1/norm of q and k */
#if ROTARY_STEPS
    float cos[CHUNK][PAIRS], sin[CHUNK][PAIRS]; /* of the phases, which turn q and k back */
#endif
} chunk_t;

INLINE vec rectified_sigmoid(vec x) {
    vec stretched = SIGMOID_STRETCH * sigmoid(x) - 0.5f * (SIGMOID_STRETCH - 1.f);
    stretched = stretched < 0.f ? (vec)0.f : stretched; /* NaN propagates */
    return stretched > 1.f ? (vec)1.f : stretched;
}

INLINE void read_gates(gates_t *g, const args_t *a, const float *proj, int h, int time) {
    int padded = ROUND_UP(time, LANES);
    for (int t = 0; t < padded; t++) {
        g->beta[t] = t < time ? proj[(long)t * IN_WIDTH + BETA_COLUMN + h] : 0.f;
        g->decay[t] = t < time ? proj[(long)t * IN_WIDTH + DT_COLUMN + h] : 0.f;
    }
    float A = exp1(a->A_log[h]), bias = a->dt_bias[h];
    for (int t = 0; t < padded; t += LANES) {
        vec dt = load(g->decay + t) + bias, rate = softplus(dt);
        vec x = load(g->beta + t);
#if ROTARY_STEPS
        x += a->beta_bias[h];
#endif
        vec s = sigmoid(x);
        store(g->beta + t, BETA_MAX * rectified_sigmoid(x));
        store(g->beta_slope + t, BETA_MAX * SIGMOID_STRETCH * s * (1.f - s));
        store(g->rate + t, rate);
        store(g->rate_slope + t, sigmoid(dt));
        store(g->decay + t, vexp(-rate * A));
    }
}

/* Row t of the convolution's input; rows before the first come from the carried state. */
INLINE const float *raw_row(const float *proj, const float *conv_in, int t, int h) {
#ifdef VARLEN
    static const float EMPTY[CHANNELS] ALIGNED = {0};
    if (t < 0) return EMPTY;
#endif
    return t >= 0 ? proj + (long)t * IN_WIDTH + h * HEAD_PROJ
                  : conv_in + ((long)(PAST + t) * HEADS + h) * CHANNELS;
}

INLINE float l2_normalize(float *v, int n) {
    float inverse = 1.f / root(dot(v, v, n) + L2_EPS);
    for (int j = 0; j < n; j += LANES) store(v + j, load(v + j) * inverse);
    return inverse;
}

NOINLINE void read_chunk(chunk_t *c, const float *proj, const float *conv_in, const float *weight,
                         int h, int t0, int len) {
    for (int i = 0; i < PAST + len; i++) {
        const float *row = raw_row(proj, conv_in, t0 - PAST + i, h);
        for (int j = 0; j < CHANNELS; j += LANES) store(c->raw[i] + j, load(row + j));
    }
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
        c->q_inverse[l] = l2_normalize(c->qkv[l], D_STATE);
        c->k_inverse[l] = l2_normalize(c->qkv[l] + D_STATE, D_STATE);
#if ROTARY_STEPS
        read_waves(c->cos[l], c->sin[l],
                   proj + (long)(t0 + l) * IN_WIDTH + TURN_COLUMN + h * PAIRS);
        turn(c->qkv[l], c->cos[l], c->sin[l], -1.f);
        turn(c->qkv[l] + D_STATE, c->cos[l], c->sin[l], -1.f);
#endif
    }
}

#ifndef BACKWARD
NOINLINE void scan(const args_t *a, int thread, long b, int h) {
    gates_t *gates = (gates_t *)a->gates + thread;
    long row = first_row(a, b);
    int time = length_of(a, b);
    const float *proj = a->proj + row * IN_WIDTH, *gain = a->out_norm;
    const float *weight = a->conv1d + h * CHANNELS;
    float S[STATE] ALIGNED, y[CHUNK][HEAD_DIM] ALIGNED;
    chunk_t chunk ALIGNED;
    read_gates(gates, a, proj, h, time);
#ifdef VARLEN
    const float *conv_in = 0;
    fill_zero(S, STATE);
#else
    const float *conv_in = a->conv_in + b * PAST * HEADS * CHANNELS;
    long head = b * HEADS + h;
    copy(S, a->ssm_in + head * STATE, STATE);
#endif
#if ROTARY_STEPS
    float phase[PAIRS];
#ifdef VARLEN
    fill_zero(phase, PAIRS);
#else
    for (int i = 0; i < PAIRS; i++) phase[i] = (float)a->phase_in[head * PAIRS + i];
#endif
    advance_phases(a->proj + row * IN_WIDTH + TURN_COLUMN + h * PAIRS, phase, time);
#endif
    for (int t0 = 0; t0 < time; t0 += CHUNK) {
        int len = MIN(CHUNK, time - t0);
#ifdef FORWARD
        if (t0) copy(a->states + (head * SAVED_STATES + t0 / CHUNK - 1) * STATE, S, STATE);
#endif
        read_chunk(&chunk, proj, conv_in, weight, h, t0, len);
        for (int l = 0; l < len; l++)
            gated_delta_rule(S, S, chunk.qkv[l], gates->decay[t0 + l], gates->beta[t0 + l], y[l], 0,
                             0);
        for (int l = 0; l < len; l++) { /* gated norm */
            const float *z = proj + (long)(t0 + l) * IN_WIDTH + h * HEAD_PROJ + CHANNELS;
            float *out = a->out + (row + t0 + l) * D_INNER + h * HEAD_DIM;
            float r = inverse_rms(y[l], HEAD_DIM, OUT_NORM_EPS);
            for (int j = 0; j < HEAD_DIM; j += LANES) {
                vec zv = load(z + j);
                store(out + j, load(y[l] + j) * r * load(gain + j) * zv * sigmoid(zv));
            }
        }
    }
#ifndef VARLEN
#if ROTARY_STEPS
    for (int i = 0; i < PAIRS; i++)
        a->phase_out[head * PAIRS + i] = phase[i] >= 0.f ? (int)phase[i] : 0;
#endif
    copy(a->ssm_out + head * STATE, S, STATE);
    for (int i = 0; i < PAST; i++)
        copy(a->conv_out + ((b * PAST + i) * HEADS + h) * CHANNELS,
             raw_row(proj, conv_in, time - PAST + i, h), CHANNELS);
#endif
}

static void kernel_body(member_t *me, args_t a) {
    mixer_forward(me, &a, HEADS, a.proj, a.out, scan);
}
#endif

#ifdef BACKWARD
/* y to dy, z to dz and d_out to out, in place, through out = y * r * gain * silu(z); adds to the
 * gain's gradient. Returns y . dy. */
INLINE float gated_norm_backward(float *y, float *z, float *d_out, const float *gain,
                                 float *d_gain) {
    float r = inverse_rms(y, HEAD_DIM, OUT_NORM_EPS);
    vec d_unit[HEAD_DIM / LANES], sum = 0.f;
    UNROLL for (int j = 0; j < HEAD_DIM; j += LANES) {
        vec zv = load(z + j), s = sigmoid(zv), silu = zv * s;
        vec unit = load(y + j) * r, g = load(gain + j), d = load(d_out + j);
        store(z + j, d * unit * g * (s + silu * (1.f - s)));
        store(d_out + j, unit * g * zv * s);
        store(d_gain + j, load(d_gain + j) + d * silu * unit);
        d_unit[j / LANES] = d * silu * g;
        sum += d_unit[j / LANES] * unit;
    }
    float mean = sum_lanes(sum) * (1.f / HEAD_DIM);
    vec y_dy = 0.f;
    UNROLL for (int j = 0; j < HEAD_DIM; j += LANES) {
        vec yj = load(y + j), dy = r * (d_unit[j / LANES] - yj * r * mean);
        y_dy += yj * dy;
        store(y + j, dy);
    }
    return sum_lanes(y_dy);
}

/* d of a unit vector to d of the vector it was made from: inverse (d - unit (unit . d)). */
INLINE void l2_normalize_backward(float *d, const float *unit, float inverse, int n) {
    float s = dot(d, unit, n);
    for (int j = 0; j < n; j += LANES) store(d + j, inverse * (load(d + j) - load(unit + j) * s));
}

/* d_qkv, in place, becomes the gradient of the convolution's output. */
INLINE void activation_backward(float *d_qkv, const chunk_t *c, int l) {
    l2_normalize_backward(d_qkv, c->qkv[l], c->q_inverse[l], D_STATE);
    l2_normalize_backward(d_qkv + D_STATE, c->qkv[l] + D_STATE, c->k_inverse[l], D_STATE);
#if ROTARY_STEPS
    turn(d_qkv, c->cos[l], c->sin[l], 1.f);
    turn(d_qkv + D_STATE, c->cos[l], c->sin[l], 1.f);
#endif
    for (int j = 0; j < CHANNELS; j += LANES) {
        vec x = load(c->conv[l] + j), s = load(c->gate[l] + j);
        store(d_qkv + j, load(d_qkv + j) * (s + x * s * (1.f - s)));
    }
}

/* Of some rows, before the convolution `raw` with PAST more in front: d_proj, and the partial
 * gradient of conv1d, from d_conv, the gradient of the convolution's output with PAST more rows
 * behind. */
INLINE void convolution_backward(float *d_weight, float *d_proj, float (*d_conv)[CHANNELS],
                                 const float (*raw)[CHANNELS], const float *weight, int len) {
    for (int j = 0; j < CHANNELS; j += LANES) {
        vec dw[D_CONV];
        UNROLL for (int i = 0; i < D_CONV; i++) dw[i] = load(d_weight + i * CHANNELS + j);
        for (int l = 0; l < len; l++) {
            vec d = load(d_conv[l] + j), dx = 0.f;
            UNROLL for (int i = 0; i < D_CONV; i++) {
                dw[i] += d * load(raw[l + i] + j);
                dx += load(weight + (long)(PAST - i) * HEADS * CHANNELS + j)
                    * load(d_conv[l + i] + j);
            }
            store(d_proj + (long)l * IN_WIDTH + j, dx);
        }
        UNROLL for (int i = 0; i < D_CONV; i++) store(d_weight + i * CHANNELS + j, dw[i]);
    }
}

/* Gradient of the rows carried in: row r precedes the first step by PAST - r steps. */
INLINE void carried_rows_backward(float *d_conv_in, float (*d_conv)[CHANNELS],
                                  const float *weight) {
    for (int r = 0; r < PAST; r++)
        for (int j = 0; j < CHANNELS; j += LANES) {
            vec dx = 0.f;
            for (int i = PAST - r; i < D_CONV; i++)
                if (i - (PAST - r) < TIME)
                    dx += load(weight + (long)(PAST - i) * HEADS * CHANNELS + j)
                        * load(d_conv[i - (PAST - r)] + j);
            store(d_conv_in + (long)r * HEADS * CHANNELS + j, dx);
        }
}

/* d_beta and d_log_decay to the columns beta and dt of d_proj, and to partials of A_log, dt_bias
 * and beta_bias. */
INLINE void gates_backward(gates_t *g, const args_t *a, float *d_proj, float *partial, int h) {
    float A = exp1(a->A_log[h]);
    vec d_A_log = 0.f, d_dt_bias = 0.f;
#if ROTARY_STEPS
    vec d_beta_bias = 0.f;
#endif
    for (int t = 0; t < TIME_PADDED; t += LANES) {
        vec d_rate = -load(g->d_log_decay + t) * A;
        store(g->d_beta + t, load(g->d_beta + t) * load(g->beta_slope + t));
#if ROTARY_STEPS
        d_beta_bias += load(g->d_beta + t);
#endif
        d_A_log += d_rate * load(g->rate + t);
        d_rate *= load(g->rate_slope + t);
        d_dt_bias += d_rate;
        store(g->d_log_decay + t, d_rate);
    }
    partial[PARTIAL_A_LOG] = sum_lanes(d_A_log);
    partial[PARTIAL_DT_BIAS] = sum_lanes(d_dt_bias);
#if ROTARY_STEPS
    partial[PARTIAL_BETA_BIAS] = sum_lanes(d_beta_bias);
#endif
    for (int t = 0; t < TIME; t++) {
        float *row = d_proj + (long)t * IN_WIDTH;
        row[BETA_COLUMN + h] = g->d_beta[t];
        row[DT_COLUMN + h] = g->d_log_decay[t];
        if (h == 0) /* the padding columns are read by the products that follow */
            fill_zero(row + COLUMNS, IN_WIDTH - COLUMNS);
    }
}

NOINLINE void scan_backward(const args_t *a, int thread, long b, int h) {
    gates_t *g = (gates_t *)a->gates + thread;
    float *proj = a->proj + b * TIME * IN_WIDTH, *d_out = a->d_out + b * TIME * D_INNER;
    const float *conv_in = a->conv_in + b * PAST * HEADS * CHANNELS;
    const float *weight = a->conv1d + h * CHANNELS;
    long head = b * HEADS + h;
    const float *states = a->states + head * SAVED_STATES * STATE;
    float *partial = a->partials + head * PARTIALS;
    float S[CHUNK + 1][STATE] ALIGNED, dS[STATE] ALIGNED;
    float y[CHUNK][HEAD_DIM] ALIGNED, Sk[CHUNK][HEAD_DIM] ALIGNED, u[CHUNK][HEAD_DIM] ALIGNED;
    float y_dy[CHUNK];
    float d_conv[CHUNK + PAST][CHANNELS] ALIGNED; /* with the later chunk's first rows behind */
    chunk_t chunk ALIGNED;
#if ROTARY_STEPS
    float d_phase[PAIRS];
    fill_zero(d_phase, PAIRS);
#endif
    read_gates(g, a, proj, h, TIME);
    fill_zero(g->d_beta, TIME_PADDED);
    fill_zero(g->d_log_decay, TIME_PADDED);
    fill_zero(partial, PARTIALS);
    fill_zero(dS, STATE);
    fill_zero(d_conv[0], (CHUNK + PAST) * CHANNELS);
    for (int t0 = SAVED_STATES * CHUNK; t0 >= 0; t0 -= CHUNK) {
        int len = MIN(CHUNK, TIME - t0);
        float *rows = proj + (long)t0 * IN_WIDTH + h * HEAD_PROJ;
        /* forward again, keeping every state of the chunk */
        for (int i = PAST - 1; i >= 0; i--) copy(d_conv[len + i], d_conv[i], CHANNELS);
        read_chunk(&chunk, proj, conv_in, weight, h, t0, len);
        copy(S[0], t0 ? states + (t0 / CHUNK - 1L) * STATE : a->ssm_in + head * STATE, STATE);
        for (int l = 0; l < len; l++)
            gated_delta_rule(S[l], S[l + 1], chunk.qkv[l], g->decay[t0 + l], g->beta[t0 + l], y[l],
                             Sk[l], u[l]);
        /* backward: gated norm, recurrence, SiLU and normalization, convolution */
        for (int l0 = (len - 1) / LANES * LANES; l0 >= 0; l0 -= LANES) {
            int end = MIN(l0 + LANES, len);
            for (int l = l0; l < end; l++)
                y_dy[l] = gated_norm_backward(
                    y[l], rows + (long)l * IN_WIDTH + CHANNELS,
                    d_out + (long)(t0 + l) * D_INNER + h * HEAD_DIM, a->out_norm,
                    partial + PARTIAL_OUT_NORM);
            /* S_t is decay_t times a matrix times S_{t-1}, plus what holds v_t. So, with <., .> the
             * sum of products and dS_t that of later steps:
             * d log decay_t = <dS_{t-1}, S_{t-1}> = <dS_t, S_t> + y_t . dy_t - v_t . dv_t */
            float dS_S = dot(dS, S[end], STATE);
            for (int l = end - 1; l >= l0; l--) {
                dS_S += y_dy[l];
                dS_S -= gated_delta_rule_backward(dS, S[l], chunk.qkv[l], Sk[l], u[l], y[l],
                                                  g->decay[t0 + l], g->beta[t0 + l], d_conv[l],
                                                  &g->d_beta[t0 + l]);
                g->d_log_decay[t0 + l] = dS_S;
#if ROTARY_STEPS
                turns_backward(proj + (long)(t0 + l) * IN_WIDTH + TURN_COLUMN + h * PAIRS, d_phase,
                               chunk.qkv[l], d_conv[l]);
#endif
            }
            for (int l = l0; l < end; l++) activation_backward(d_conv[l], &chunk, l);
            convolution_backward(partial + PARTIAL_CONV1D, rows + (long)l0 * IN_WIDTH, d_conv + l0,
                                 chunk.raw + l0, weight, end - l0);
        }
    }
    copy(a->d_ssm_in + head * STATE, dS, STATE);
    carried_rows_backward(a->d_conv_in + (b * PAST * HEADS + h) * CHANNELS, d_conv, weight);
    gates_backward(g, a, proj, partial, h);
}

/* The partials of all batches and heads to the gradients of conv1d, A_log, dt_bias, beta_bias and
 * out_norm. */
INLINE void sum_head_partials(const args_t *a) {
    for (int h = 0; h < HEADS; h++) {
        const float *partial = a->partials + (long)h * PARTIALS;
        long stride = (long)HEADS * PARTIALS;
        for (int i = 0; i < D_CONV; i++)
            sum_partials(a->d_conv1d + ((long)i * HEADS + h) * CHANNELS,
                         partial + PARTIAL_CONV1D + i * CHANNELS, CHANNELS, stride, BATCH);
        sum_partials(a->d_A_log + h, partial + PARTIAL_A_LOG, 1, stride, BATCH);
        sum_partials(a->d_dt_bias + h, partial + PARTIAL_DT_BIAS, 1, stride, BATCH);
#if ROTARY_STEPS
        sum_partials(a->d_beta_bias + h, partial + PARTIAL_BETA_BIAS, 1, stride, BATCH);
#endif
    }
    sum_partials(a->d_out_norm, a->partials + PARTIAL_OUT_NORM, HEAD_DIM, PARTIALS, BATCH * HEADS);
    fill_zero(a->d_A_log + HEADS, ROUND_UP(HEADS, LANES) - HEADS);
    fill_zero(a->d_dt_bias + HEADS, ROUND_UP(HEADS, LANES) - HEADS);
#if ROTARY_STEPS
    fill_zero(a->d_beta_bias + HEADS, ROUND_UP(HEADS, LANES) - HEADS);
#endif
}

static void kernel_body(member_t *me, args_t a) {
    mixer_backward(me, &a, HEADS, a.d_out, a.d_out, a.proj, scan_backward);
    if (me->thread == 0) sum_head_partials(&a);
}
#endif
