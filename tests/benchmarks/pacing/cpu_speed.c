/* How steady is a core? The same arithmetic, some 10 µs of it, timed again and again with nothing else on it.
 *
 *     cpu_speed SECONDS
 *     cpu_speed EVERY_US OUT.bin
 *
 * Prints: the median in ns, the p99, the percentage of the time that went into pieces that took more than
 * twice the median, the longest stretch of such pieces in ms, and this thread's CPU time as a percentage of the
 * time: at 100, nobody in this system took the core, and what slowed it is outside.
 *
 * The second form watches a core on which others work: until its standard input closes, one piece each EVERY_US,
 * when nobody else wants the core. OUT.bin gets two int64 per piece: when (CLOCK_MONOTONIC ns), and the CPU time
 * it took in ns, to which whoever came in between adds nothing.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST = 4000000, ROUNDS = 9000, PAUSE = 3 };

static int64_t now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void work(void) {
    volatile uint64_t value = 1;
    for (int i = 0; i < ROUNDS; i++) value = value * 6364136223846793005ULL + 1;
}

static int watch(int every_us, const char *path) {
    static int64_t rows[MOST][2];
    struct pollfd input = {.fd = 0, .events = POLLIN};
    struct sched_param none = {0};
    struct timespec pause = {0, every_us * 1000L};
    size_t n = 0;
    sched_setscheduler(0, SCHED_IDLE, &none);
    while (n < MOST && !poll(&input, 1, 0)) {
        int64_t began = now_ns(CLOCK_THREAD_CPUTIME_ID);
        work();
        rows[n][1] = now_ns(CLOCK_THREAD_CPUTIME_ID) - began;
        rows[n++][0] = now_ns(CLOCK_MONOTONIC);
        nanosleep(&pause, NULL);
    }
    FILE *out = fopen(path, "wb");
    return !out || fwrite(rows, sizeof *rows, n, out) != n || fclose(out);
}

int main(int count, char **words) {
    static int64_t took[MOST], sorted[MOST];
    size_t n = 0, quick = PAUSE;
    if (count == 3) return watch(atoi(words[1]), words[2]);
    if (count != 2) return 2;
    int64_t began = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_THREAD_CPUTIME_ID), at = began;
    int64_t end = began + (int64_t)(atof(words[1]) * 1e9), slow = 0, stretch = 0, longest = 0;
    while (at < end && n < MOST) {
        work();
        int64_t done = now_ns(CLOCK_MONOTONIC);
        sorted[n] = took[n] = done - at;
        at = done;
        n++;
    }
    cpu = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    if (!n) return 1;
    qsort(sorted, n, sizeof *sorted, ascending);
    for (size_t i = 0; i < n; i++) {
        int is_slow = took[i] > 2 * sorted[n / 2];
        if (is_slow) slow += took[i];
        quick = is_slow ? 0 : quick + 1; /* a stretch may hold a few quick ones */
        stretch = quick < PAUSE ? stretch + took[i] : 0;
        if (stretch > longest) longest = stretch;
    }
    printf("%lld %lld %.1f %.1f %.1f\n", (long long)sorted[n / 2], (long long)sorted[n * 99 / 100],
        100.0 * (double)slow / (double)(at - began), (double)longest / 1e6,
        100.0 * (double)cpu / (double)(at - began));
    return 0;
}
