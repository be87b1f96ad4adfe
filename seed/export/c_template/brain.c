/* The step: every sum in the order of the kernels that train, of which this has the bits.
 *
 * A vec is as wide as the instruction set that the compiler may use. Sums over lanes are those of
 * LANES lanes, whatever the width. What is rounded once is written as `fused`; the compiler must
 * fuse nothing else. Without an instruction for it `fused` rounds twice. */
#if defined(__FAST_MATH__) || __FINITE_MATH_ONLY__
#error "compile this file without -ffast-math and -ffinite-math-only: exp needs the order of its \
sums, and a number that is not finite is absent"
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the weights are little-endian"
#endif
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif
#ifdef __SSE__
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define WIDTH 16
#elif defined(__AVX__)
#define WIDTH 8
#else
#define WIDTH 4
#endif
#define PIECES (LANES / WIDTH)
#define TILE 8        /* vecs of sums in registers */
#define INLINE static inline __attribute__((always_inline))
#define ALIGNED __attribute__((aligned(64)))
#define ROUND_UP(n, unit) (((n) + (unit) - 1) / (unit) * (unit))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH)));
typedef float loose __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

INLINE vec load(const float *p) { return *(const loose *)p; }
INLINE void store(float *p, vec v) { *(loose *)p = v; }
INLINE vec all(float x) { return x - (vec){0}; }
/* a * b + c */
INLINE vec fused(vec a, vec b, vec c) {
#if defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX__) && defined(__FMA__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_NEON) && defined(__ARM_FEATURE_FMA)
    return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#elif defined(__ARM_FEATURE_FMA)
    for (int i = 0; i < WIDTH; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
#else
    return a * b + c;
#endif
}
INLINE float root(float x) {
#if defined(__SSE__)
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
#elif defined(__aarch64__)
    return vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0);
#else
    return __builtin_sqrtf(x); /* an instruction with -fno-math-errno, else that of libm */
#endif
}
INLINE vec where(ivec is_true, vec a, vec b) {
    return (vec)(((ivec)a & is_true) | ((ivec)b & ~is_true));
}

/* Sums of lanes i, i + LANES, ..: an explicit tree. */
typedef struct { vec piece[PIECES]; } lanes;
INLINE float sum_lanes(lanes s) {
    float t[LANES] ALIGNED;
    for (int i = 0; i < PIECES; i++) store(t + i * WIDTH, s.piece[i]);
    for (int half = LANES / 2; half > 1; half /= 2)
        for (int i = 0; i < half; i++) t[i] += t[i + half];
    return t[0] + t[1];
}
INLINE float sum_squares(const float *x, int n) {
    lanes s = {{{0}}};
    for (int j = 0; j < n; j += LANES)
        for (int i = 0; i < PIECES; i++) {
            vec v = load(x + j + i * WIDTH);
            s.piece[i] = fused(v, v, s.piece[i]);
        }
    return sum_lanes(s);
}
INLINE float inverse_rms(const float *x, int n, float eps) {
    return 1.f / root(fused(all(sum_squares(x, n)), all(1.f / (float)n), all(eps))[0]);
}

/* By range reduction to |r| <= ln(2)/2 and a polynomial of degree 7. */
INLINE vec exponential(vec x) {
    x = where(x < all(-87.f), all(-87.f), x);
    x = where(x > all(88.f), all(88.f), x);
    vec n = fused(x, all(1.44269504088896341f), all(12582912.f));
    ivec bits = (ivec)n; /* 1.5 * 2^23 was added, which rounds to nearest */
    n -= all(12582912.f);
    vec r = fused(-n, all(0.693359375f), x);
    r = fused(n, all(2.12194440e-4f), r);
    vec p = fused(r, all(1.9875691500e-4f), all(1.3981999507e-3f));
    p = fused(p, r, all(8.3334519073e-3f));
    p = fused(p, r, all(4.1665795894e-2f));
    p = fused(p, r, all(1.6666665459e-1f));
    p = fused(p, r, all(5.0000001201e-1f));
    p = fused(p, r * r, r) + 1.f;
    return p * (vec)((bits + (127 - 0x4B400000)) << 23);
}
INLINE vec sigmoid(vec x) { return 1.f / (1.f + exponential(-x)); }

