/* RMSNorm over D_MODEL (Zhang & Sennrich 2019): xn = x * r * gain, r = 1 / sqrt(mean(x^2) + eps). */

INLINE float inverse_rms(const float *x) {
    vec q = 0.f;
    for (int j = 0; j < D_MODEL; j += LANES) q += load(x + j) * load(x + j);
    return 1.f / root(sum_lanes(q) * (1.f / D_MODEL) + NORM_EPS);
}

INLINE void norm_rows(float *restrict xn, const float *restrict x, const float *restrict gain, int rows) {
    for (int i = 0; i < rows; i++) {
        const float *xi = x + (long)i * D_MODEL;
        float r = inverse_rms(xi);
        for (int j = 0; j < D_MODEL; j += LANES)
            store(xn + (long)i * D_MODEL + j, load(xi + j) * r * load(gain + j));
    }
}

/* dx = residual + d norm / dx . dxn for rows r0.., the gain's partial gradient of this tile, and xn
 * itself in panel layout for the weight gradient that follows. residual may be null. */
INLINE void norm_backward_rows(float *restrict dx, const float *residual, const float *restrict dxn,
                               const float *restrict x, const float *restrict gain, float *restrict panels,
                               float *restrict dgain, int r0, int rows) {
    fill_zero(dgain, D_MODEL);
    for (int i = 0; i < rows; i++) {
        const float *xi = x + (long)(r0 + i) * D_MODEL, *di = dxn + (long)i * D_MODEL;
        vec q = 0.f, t = 0.f;
        for (int j = 0; j < D_MODEL; j += LANES) {
            vec xv = load(xi + j);
            q += xv * xv;
            t += xv * load(di + j) * load(gain + j);
        }
        float r = 1.f / root(sum_lanes(q) * (1.f / D_MODEL) + NORM_EPS);
        float c = sum_lanes(t) * r * r * r * (1.f / D_MODEL);
        for (int j = 0; j < D_MODEL; j += LANES) {
            vec xv = load(xi + j), xr = xv * r, g = load(gain + j), dv = load(di + j);
            vec out = dv * g * r - xv * c;
            if (residual) out += load(residual + (long)(r0 + i) * D_MODEL + j);
            store(dx + (long)(r0 + i) * D_MODEL + j, out);
            store(dgain + j, load(dgain + j) + dv * xr);
            store(panels + ((long)(j / LANES) * ROWS + r0 + i) * LANES, xr * g);
        }
    }
}
