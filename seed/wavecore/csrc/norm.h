/* RMSNorm over D_MODEL (Zhang & Sennrich 2019): xn = x * r * gain, r = 1 / sqrt(mean(x^2) + eps).
 *
 * Shapes: x, xn (rows, D_MODEL); gain (D_MODEL). Nothing is saved, r is computed again. */

/* Of any n numbers. */
INLINE float inverse_rms(const float *x, int n, float eps) {
    return 1.f / root(dot(x, x, n) * (1.f / n) + eps);
}

INLINE void rms_norm(float *restrict xn, const float *restrict x, const float *restrict gain,
                     int rows) {
    for (int i = 0; i < rows; i++) {
        const float *xi = x + (long)i * D_MODEL;
        float r = inverse_rms(xi, D_MODEL, NORM_EPS);
        for (int j = 0; j < D_MODEL; j += LANES)
            store(xn + (long)i * D_MODEL + j, load(xi + j) * r * load(gain + j));
    }
}

/* dx = residual + (dxn * gain * r - x * mean(x * dxn * gain) * r^3) for rows r0.., the gain's
 * partial gradient of this tile, and xn of the rows in panel layout for the weight gradient that
 * follows. residual may be null, and dx may be x. */
INLINE void rms_norm_backward(float *dx, const float *residual, const float *restrict dxn,
                              const float *x, const float *restrict gain,
                              float *restrict xn_panels, float *restrict d_gain, int r0, int rows) {
    fill_zero(d_gain, D_MODEL);
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
            store(d_gain + j, load(d_gain + j) + dv * xr);
            store(xn_panels + ((long)(j / LANES) * rows + i) * LANES, xr * g);
        }
    }
}
