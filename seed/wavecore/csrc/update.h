/* The optimizer's state, as all of its kernels see it. */
enum { APPLIED, BETA1_POWER, BETA2_POWER, GRAD_NORM, SCALE_BY, SKIPPED };
