/* An arrival-stamping HTTP/1.1 server, as cheap as it gets: one thread, epoll, keep-alive.
 *
 *     stamp_server STAMPS.bin [CHUNKS INTERVAL_US]
 *
 * Prints its port, serves until its standard input closes, then writes the stamps: per request three int64,
 * native byte order: the instant its first byte was read (CLOCK_MONOTONIC ns), its number (from a header
 * "x-peaktape-request: rN/COPY", else -1), and COPY. Answers "{}" at once. A request whose path holds
 * "stream" is answered with CHUNKS server-sent events, one each INTERVAL_US; the content of each event is the
 * CLOCK_MONOTONIC ns at which it was handed to the kernel.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 16384, MOST = 65536 };

struct connection {
    int fd, head_len, streaming, chunk;
    int64_t began_ns, body_left, next_ns;
    char head[HEAD + 1];
};

static struct connection *connections[MOST];
static int64_t *stamps;
static size_t stamped, room;
static int chunks = 100;
static int64_t interval_ns = 10000000;
static int timer_fd, epoll_fd;

/* Streams in the order of their next chunk: all have one interval, so a ring is sorted by itself. */
static int ring[MOST];
static unsigned ring_head, ring_tail;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void note(int64_t at_ns, int64_t number, int64_t copy) {
    if (stamped == room) {
        room = room ? room * 2 : 1 << 16;
        stamps = realloc(stamps, room * 3 * sizeof *stamps);
        if (!stamps) exit(1);
    }
    stamps[stamped * 3] = at_ns;
    stamps[stamped * 3 + 1] = number;
    stamps[stamped * 3 + 2] = copy;
    stamped++;
}

static void drop(struct connection *c) {
    if (!c->streaming) { close(c->fd); connections[c->fd] = NULL; free(c); }
    else { shutdown(c->fd, SHUT_RDWR); c->streaming = -1; } /* freed when its turn in the ring comes */
}

static void arm(void) {
    struct itimerspec when = {{0, 0}, {0, 0}};
    if (ring_head != ring_tail) {
        struct connection *c = connections[ring[ring_head % MOST]];
        int64_t at = c->next_ns < 1 ? 1 : c->next_ns;
        when.it_value.tv_sec = at / 1000000000;
        when.it_value.tv_nsec = at % 1000000000;
    }
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void say(struct connection *c, const char *text, size_t length) {
    if (send(c->fd, text, length, MSG_NOSIGNAL) < 0 && errno != EAGAIN) {
        if (c->streaming) c->streaming = -1;
    }
}

static void answer(struct connection *c) {
    static const char whole[] =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    static const char begin[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    char *end = strstr(c->head, "\r\n"), *tag = strcasestr(c->head, "\r\nx-peaktape-request: r");
    int64_t number = -1, copy = 0;
    if (tag) sscanf(tag + 23, "%" SCNd64 "/%" SCNd64, &number, &copy);
    note(c->began_ns, number, copy);
    c->began_ns = 0;
    if (end && memmem(c->head, (size_t)(end - c->head), "stream", 6)) {
        say(c, begin, sizeof begin - 1);
        c->streaming = 1;
        c->chunk = 0;
        c->next_ns = now_ns() + interval_ns;
        ring[ring_tail++ % MOST] = c->fd;
        if (ring_tail - ring_head == 1) arm();
    } else {
        say(c, whole, sizeof whole - 1);
    }
    c->head_len = 0;
}

static void tick(void) {
    char event[256], framed[320];
    uint64_t expired;
    if (read(timer_fd, &expired, sizeof expired) < 0) return;
    while (ring_head != ring_tail) {
        struct connection *c = connections[ring[ring_head % MOST]];
        if (c->streaming > 0 && c->next_ns > now_ns()) break;
        ring_head++;
        if (c->streaming < 0) { close(c->fd); connections[c->fd] = NULL; free(c); continue; }
        int length = snprintf(event, sizeof event,
            "data: {\"choices\":[{\"delta\":{\"content\":\"%" PRId64 "\"}}]}\n\n", now_ns());
        length = snprintf(framed, sizeof framed, "%x\r\n%s\r\n", length, event);
        say(c, framed, (size_t)length);
        if (++c->chunk >= chunks) {
            static const char last[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
            say(c, last, sizeof last - 1);
            c->streaming = 0;
        } else {
            c->next_ns += interval_ns;
            ring[ring_tail++ % MOST] = c->fd;
        }
    }
    arm();
}

static void serve(struct connection *c) {
    char data[1 << 18];
    for (;;) {
        ssize_t got = recv(c->fd, data, sizeof data, 0);
        int64_t at_ns = now_ns();
        if (got < 0) { if (errno != EAGAIN) drop(c); return; }
        if (got == 0) { drop(c); return; }
        char *at = data, *stop = data + got;
        while (at < stop) {
            if (!c->began_ns) c->began_ns = at_ns;
            if (c->body_left) {
                int64_t part = stop - at < c->body_left ? stop - at : c->body_left;
                c->body_left -= part;
                at += part;
                if (!c->body_left) answer(c);
                continue;
            }
            size_t fits = (size_t)(HEAD - c->head_len);
            size_t part = (size_t)(stop - at) < fits ? (size_t)(stop - at) : fits;
            if (!part) { drop(c); return; }
            int before = c->head_len;
            memcpy(c->head + before, at, part);
            c->head_len += (int)part;
            c->head[c->head_len] = 0;
            char *end = strstr(c->head + (before > 3 ? before - 3 : 0), "\r\n\r\n");
            if (!end) { at += part; continue; }
            at += end + 4 - (c->head + before);
            end[2] = 0;
            char *length = strcasestr(c->head, "\r\ncontent-length:");
            c->body_left = length ? atoll(length + 17) : 0;
            if (!c->body_left) answer(c);
        }
    }
}

int main(int count, char **words) {
    struct rlimit files = {MOST, MOST};
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof place;
    struct epoll_event events[256], event = {.events = EPOLLIN};
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (count < 2) return 2;
    if (count > 3) { chunks = atoi(words[2]); interval_ns = atoll(words[3]) * 1000; }
    if (setrlimit(RLIMIT_NOFILE, &files)) getrlimit(RLIMIT_NOFILE, &files);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&place, size) || listen(listener, 4096)) return 1;
    getsockname(listener, (struct sockaddr *)&place, &size);
    epoll_fd = epoll_create1(0);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    for (int *fd = (int[]){listener, timer_fd, 0, -1}; *fd >= 0; fd++) {
        event.data.fd = *fd;
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, *fd, &event);
    }
    printf("%d\n", ntohs(place.sin_port));
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(epoll_fd, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int fresh;
                while ((fresh = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    if (fresh >= MOST) { close(fresh); continue; }
                    setsockopt(fresh, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                    connections[fresh] = calloc(1, sizeof *connections[fresh]);
                    connections[fresh]->fd = fresh;
                    event.data.fd = fresh;
                    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fresh, &event);
                }
            } else if (fd == timer_fd) {
                tick();
            } else if (fd == 0) {
                char word[64];
                if (read(0, word, sizeof word) > 0) continue;
                FILE *out = fopen(words[1], "wb");
                if (!out || fwrite(stamps, 3 * sizeof *stamps, stamped, out) != stamped) return 1;
                return fclose(out);
            } else if (connections[fd]) {
                serve(connections[fd]);
            }
        }
    }
}
