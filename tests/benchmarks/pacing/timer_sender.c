/* What this machine can do at all: timerfd, an optional spin, and requests that were ready long before.
 *
 *     timer_sender PORT OFFSETS.bin SPIN_US
 *
 * OFFSETS.bin holds int64 ns, ascending. Sends a tagged POST at each, round robin over connections that are
 * open already, and never waits for an answer. Prints its zero (CLOCK_MONOTONIC ns) and ends.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "loopback.h"

enum { CONNECTIONS = 32, LEAD_NS = 300000000, AFTER_US = 300000 };

static void sleep_until(int timer_fd, int64_t at_ns) {
    struct itimerspec when = {{0, 0}, {at_ns / 1000000000, at_ns % 1000000000}};
    uint64_t expired;
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    if (read(timer_fd, &expired, sizeof expired) < 0) exit(1);
}

int main(int argc, char **words) {
    char request[256], answers[65536];
    int fds[CONNECTIONS];
    size_t count;
    if (argc != 4) return 2;
    int64_t *offsets = read_offsets(words[2], &count), spin_ns = atoll(words[3]) * 1000;
    int timer_fd = timerfd_create(CLOCK_MONOTONIC, 0);
    for (int i = 0; i < CONNECTIONS; i++) fds[i] = connect_to(atoi(words[1]));
    int64_t zero_ns = now_ns(CLOCK_MONOTONIC) + LEAD_NS;
    for (size_t i = 0; i < count; i++) {
        int fd = fds[i % CONNECTIONS], length = snprintf(request, sizeof request,
            "POST / HTTP/1.1\r\nHost: x\r\nx-peaktape-request: r%zu/0\r\nContent-Length: 2\r\n\r\n{}", i);
        int64_t due_ns = zero_ns + offsets[i];
        while (recv(fd, answers, sizeof answers, MSG_DONTWAIT) > 0) {}
        if (due_ns - spin_ns > now_ns(CLOCK_MONOTONIC)) sleep_until(timer_fd, due_ns - spin_ns);
        while (now_ns(CLOCK_MONOTONIC) < due_ns) {}
        if (send(fd, request, (size_t)length, MSG_NOSIGNAL) != length) return 1;
    }
    printf("%" PRId64 "\n", zero_ns);
    usleep(AFTER_US);
    return 0;
}
