/* What a machine can stamp at all: many streams read through epoll, a stamp for each read, nothing parsed.
 *
 *     stream_reader PORT OFFSETS.bin READS.bin
 *
 * OFFSETS.bin holds int64 ns, ascending; at each, one of as many connections, open already, asks for a stream.
 * READS.bin gets three int64 per read: the instant it was made (CLOCK_MONOTONIC ns), the request's number, and
 * how many bytes it brought. Prints its zero and the CPU ns it took since, and ends when every stream has.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "loopback.h"

enum { LEAD_NS = 300000000, MOST_READS = 4000000, TAIL = 7, PATIENCE_MS = 5000 };

static int64_t rows[MOST_READS][3];

static void arm(int timer_fd, int64_t at_ns) {
    struct itimerspec when = {{0, 0}, {at_ns / 1000000000, at_ns % 1000000000}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static int ask(int fd, size_t number) {
    char request[256];
    int length = snprintf(request, sizeof request,
        "POST /v1/stream HTTP/1.1\r\nHost: x\r\nx-peaktape-request: r%zu/0\r\nContent-Length: 2\r\n\r\n{}", number);
    return send(fd, request, (size_t)length, MSG_NOSIGNAL) == length;
}

int main(int argc, char **words) {
    static char data[1 << 17];
    struct epoll_event events[256], event = {.events = EPOLLIN};
    struct rlimit files;
    size_t count, asked = 0, over = 0, reads = 0;
    if (argc != 4) return 2;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int64_t *offsets = read_offsets(words[2], &count);
    int *fds = calloc(count, sizeof *fds), poll_fd = epoll_create1(0);
    int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    for (size_t i = 0; i < count; i++) {
        fds[i] = connect_to(atoi(words[1]));
        event.data.u64 = i;
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, fds[i], &event);
    }
    event.data.u64 = count;
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, timer_fd, &event);
    memset(rows, 1, sizeof rows); /* touched now, not when a read is to be noted */
    int64_t zero_ns = now_ns(CLOCK_MONOTONIC) + LEAD_NS, cpu_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    arm(timer_fd, zero_ns + offsets[0]);
    while (over < count) {
        int ready = epoll_wait(poll_fd, events, 256, PATIENCE_MS);
        if (ready <= 0) break;
        for (int i = 0; i < ready; i++) {
            size_t number = events[i].data.u64;
            while (asked < count && zero_ns + offsets[asked] <= now_ns(CLOCK_MONOTONIC)) {
                if (!ask(fds[asked], asked)) return 1;
                if (++asked < count) arm(timer_fd, zero_ns + offsets[asked]);
            }
            if (number == count) {
                uint64_t expired;
                if (asked == count && read(timer_fd, &expired, sizeof expired) < 0) continue;
                continue;
            }
            ssize_t got = recv(fds[number], data, sizeof data, MSG_DONTWAIT);
            if (got <= 0 || reads == MOST_READS) return 1;
            rows[reads][0] = now_ns(CLOCK_MONOTONIC);
            rows[reads][1] = (int64_t)number;
            rows[reads++][2] = got;
            over += got >= TAIL && !memcmp(data + got - TAIL, "\r\n0\r\n\r\n", TAIL);
        }
    }
    printf("%" PRId64 " %" PRId64 "\n", zero_ns, now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns);
    FILE *out = fopen(words[3], "wb");
    if (!out || fwrite(rows, sizeof *rows, reads, out) != reads || fclose(out)) return 1;
    return over == count ? 0 : 1;
}
