/* Calls the launches of a graph one behind the other. In Python it takes longer from one to the
 * next, after a kernel that has filled the caches, than the team's threads wait before they sleep.
 *
 * A launch is a row of LAUNCH_WORDS words: a function, and its arguments, which are addresses and
 * integers. It is given all of the row: on x86-64 and arm64 a function does not see arguments that
 * it has no names for. */
#define LAUNCH_WORDS 64
#define LONGS_8 long, long, long, long, long, long, long, long
#define WORDS_8(i) w[i], w[i + 1], w[i + 2], w[i + 3], w[i + 4], w[i + 5], w[i + 6], w[i + 7]
typedef void (*function_t)(long, long, long, long, long, long, long, LONGS_8, LONGS_8, LONGS_8,
                           LONGS_8, LONGS_8, LONGS_8, LONGS_8);

void run_launches(const long (*launches)[LAUNCH_WORDS], long count) {
    for (long i = 0; i < count; i++) {
        const long *w = launches[i];
        ((function_t)w[0])(w[1], w[2], w[3], w[4], w[5], w[6], w[7], WORDS_8(8), WORDS_8(16),
                           WORDS_8(24), WORDS_8(32), WORDS_8(40), WORDS_8(48), WORDS_8(56));
    }
}
