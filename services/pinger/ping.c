/* One echo request after another, and a line for what comes of each. */
#define _GNU_SOURCE
#include "ping.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

static struct {
    unsigned sent, answered, undeliverable;
    int64_t least, most, sum; /* of the round-trip times */
} seen;

static int64_t monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

/* Waits until a packet has come (true), or until `moment` or a signal (false). Signals arrive nowhere else. */
static bool packet_before(int sock, int64_t moment)
{
    sigset_t none, usual;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, &usual); /* a signal that waits arrives here, even while packets flood in */
    sigprocmask(SIG_SETMASK, &usual, NULL);
    int64_t left = moment - monotonic();
    if (left <= 0 || told_to_end)
        return false;
    return ppoll(&(struct pollfd){sock, POLLIN, 0}, 1, &(struct timespec){left / SECOND, left % SECOND}, &none) > 0;
}

/* Reads one packet; true if it settles the request that went out at `since`. If that was settled before (`again`), by
 * another of those that the target stands for, it only gets its line. */
static bool settles(int sock, const struct echo *echo, int64_t since, bool again)
{
    static uint8_t packet[65536];
    ssize_t size = recv(sock, packet, sizeof packet, MSG_DONTWAIT);
    int64_t rtt = monotonic() - since;
    if (size < 0)
        return false;
    struct answer answer = read_answer(packet, (size_t)size, echo);
    if (answer.kind == FOREIGN || answer.sequence != echo->sequence)
        return false;
    const char *from = inet_ntoa(answer.from);
    if (answer.kind == ERROR) {
        seen.undeliverable += !again;
        printf("%s: seq=%u, reported by %s\n", answer.words, answer.sequence, from);
        return true;
    }
    if (!again) {
        seen.least = !seen.answered || rtt < seen.least ? rtt : seen.least;
        seen.most = rtt > seen.most ? rtt : seen.most;
        seen.sum += rtt;
        seen.answered++;
    }
    printf("%zu bytes from %s: seq=%u ttl=%d time=%.3f ms\n", answer.size, from, answer.sequence, answer.ttl,
           (double)rtt / 1e6);
    return true;
}

static void send_and_wait(int sock, struct echo echo)
{
    static uint8_t packet[65536];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = echo.target};
    for (int64_t tick = monotonic();; tick += asked.interval) {
        echo.sequence++;
        size_t size = echo_request(packet, &echo, asked.payload);
        int64_t since = monotonic();
        seen.sent++;
        bool sent = sendto(sock, packet, size, 0, (struct sockaddr *)&to, sizeof to) >= 0, settled = !sent;
        if (!sent)
            printf("not sent: seq=%u, %m\n", echo.sequence);
        while (sent && (!settled || echo.anybody) && packet_before(sock, since + asked.timeout))
            settled |= settles(sock, &echo, since, settled);
        if (told_to_end)
            return;
        if (!settled)
            printf("no answer: seq=%u within %g s\n", echo.sequence, (double)asked.timeout / SECOND);
        if (seen.sent == asked.count)
            return;
        while (packet_before(sock, tick + asked.interval))
            recv(sock, &(char){0}, 1, MSG_DONTWAIT); /* late or double: left out */
        if (told_to_end)
            return;
        if (monotonic() - tick > 2 * asked.interval)
            tick = monotonic() - asked.interval; /* a host that was paused does not catch up */
    }
}

bool ping(int sock, struct echo echo)
{
    send_and_wait(sock, echo);
    printf("%u sent, %u answered, %u reported undeliverable, %u%% lost", seen.sent, seen.answered, seen.undeliverable,
           seen.sent ? 100 - 100 * seen.answered / seen.sent : 0);
    if (seen.answered)
        printf(", rtt min/avg/max %.3f/%.3f/%.3f ms", (double)seen.least / 1e6,
               (double)seen.sum / seen.answered / 1e6, (double)seen.most / 1e6);
    putchar('\n');
    return seen.answered;
}
