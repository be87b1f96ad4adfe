/* Vectors of LANES (16) floats in clang's vector extensions: one source for AVX2, AVX-512 and NEON.
 *
 * No intrinsics, no libm. Sums over lanes are explicit trees, so a result depends neither on the
 * instruction set's width nor on the optimizer. */
#pragma clang diagnostic ignored "-Wpsabi"

typedef float vec __attribute__((ext_vector_type(LANES), aligned(4), may_alias));
typedef int ivec __attribute__((ext_vector_type(LANES), aligned(4), may_alias));
typedef float vec8 __attribute__((ext_vector_type(8), aligned(4), may_alias));
typedef float vec4 __attribute__((ext_vector_type(4), aligned(4), may_alias));
typedef float vec2 __attribute__((ext_vector_type(2)));

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))
#define ALIGNED __attribute__((aligned(64)))
#define UNROLL _Pragma("clang loop unroll(full)")
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ROUND_UP(n, unit) (((n) + (unit) - 1) / (unit) * (unit))

INLINE vec load(const float *p) { return *(const vec *)p; }
INLINE void store(float *p, vec v) { *(vec *)p = v; }
INLINE vec8 load8(const float *p) { return *(const vec8 *)p; }
INLINE void store8(float *p, vec8 v) { *(vec8 *)p = v; }
INLINE vec4 load4(const float *p) { return *(const vec4 *)p; }
INLINE void store4(float *p, vec4 v) { *(vec4 *)p = v; }

INLINE float sum_lanes(vec v) {
    vec8 a = v.lo + v.hi;
    vec4 b = a.lo + a.hi;
    vec2 c = b.lo + b.hi;
    return c.x + c.y;
}

INLINE float dot(const float *a, const float *b, int n) {
    vec sum = 0.f;
    for (int i = 0; i < n; i += LANES) sum += load(a + i) * load(b + i);
    return sum_lanes(sum);
}

INLINE float max_lanes(vec v) {
    float m = v[0];
    for (int i = 1; i < LANES; i++) m = MAX(m, v[i]);
    return m;
}

/* m[i][j] becomes m[j][i]: blocks of 8 x 8 change places, then those of 4 in each, then 2 and 1. */
#define SWAP_BLOCKS(size, low, high)                                                              \
    UNROLL for (int i = 0; i < LANES; i++)                                                        \
        if (!(i & (size))) {                                                                      \
            vec a = m[i], b = m[i + (size)];                                                      \
            m[i] = __builtin_shufflevector(a, b, low);                                            \
            m[i + (size)] = __builtin_shufflevector(a, b, high);                                  \
        }
#define LANES_OF(...) __VA_ARGS__
INLINE void transpose(vec *m) {
    SWAP_BLOCKS(8, LANES_OF(0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
                LANES_OF(8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
    SWAP_BLOCKS(4, LANES_OF(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
                LANES_OF(4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
    SWAP_BLOCKS(2, LANES_OF(0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
                LANES_OF(2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
    SWAP_BLOCKS(1, LANES_OF(0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30),
                LANES_OF(1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
}

/* Lane sums of four vectors at once, as one vector of four. */
INLINE vec8 add_pairs(vec8 a, vec8 b) {
    return __builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14)
         + __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15);
}
INLINE vec4 sum_lanes4(vec8 a, vec8 b, vec8 c, vec8 d) {
    vec8 s = add_pairs(add_pairs(a, b), add_pairs(c, d));
    return s.lo + s.hi;
}

INLINE void fill_zero(float *p, long n) {
    for (long i = 0; i < n; i++) p[i] = 0.f;
}
INLINE void copy(float *restrict to, const float *restrict from, long n) {
    for (long i = 0; i < n; i++) to[i] = from[i];
}

INLINE float root(float x) { return __builtin_sqrtf(x); }
INLINE vec vroot(vec x) {
    vec r;
    for (int i = 0; i < LANES; i++) r[i] = root(x[i]);
    return r;
}

/* exp by range reduction to |r| <= ln(2)/2 and a degree-7 polynomial (Cephes expf), about 1 ulp. */
INLINE vec vexp(vec x) {
    x = x < -87.f ? (vec)(-87.f) : x;
    x = x > 88.f ? (vec)88.f : x;
    vec n = x * 1.44269504088896341f + 12582912.f; /* adding 1.5 * 2^23 rounds to nearest */
    ivec bits = (ivec)n;
    n -= 12582912.f;
    vec r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.f;
    return p * (vec)((bits + (127 - 0x4B400000)) << 23);
}
INLINE float exp1(float x) { return vexp((vec)x)[0]; }

INLINE vec sigmoid(vec x) { return 1.f / (1.f + vexp(-x)); }

/* softplus(x) = max(x, 0) + log1p(exp(-|x|)); log1p(u) = 2 atanh(u / (2 + u)) as an odd series. */
INLINE vec softplus(vec x) {
    vec u = vexp(x < 0.f ? x : -x);
    vec s = u / (2.f + u), q = s * s;
    vec l = q * (1.f / 11) + (1.f / 9);
    l = l * q + (1.f / 7);
    l = l * q + (1.f / 5);
    l = l * q + (1.f / 3);
    l = l * q + 1.f;
    return (x > 0.f ? x : (vec)0.f) + 2.f * s * l;
}

/* Natural logarithm of a positive normal float. */
INLINE float log1(float x) {
    union { float f; unsigned u; } z = {x};
    unsigned u = z.u;
    int e = (int)(u - 0x3f3504f3u) >> 23; /* split at sqrt(1/2), so that the mantissa is near 1 */
    z.u = u - ((unsigned)e << 23);
    float s = (z.f - 1) / (z.f + 1), q = s * s;
    return e * 0.69314718056f
         + 2 * s * (1 + q * (1.f / 3 + q * (1.f / 5 + q * (1.f / 7 + q * (1.f / 9)))));
}
