/* Turns of a head's state, as in the kernels: row i and row i + PAIRS make a pair. */
#define PAIRS (D_STATE / 2)
#define MAX_PARTS 4194304.f

INLINE float nearest(float x) {
    float sum = x + 12582912.f; /* adding 1.5 * 2^23 rounds */
    return sum - 12582912.f;
}

/* A phase in whole parts of a turn, after a step that turns by r. */
INLINE float next_phase(float phase, float r) {
    float turn = (float)ROTARY_STEPS, parts = r * PARTS_PER_UNIT;
    parts = parts < -MAX_PARTS ? -MAX_PARTS : parts;
    parts = nearest(parts > MAX_PARTS ? MAX_PARTS : parts);
    phase += parts - turn * nearest(parts * (1.f / turn));
    phase = phase < 0.f ? phase + turn : phase;
    return phase < turn ? phase : phase - turn;
}

/* The pairs of z (D_STATE), of its halves, turned back by their angles. */
INLINE void turn_back(float *z, const float *cos, const float *sin) {
    float low[ROUND_UP(PAIRS, LANES)] ALIGNED, high[ROUND_UP(PAIRS, LANES)] ALIGNED;
    for (int i = 0; i < PAIRS; i++) {
        low[i] = z[i];
        high[i] = z[PAIRS + i];
    }
    for (int i = 0; i < ROUND_UP(PAIRS, LANES); i += WIDTH) {
        vec a = load(low + i), b = load(high + i), c = load(cos + i), s = -load(sin + i);
        store(low + i, fused(c, a, -(s * b)));
        store(high + i, fused(c, b, s * a));
    }
    for (int i = 0; i < PAIRS; i++) {
        z[i] = low[i];
        z[PAIRS + i] = high[i];
    }
}

/* The phases of a head move on by r, and q and k are turned back by them. */
INLINE void turn_by(float *q, float *k, float *phase, const float *r) {
    float cos[ROUND_UP(PAIRS, LANES)] ALIGNED, sin[ROUND_UP(PAIRS, LANES)] ALIGNED;
    const float *waves = WEIGHTS.numbers + TURNS;
    for (int i = 0; i < PAIRS; i++) {
        phase[i] = next_phase(phase[i], r[i]);
        int part = phase[i] >= 0.f ? (int)phase[i] : 0;
        float zero = phase[i] - phase[i]; /* or not a number */
        cos[i] = waves[part] + zero;
        sin[i] = waves[ROTARY_STEPS + part] + zero;
    }
    turn_back(q, cos, sin);
    turn_back(k, cos, sin);
}

