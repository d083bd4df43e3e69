/* What the C senders and readers share: the clock, a connection to a port of loopback, and a schedule's offsets.
 * Everything is static: each program is one file and this. */
#ifndef LOOPBACK_H
#define LOOPBACK_H
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

static int64_t now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int connect_to(int port) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    place.sin_port = htons((uint16_t)port);
    if (connect(fd, (struct sockaddr *)&place, sizeof place)) exit(1);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return fd;
}

/* int64 ns, ascending, from a file that holds nothing else. */
static int64_t *read_offsets(const char *path, size_t *count) {
    FILE *in = fopen(path, "rb");
    if (!in || fseek(in, 0, SEEK_END)) exit(1);
    *count = (size_t)ftell(in) / sizeof(int64_t);
    rewind(in);
    int64_t *offsets = calloc(*count + 1, sizeof *offsets);
    if (!offsets || fread(offsets, sizeof *offsets, *count, in) != *count) exit(1);
    return offsets;
}
#endif
