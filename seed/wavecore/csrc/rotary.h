/* Turns of a head's state (model.py): the phases of its pairs of rows, and q and k, which they turn
 * back. Row i and row i + PAIRS make a pair.
 *
 * Shapes: r, phases in whole parts of a turn, and the gradient of r (PAIRS) of a step are in the
 * columns from TURN_COLUMN + h * PAIRS on of proj, each in place of the one before: no gradient
 * needs r, and cosines and sines are read from the phases. Sequential in t. A phase that is not a
 * number makes what it turns not a number. */
#define PAIRS (D_STATE / 2)
#define TURN_COLUMN (DT_COLUMN + HEADS)
#define TURN ((float)ROTARY_STEPS)
#define MAX_PARTS 4194304.f /* of one step: more could not be rounded */
static const float COS[ROTARY_STEPS] = {COSINES}, SIN[ROTARY_STEPS] = {SINES};

INLINE vec8 nearest(vec8 x) {
    vec8 sum = x + 12582912.f; /* adding 1.5 * 2^23 rounds */
    return sum - 12582912.f;
}

/* r at `columns` to the phases after each step; `phase` (PAIRS) was before them, is that of the
 * last. All numbers are whole and small, so nothing is rounded but r itself. */
INLINE void advance_phases(float *columns, float *phase, int time) {
    for (int t = 0; t < time; t++, columns += IN_WIDTH)
        for (int i = 0; i < PAIRS; i += 8) {
            vec8 parts = load8(columns + i) * PARTS_PER_UNIT;
            parts = parts < -MAX_PARTS ? (vec8)(-MAX_PARTS) : parts;
            parts = parts > MAX_PARTS ? (vec8)MAX_PARTS : parts;
            parts = nearest(parts);
            parts -= TURN * nearest(parts * (1.f / TURN)); /* half a turn at most */
            vec8 next = load8(phase + i) + parts;
            next = next < 0.f ? next + TURN : next;
            next = next < TURN ? next : next - TURN;
            store8(phase + i, next);
            store8(columns + i, next);
        }
}

INLINE void read_waves(float *cos, float *sin, const float *phase) {
    for (int i = 0; i < PAIRS; i++) {
        int part = phase[i] >= 0.f ? (int)phase[i] : 0;
        float zero = phase[i] - phase[i]; /* or not a number */
        cos[i] = COS[part] + zero;
        sin[i] = SIN[part] + zero;
    }
}

/* The pairs of v (D_STATE), turned by their angles; back with sign -1. */
INLINE void turn(float *v, const float *cos, const float *sin, float sign) {
    for (int i = 0; i < PAIRS; i += 8) {
        vec8 low = load8(v + i), high = load8(v + PAIRS + i);
        vec8 c = load8(cos + i), s = sign * load8(sin + i);
        store8(v + i, c * low - s * high);
        store8(v + PAIRS + i, c * high + s * low);
    }
}

#ifdef BACKWARD
/* d of v, which was turned back, to d of the phase in radians. */
INLINE vec8 phase_gradient(const float *v, const float *d) {
    return load8(v + PAIRS) * load8(d) - load8(v) * load8(d + PAIRS);
}

/* d_phase (PAIRS), of later steps, gets this one's; it is that of the turn too, and of r. */
INLINE void turns_backward(float *d_r, float *d_phase, const float *qkv, const float *d_qkv) {
    for (int i = 0; i < PAIRS; i += 8) {
        vec8 sum = load8(d_phase + i) + phase_gradient(qkv + i, d_qkv + i)
                 + phase_gradient(qkv + D_STATE + i, d_qkv + D_STATE + i);
        store8(d_phase + i, sum);
        store8(d_r + i, RADIANS_PER_UNIT * sum);
    }
}
#endif