/* Rows of a matrix and x to `n` vecs of sums at y. `n` is a constant. */
INLINE void multiply_tile(float *y, const float *x, const float *w, int depth, int stride, int n,
                          int adds) {
    vec c[TILE];
    for (int i = 0; i < n; i++) c[i] = all(0.f);
    for (int k = 0; k < depth; k++)
        for (int i = 0; i < n; i++) c[i] = fused(all(x[k]), load(w + k * stride + i * WIDTH), c[i]);
    for (int i = 0; i < n; i++) store(y + i * WIDTH, adds ? c[i] + load(y + i * WIDTH) : c[i]);
}
/* The same for a group of `width` columns, a constant; x in blocks of nearly equal depth. */
INLINE void multiply_group(float *y, const float *x, const float *w, int depth, int width,
                           int adds) {
    int blocks = (depth + 255) / 256, block = (depth + blocks - 1) / blocks;
    for (int k = 0; k < depth; k += block)
        for (int i = 0; i < width; i += TILE * WIDTH)
            multiply_tile(y + i, x + k, w + k * width + i, MIN(block, depth - k), width,
                          MIN(TILE, (width - i) / WIDTH), adds || k);
}
/* y = W x, or y += W x; the matrix (columns, depth) lies in groups, each [depth][width]. */
static __attribute__((noinline)) void multiply(float *y, const float *x, const float *w,
                                               int columns, int depth, int adds) {
    int j = 0;
    for (; j + GROUP <= columns; j += GROUP)
        multiply_group(y + j, x, w + j * (long)depth, depth, GROUP, adds);
    w += j * (long)depth;
    if (columns - j == 16) multiply_group(y + j, x, w, depth, 16, adds);
    if (columns - j == 32) multiply_group(y + j, x, w, depth, 32, adds);
    if (columns - j == 48) multiply_group(y + j, x, w, depth, 48, adds);
}

static void normalize(float *y, const float *x, const float *gain) {
    float r = inverse_rms(x, D_MODEL, NORM_EPS);
    for (int j = 0; j < D_MODEL; j += WIDTH) store(y + j, load(x + j) * r * load(gain + j));
}

#if SSM_LAYERS
#define CHANNELS (2 * D_STATE + HEAD_DIM)
#define HEAD_PROJ (CHANNELS + HEAD_DIM)
#define PADDED_HEADS ROUND_UP(SSM_HEADS, LANES)

/* log(1 + exp(x)): log(1 + u) = 2 atanh(u / (2 + u)) as an odd series. */
INLINE vec softplus(vec x) {
    vec u = exponential(where(x < all(0.f), x, -x)), s = u / (2.f + u), q = s * s;
    vec l = fused(q, all(1.f / 11), all(1.f / 9));
    l = fused(l, q, all(1.f / 7));
    l = fused(l, q, all(1.f / 5));
    l = fused(l, q, all(1.f / 3));
    l = fused(l, q, all(1.f));
    return fused(2.f * s, l, where(x > all(0.f), x, all(0.f)));
}

/* beta and decay of all heads, from their columns of the projection. */
INLINE void read_gates(float *beta, float *decay, const float *columns, const float *w) {
    for (int h = 0; h < SSM_HEADS; h++) {
        beta[h] = columns[h];
        decay[h] = columns[SSM_HEADS + h];
    }
    for (int h = 0; h < PADDED_HEADS; h += WIDTH) {
        vec rate = softplus(load(decay + h) + load(w + SSM_DT_BIAS + h));
        vec b = load(beta + h);
#if ROTARY_STEPS
        b += load(w + SSM_BETA_BIAS + h);
#endif
        vec s = fused(all(SIGMOID_STRETCH), sigmoid(b), all(-0.5f * (SIGMOID_STRETCH - 1.f)));
        s = where(s < all(0.f), all(0.f), s);
        s = where(s > all(1.f), all(1.f), s);
        store(beta + h, BETA_MAX * s);
        store(decay + h, exponential(-rate * exponential(load(w + SSM_A_LOG + h))));
    }
}

