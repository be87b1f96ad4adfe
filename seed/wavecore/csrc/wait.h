/* How a thread waits for what others do soon: it looks again, then lets others run first, then
 * sleeps for moments, so that one with a real-time priority never keeps out those that it waits
 * for. */
int sched_yield(void);
int usleep(unsigned microseconds);

#define LOOKS_BEFORE_YIELD 4000
#define LOOKS_BEFORE_SLEEP 6000
#define SLEEP_US 50

#if defined(__x86_64__)
#define RELAX() __builtin_ia32_pause()
#else
#define RELAX() __asm__ volatile("yield")
#endif

/* Before look number `looks`. */
static inline void wait_a_little(int looks) {
    if (looks < LOOKS_BEFORE_YIELD) RELAX();
    else if (looks < LOOKS_BEFORE_SLEEP) sched_yield();
    else usleep(SLEEP_US);
}
