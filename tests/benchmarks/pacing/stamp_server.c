/* An arrival-stamping HTTP/1.1 server, as cheap as it gets: one thread, epoll, keep-alive, loopback only.
 *
 *     stamp_server STAMPS.bin EXPECTED [CHUNKS INTERVAL_US]
 *
 * Prints its port, then "first" when the first counted request comes and "last" at the EXPECTED-th. Serves
 * until its standard input closes, then writes the stamps: per counted request three int64, native byte order:
 * the instant its first byte was read (CLOCK_MONOTONIC ns), its number (from a header
 * "x-peaktape-request: rN/COPY", else -1), and COPY. Probes (/v1/models, /health and the like) are answered and
 * not counted. Completions get a minimal OpenAI answer, streamed if the body asks for it; all else gets "{}".
 *
 * With STAMP_SERVER_POLLS set it never sleeps: then its own wake-up, some 50 µs on an idle virtual core, is not
 * counted to the sender. How long it takes to find nothing to do then tells how fast its core is: STAMPS.bin.polls
 * holds (instant, ns that the shortest such turn took, how many there were) for each ms with any.
 *
 * A request whose path holds "stream" is answered with CHUNKS server-sent events, one each INTERVAL_US, of one
 * length; STAMPS.bin.chunks then holds per event (instant it was handed to the kernel, number, which chunk).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
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

enum { HEAD = 16384, MOST = 65536, CHUNKS_A_TICK = 32 };
enum { IDLE, STREAMING, GONE };

struct connection {
    int fd, head_len, state, chunk, wants_stream;
    int64_t began_ns, body_left, next_ns, number;
    char head[HEAD + 1];
};

struct log { int64_t *rows; size_t used, room; };

static struct connection *connections[MOST];
static struct log arrivals, chunk_log, polls;
static size_t expected;
static int chunks = 100;
static int64_t interval_ns = 10000000, cut_short;
static int timer_fd, epoll_fd;

/* Streams in the order of their next chunk: all have one interval, so a ring is sorted by itself. */
static int ring[MOST];
static unsigned ring_head, ring_tail;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void note(struct log *log, int64_t at_ns, int64_t number, int64_t third) {
    if (log->used == log->room) {
        log->room = log->room ? log->room * 2 : 1 << 17;
        log->rows = realloc(log->rows, log->room * 3 * sizeof *log->rows);
        if (!log->rows) exit(1);
    }
    int64_t *row = log->rows + log->used++ * 3;
    row[0] = at_ns;
    row[1] = number;
    row[2] = third;
}

static int save(const struct log *log, const char *path) {
    FILE *out = fopen(path, "wb");
    if (!out || fwrite(log->rows, 3 * sizeof *log->rows, log->used, out) != log->used) return 1;
    return fclose(out);
}

static void announce(const char *line, size_t length) {
    if (write(1, line, length) < 0) exit(1);
}

static void release(struct connection *c) {
    close(c->fd);
    connections[c->fd] = NULL;
    free(c);
}

static void drop(struct connection *c) {
    if (c->state == IDLE) { release(c); return; }
    /* Its number stands in the ring: freed when its turn comes, and silent until then. */
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    c->state = GONE;
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
    ssize_t sent = send(c->fd, text, length, MSG_NOSIGNAL);
    if (sent != (ssize_t)length) cut_short++; /* a full buffer or a client that left: told at the end */
}

/* One object that pleases chat and completions clients alike, whole or as the event of a stream. */
static void say_completion(struct connection *c, int chat) {
    static const char of_choices[] = "\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\" a\","
        "\"delta\":{\"role\":\"assistant\",\"content\":\" a\"},\"message\":{\"role\":\"assistant\",\"content\":\" a\"},"
        "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":1,\"total_tokens\":9}}";
    char object[1024], framed[2048];
    const char *kind = !chat ? "text_completion" : c->wants_stream ? "chat.completion.chunk" : "chat.completion";
    int length = snprintf(object, sizeof object, "{\"id\":\"x\",\"object\":\"%s\",%s", kind, of_choices);
    if (c->wants_stream)
        length = snprintf(framed, sizeof framed, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            "Content-Length: %d\r\n\r\ndata: %s\n\ndata: [DONE]\n\n", length + 22, object);
    else
        length = snprintf(framed, sizeof framed, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            "Content-Length: %d\r\n\r\n%s", length, object);
    say(c, framed, (size_t)length);
}