/* q, k and v of head h: a convolution over the last bytes, then silu. `past` moves on by one. */
INLINE void convolve(float *qkv, const float *proj, float *past, const float *weight) {
    for (int j = 0; j < CHANNELS; j += WIDTH) {
        vec s = all(0.f), raw = load(proj + j);
        for (int i = 0; i < D_CONV; i++) {
            vec row = i < D_CONV - 1 ? load(past + i * SSM_HEADS * CHANNELS + j) : raw;
            s = fused(load(weight + i * SSM_HEADS * CHANNELS + j), row, s);
            if (i) store(past + (i - 1) * SSM_HEADS * CHANNELS + j, row);
        }
        store(qkv + j, s * sigmoid(s));
    }
}

INLINE void to_unit_length(float *v) {
    float inverse = 1.f / root(sum_squares(v, D_STATE) + L2_EPS);
    for (int j = 0; j < D_STATE; j += WIDTH) store(v + j, load(v + j) * inverse);
}

#include "rotary.c"
/* u = beta (v - DELTA decay S^T k), S = decay S + k u^T, y = S^T q; S is [D_STATE][HEAD_DIM]. */
INLINE void gated_delta_rule(float *S, const float *qkv, float decay, float beta, float *y) {
    const float *q = qkv, *k = qkv + D_STATE, *v = qkv + 2 * D_STATE;
    for (int j = 0; j < HEAD_DIM; j += LANES) {
        vec even[PIECES], odd[PIECES], sum[PIECES];
        for (int n = 0; n < PIECES; n++) even[n] = odd[n] = sum[n] = all(0.f);
        for (int i = 0; i < D_STATE; i += 2)
            for (int n = 0; n < PIECES; n++) {
                const float *s = S + i * HEAD_DIM + j + n * WIDTH;
                even[n] = fused(all(k[i]), load(s), even[n]);
                odd[n] = fused(all(k[i + 1]), load(s + HEAD_DIM), odd[n]);
            }
        for (int n = 0; n < PIECES; n++)
            even[n] = beta * fused(all(-(DELTA * decay)), even[n] + odd[n],
                                 load(v + j + n * WIDTH));
        for (int i = 0; i < D_STATE; i++)
            for (int n = 0; n < PIECES; n++) {
                float *s = S + i * HEAD_DIM + j + n * WIDTH;
                vec next = fused(all(decay), load(s), k[i] * even[n]);
                store(s, next);
                sum[n] = fused(all(q[i]), next, sum[n]);
            }
        for (int n = 0; n < PIECES; n++) store(y + j + n * WIDTH, sum[n]);
    }
}

