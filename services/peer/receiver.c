/* The child of the pair: prints each value with its sender.
 *
 * No timer is needed here: this host's own broadcast comes back every interval and wakes the loop.
 */
#define _GNU_SOURCE
#include "peer.h"

#include <arpa/inet.h>
#include <endian.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FEW = 20 }; /* lines a second that are written one by one */

/* Whether `address` is one of this host's: only then can a socket be bound to it. */
static bool is_ours(struct in_addr address, int64_t now)
{
    static struct in_addr ours;
    static int64_t trusted; /* until then nothing but `ours` is */
    if (now < trusted && address.s_addr != ours.s_addr)
        return false;
    struct sockaddr_in there = endpoint(address.s_addr, 0);
    int probe = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool bound = probe >= 0 && bind(probe, (struct sockaddr *)&there, sizeof there) == 0;
    if (probe >= 0)
        close(probe);
    if (bound) {
        ours = address;
        trusted = now + 2 * peer.interval;
    }
    return bound;
}

/* Sets one of the file's times to now: the last change tells of a broadcast of this very host, the last access of
 * another's. */
static void note(int heard, bool ours)
{
    const struct timespec now = {.tv_nsec = UTIME_NOW}, as_it_was = {.tv_nsec = UTIME_OMIT};
    futimens(heard, (struct timespec[2]){ours ? as_it_was : now, ours ? now : as_it_was});
}

static void print(uint32_t wire, ssize_t size, const struct sockaddr_in *from)
{
    const char *name = inet_ntoa(from->sin_addr);
    if (size == sizeof wire)
        printf("got %3d from %s\n", (int32_t)le32toh(wire), name);
    else
        fprintf(stderr, "peer: ignored %zd bytes from %s port %d: a value is %zu bytes\n", size, name,
                ntohs(from->sin_port), sizeof wire);
}

/* Few lines appear at once. When the second before had many, lines are gathered and written four times a second: among
 * a hundred peers, a write for each of ten thousand lines a second would keep the engine that logs them from all else. */
void receive(int sock)
{
    int heard = peer.heard ? open(peer.heard, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    if (peer.heard && (heard < 0 || futimens(heard, (struct timespec[2]){0}) < 0))
        die(USAGE, "cannot write %s, which --heard names: %m", peer.heard);
    setvbuf(stdout, NULL, _IOFBF, 1 << 14);
    int64_t second = 0, written = 0; /* when the next second of the bound on lines begins; when lines last went out */
    unsigned lines = 0;
    bool many = false;
    for (;;) {
        uint32_t wire;
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        ssize_t size = recvfrom(sock, &wire, sizeof wire, MSG_TRUNC, (struct sockaddr *)&from, &length);
        if (size < 0)
            die(TEMPORARY, "cannot receive on UDP port %d: %m", peer.port);
        int64_t now = monotonic();
        if (heard >= 0)
            note(heard, is_ours(from.sin_addr, now));
        if (now >= second) {
            if (lines > peer.lines)
                fprintf(stderr, "peer: %u more left out (--lines %u a second)\n", lines - peer.lines, peer.lines);
            many = lines > FEW;
            lines = 0;
            second = now + SECOND;
        }
        if (lines++ < peer.lines)
            print(wire, size, &from);
        if (!many || now - written >= SECOND / 4) {
            if (fflush(stdout) == EOF)
                die(TEMPORARY, "cannot write to standard output: %m");
            written = now;
        }
    }
}

static int64_t age(struct timespec then)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (now.tv_sec - then.tv_sec) * SECOND + now.tv_nsec - then.tv_nsec;
}

/* The health check: a broadcast of this host came back within the last three intervals. The kernel itself returns those,
 * whatever becomes of the network; what only that can have brought, another's, is told but not asked for: a peer may be
 * alone. */
int check(const char *file)
{
    struct stat last;
    if (stat(file, &last) < 0)
        die(TEMPORARY, "no peer has run here with --heard %s: %m", file);
    if (last.st_mtim.tv_sec == 0)
        die(TEMPORARY, "no broadcast of this host has come back");
    int64_t own = age(last.st_mtim), others = age(last.st_atim);
    if (own > 3 * peer.interval)
        die(TEMPORARY, "the last broadcast of this host came back %.1f s ago", (double)own / SECOND);
    printf("a broadcast of this host came back %.1f s ago; ", (double)own / SECOND);
    if (others > 3 * peer.interval)
        printf("no other host's was heard: it is alone, or its network carries nothing\n");
    else
        printf("another host's was heard %.1f s ago\n", (double)others / SECOND);
    return ENDED;
}