static int is_probe(const char *head) {
    static const char *const paths[] = {"/v1/models", "/health", "/version", "/metrics", "/tokenize", NULL};
    const char *path = strchr(head, ' ');
    for (const char *const *known = paths; path && *known; known++)
        if (!strncmp(path + 1, *known, strlen(*known))) return 1;
    return 0;
}

static void begin_stream(struct connection *c) {
    static const char begin[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    say(c, begin, sizeof begin - 1);
    c->state = STREAMING;
    c->chunk = 0;
    c->next_ns = now_ns() + interval_ns;
    ring[ring_tail++ % MOST] = c->fd;
    if (ring_tail - ring_head == 1) arm();
}

static void answer(struct connection *c) {
    static const char models[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 77\r\n\r\n"
        "{\"object\":\"list\",\"data\":[{\"id\":\"m\",\"object\":\"model\",\"max_model_len\":100000}]}";
    static const char whole[] =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    char *end = strstr(c->head, "\r\n"), *tag = strcasestr(c->head, "\r\nx-peaktape-request: r");
    size_t line = end ? (size_t)(end - c->head) : 0;
    int64_t copy = 0;
    c->number = -1;
    if (is_probe(c->head)) {
        say(c, models, sizeof models - 1);
    } else {
        if (tag) sscanf(tag + 23, "%" SCNd64 "/%" SCNd64, &c->number, &copy);
        note(&arrivals, c->began_ns, c->number, copy);
        if (memmem(c->head, line, "stream", 6)) begin_stream(c);
        else if (memmem(c->head, line, "completions", 11))
            say_completion(c, !!memmem(c->head, line, "chat", 4));
        else say(c, whole, sizeof whole - 1);
        if (arrivals.used == 1) announce("first\n", 6);
        if (arrivals.used == expected) announce("last\n", 5);
    }
    c->began_ns = 0;
    c->head_len = c->wants_stream = 0;
}

/* The instant stands in the text in 19 digits, so that all events are of one length and made beforehand. */
static void send_chunk(struct connection *c) {
    static const char last[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", begin[] = "data: {\"choices\":[{\"delta\":{\"content\":\"";
    static char framed[320];
    static int length, first_digit;
    if (!length) {
        const char *end = "\"}}]}\n\n";
        int event = (int)(strlen(begin) + 19 + strlen(end));
        length = snprintf(framed, sizeof framed, "%x\r\n%s%019d%s\r\n", event, begin, 0, end);
        first_digit = (int)(strstr(framed, begin) - framed) + (int)strlen(begin);
    }
    int64_t at_ns = now_ns(), rest = at_ns;
    for (int i = 18; i >= 0; i--, rest /= 10) framed[first_digit + i] = (char)('0' + rest % 10);
    note(&chunk_log, at_ns, c->number, c->chunk);
    say(c, framed, (size_t)length);
    if (++c->chunk < chunks) {
        c->next_ns += interval_ns;
        ring[ring_tail++ % MOST] = c->fd;
    } else {
        say(c, last, sizeof last - 1);
        c->state = IDLE;
    }
}

/* Some at a time: what comes in must be stamped meanwhile. */
static void tick(void) {
    uint64_t expired;
    if (read(timer_fd, &expired, sizeof expired) < 0) return;
    for (int sent = 0; ring_head != ring_tail && sent < CHUNKS_A_TICK; sent++) {
        struct connection *c = connections[ring[ring_head % MOST]];
        if (c->next_ns > now_ns()) break;
        ring_head++;
        if (c->state == GONE) release(c);
        else send_chunk(c);
    }
    arm();
}

/* Takes in bytes of a head; where it stopped, or NULL if the connection is gone. */
static char *read_head(struct connection *c, char *at, char *stop) {
    size_t fits = (size_t)(HEAD - c->head_len), part = (size_t)(stop - at) < fits ? (size_t)(stop - at) : fits;
    int before = c->head_len;
    /* No room left, a second request within a stream, or a body of unknown length: none of ours does that. */
    if (!part || c->state != IDLE) { drop(c); return NULL; }
    memcpy(c->head + before, at, part);
    c->head_len += (int)part;
    c->head[c->head_len] = 0;
    char *end = strstr(c->head + (before > 3 ? before - 3 : 0), "\r\n\r\n");
    if (!end) return at + part;
    at += end + 4 - (c->head + before);
    end[2] = 0;
    if (strcasestr(c->head, "\r\ntransfer-encoding:")) {
        fprintf(stderr, "a request with a chunked body, which this server does not read\n");
        drop(c);
        return NULL;
    }
    char *length = strcasestr(c->head, "\r\ncontent-length:");
    c->body_left = length ? atoll(length + 17) : 0;
    if (!c->body_left) answer(c);
    return at;
}

/* One read each turn: a large body must not keep the others from being stamped. */
static void serve(struct connection *c) {
    static char data[1 << 17];
    ssize_t got = recv(c->fd, data, sizeof data, 0);
    int64_t at_ns = now_ns();
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { drop(c); return; }
    for (char *at = data, *stop = data + got; at < stop;) {
        if (!c->began_ns) c->began_ns = at_ns;
        if (c->body_left) {
            int64_t part = stop - at < c->body_left ? stop - at : c->body_left;
            /* Only small bodies are looked into, and those come in one read. */
            if (part < 4096 && (memmem(at, (size_t)part, "\"stream\": true", 14)
                                || memmem(at, (size_t)part, "\"stream\":true", 13))) c->wants_stream = 1;
            c->body_left -= part;
            at += part;
            if (!c->body_left) answer(c);
        } else if (!(at = read_head(c, at, stop))) {
            return;
        }
    }
}

static void accept_all(int listener) {
    struct epoll_event event = {.events = EPOLLIN};
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MOST || !(connections[fd] = calloc(1, sizeof *connections[fd]))) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        connections[fd]->fd = event.data.fd = fd;
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

static int finish(const char *path) {
    char beside[4096];
    snprintf(beside, sizeof beside, "%s.chunks", path);
    if (cut_short) fprintf(stderr, "%" PRId64 " answers were cut short\n", cut_short);
    if (save(&arrivals, path) || save(&chunk_log, beside)) return 1;
    snprintf(beside, sizeof beside, "%s.polls", path);
    return save(&polls, beside);
}

/* A turn in which nothing was ready has ended. */
static void note_idle_turn(void) {
    static int64_t last_ns, began_ns, shortest_ns, turns;
    int64_t at_ns = now_ns(), took_ns = at_ns - last_ns;
    last_ns = at_ns;
    if (at_ns - began_ns >= 1000000) {
        if (turns) note(&polls, began_ns, shortest_ns, turns);
        began_ns = at_ns;
        turns = 0;
        return;
    }
    if (!turns++ || took_ns < shortest_ns) shortest_ns = took_ns;
}

static int listen_somewhere(void) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof place;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(listener, (struct sockaddr *)&place, size) || listen(listener, 4096)) exit(1);
    getsockname(listener, (struct sockaddr *)&place, &size);
    printf("%d\n", ntohs(place.sin_port));
    fflush(stdout);
    return listener;
}

int main(int count, char **words) {
    int patience = getenv("STAMP_SERVER_POLLS") ? 0 : -1;
    struct rlimit files = {MOST, MOST};
    struct epoll_event events[256], event = {.events = EPOLLIN};
    char word[64];
    if (count < 3) return 2;
    expected = (size_t)atoll(words[2]);
    if (count > 4) { chunks = atoi(words[3]); interval_ns = atoll(words[4]) * 1000; }
    if (setrlimit(RLIMIT_NOFILE, &files)) {
        getrlimit(RLIMIT_NOFILE, &files);
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    epoll_fd = epoll_create1(0);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    int listener = listen_somewhere(), watched[] = {listener, timer_fd, 0};
    for (int i = 0; i < 3; i++) {
        event.data.fd = watched[i];
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, watched[i], &event);
    }
    for (;;) {
        int ready = epoll_wait(epoll_fd, events, 256, patience);
        if (!ready) note_idle_turn();
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) accept_all(listener);
            else if (fd == timer_fd) tick();
            else if (fd == 0) { if (read(0, word, sizeof word) <= 0) return finish(words[1]); }
            else if (connections[fd]) serve(connections[fd]);
        }
    }
}