static void ssm_mixer(float *x, const float *w, float *past, float *S, float *phase) {
    float xn[D_MODEL] ALIGNED, proj[SSM_COLUMNS] ALIGNED, out[SSM_HEADS * HEAD_DIM] ALIGNED;
    float beta[PADDED_HEADS] ALIGNED = {0}, decay[PADDED_HEADS] ALIGNED = {0};
    normalize(xn, x, w + SSM_NORM);
    multiply(proj, xn, w + SSM_IN_PROJ, SSM_COLUMNS, D_MODEL, 0);
    read_gates(beta, decay, proj + SSM_HEADS * HEAD_PROJ, w);
    for (int h = 0; h < SSM_HEADS; h++) {
        const float *head = proj + h * HEAD_PROJ, *z = head + CHANNELS;
        float qkv[CHANNELS] ALIGNED, y[HEAD_DIM] ALIGNED;
        convolve(qkv, head, past + h * CHANNELS, w + SSM_CONV1D + h * CHANNELS);
        to_unit_length(qkv);
        to_unit_length(qkv + D_STATE);
#if ROTARY_STEPS
        turn_by(qkv, qkv + D_STATE, phase + h * PAIRS,
                proj + SSM_HEADS * (HEAD_PROJ + 2) + h * PAIRS);
#else
        (void)phase;
#endif
        gated_delta_rule(S + h * D_STATE * HEAD_DIM, qkv, decay[h], beta[h], y);
        float r = inverse_rms(y, HEAD_DIM, OUT_NORM_EPS);
        for (int j = 0; j < HEAD_DIM; j += WIDTH) {
            vec zv = load(z + j);
            store(out + h * HEAD_DIM + j,
                  load(y + j) * r * load(w + SSM_OUT_NORM + j) * zv * sigmoid(zv));
        }
    }
    multiply(x, out, w + SSM_OUT_PROJ, D_MODEL, SSM_HEADS * HEAD_DIM, 1);
}
#endif

#if ATTENTION_LAYERS
#define HALF (HEAD_DIM / 2)
#define SLOTS ROUND_UP(WINDOW, LANES)
#define VALUES 32   /* of a head, summed together */

/* Adds q . key to the scores of all slots, where a key's number is (a COS + sign b SIN). */
INLINE void add_scores(float *scores, float q, const float *a, const float *b, const float *rope,
                       float sign, int start) {
    for (int j = start; j < SLOTS; j += WIDTH) {
        vec turned = load(b + j) * load(rope + SLOTS + j);
        turned = fused(load(a + j), load(rope + j), sign * turned);
        store(scores + j, fused(all(q), turned, load(scores + j)));
    }
}

/* Scores to exponentials, 0 before slot `first` and behind the window; the inverse of their sum. */
INLINE float soften(float *scores, int first, int start) {
    float highest = scores[first];
    lanes total = {{{0}}};
    for (int j = first; j < WINDOW; j++) highest = scores[j] > highest ? scores[j] : highest;
    for (int j = start; j < SLOTS; j += LANES)
        for (int i = 0; i < PIECES; i++) {
            float *p = scores + j + i * WIDTH;
            store(p, exponential(load(p) - highest));
            for (int n = 0; n < WIDTH; n++)
                if (j + i * WIDTH + n < first || j + i * WIDTH + n >= WINDOW) p[n] = 0.f;
            total.piece[i] += load(p);
        }
    return 1.f / sum_lanes(total);
}

/* Slot s of the window, oldest first, has column at + 1 + s of `keys`, which holds every key twice,
 * and row (at + 1 + s) % WINDOW of `values`. Slots before `first` are empty. */
static void attention_mixer(float *x, const float *w, float *keys, float *values, int at,
                            int first) {
    float xn[D_MODEL] ALIGNED, qkv[3 * D_MODEL] ALIGNED, out[D_MODEL] ALIGNED;
    float scores[SLOTS] ALIGNED;
    int start = first / LANES * LANES;
    normalize(xn, x, w + ATTENTION_NORM);
    multiply(qkv, xn, w + ATTENTION_QKV_PROJ, 3 * D_MODEL, D_MODEL, 0);
    for (int d = 0; d < D_MODEL; d++) {
        keys[d * KEY_COLUMNS + at] = keys[d * KEY_COLUMNS + at + WINDOW] = qkv[D_MODEL + d];
        values[at * D_MODEL + d] = qkv[2 * D_MODEL + d];
    }
    for (int h = 0; h < ATTENTION_HEADS; h++) {
        const float *q = qkv + h * HEAD_DIM, *window = keys + h * HEAD_DIM * KEY_COLUMNS + at + 1;
        for (int j = start; j < SLOTS; j++) scores[j] = 0.f;
        for (int i = 0; i < HEAD_DIM; i++) {
            int low = i % HALF, high = low + HALF, is_low = i < HALF;
            const float *rope = WEIGHTS.numbers + ROPE + low * 2 * SLOTS;
            float a = q[is_low ? low : high], b = q[is_low ? high : low];
            float sign = is_low ? -1.f : 1.f, turned = b * rope[SLOTS + WINDOW - 1];
            turned = fused(all(a), all(rope[WINDOW - 1]), all(sign * turned))[0] * SCALE;
            add_scores(scores, turned, window + (is_low ? low : high) * KEY_COLUMNS,
                       window + (is_low ? high : low) * KEY_COLUMNS, rope, sign, start);
        }
        float inverse = soften(scores, first, start);
        for (int i = 0; i < HEAD_DIM; i += VALUES) {
            vec sum[VALUES / WIDTH];
            for (int n = 0; n < VALUES / WIDTH; n++) sum[n] = all(0.f);
            for (int j = first, row = (at + 1 + first) % WINDOW; j < WINDOW; j++) {
                const float *v = values + row * D_MODEL + h * HEAD_DIM + i;
                for (int n = 0; n < VALUES / WIDTH; n++)
                    sum[n] = fused(all(scores[j]), load(v + n * WIDTH), sum[n]);
                row = row + 1 < WINDOW ? row + 1 : 0;
            }
            for (int n = 0; n < VALUES / WIDTH; n++)
                store(out + h * HEAD_DIM + i + n * WIDTH, sum[n] * inverse);
        }
    }
    multiply(x, out, w + ATTENTION_OUT_PROJ, D_MODEL, D_MODEL, 1);
}
#endif

static void swiglu_mlp(float *x, const float *w) {
    float xn[D_MODEL] ALIGNED, hidden[2 * D_FF] ALIGNED;
    normalize(xn, x, w + MLP_NORM);
    multiply(hidden, xn, w + MLP_IN_PROJ, 2 * D_FF, D_MODEL, 0);
    for (int j = 0; j < D_FF; j += WIDTH) {
        vec gate = load(hidden + j);
        store(hidden + j, gate * sigmoid(gate) * load(hidden + D_FF + j));
    }
    multiply(x, hidden, w + MLP_OUT_PROJ, D_MODEL, D_FF, 1);
}

static void run_layers(brain_state *state, float *x) {
    for (int i = 0; i < N_LAYERS; i++) {
        const float *w = WEIGHTS.numbers + LAYERS[i].mixer;
        int n = LAYERS[i].index; /* among those of its kind */
#if ATTENTION_LAYERS
        if (LAYERS[i].is_attention)
            attention_mixer(x, w, state->keys[n], state->values[n], state->at,
                            WINDOW - 1 - state->length);
#endif
#if SSM_LAYERS && ROTARY_STEPS
        if (!LAYERS[i].is_attention)
            ssm_mixer(x, w, state->conv[n], state->ssm[n], state->phase[n]);
#elif SSM_LAYERS
        if (!LAYERS[i].is_attention) ssm_mixer(x, w, state->conv[n], state->ssm[n], 0);
#endif
        swiglu_mlp(x, WEIGHTS.numbers + LAYERS[i].mlp);
    }
    state->at = state->at + 1 < WINDOW ? state->at + 1 : 0;
    state->length = state->length + 1 < WINDOW ? state->length + 1 : state->length;
}

void brain_reset(brain_state *state) {
    *state = (brain_state){0};
}

void brain_step(brain_state *state, uint8_t byte, float logits[256]) {
    float x[D_MODEL] ALIGNED, xn[D_MODEL] ALIGNED;
    const float *table = WEIGHTS.numbers + EMBEDDING, *row = table + byte / GROUP * GROUP * D_MODEL;
    for (int j = 0; j < D_MODEL; j++) x[j] = row[j * GROUP + byte % GROUP];
    run_layers(state, x);
    normalize(xn, x, WEIGHTS.numbers + NORM_F);
    multiply(logits, xn, table, 256, D_MODEL, 0);
}
