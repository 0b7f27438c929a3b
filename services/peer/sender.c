/* The parent of the pair: one random value a second to everyone on this network. */
#define _GNU_SOURCE
#include "peer.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The first of `signals` that comes before `moment`, else 0. */
static int signal_before(int64_t moment, const sigset_t *signals)
{
    for (;;) {
        int64_t left = moment > monotonic() ? moment - monotonic() : 0;
        int signal = sigtimedwait(signals, NULL, &(struct timespec){left / SECOND, left % SECOND});
        if (signal > 0)
            return signal;
        if (errno == EAGAIN)
            return 0;
    }
}

/* What cannot be sent is said once, and tried again with the next value: a route or a buffer may come back.
 * Ticks are absolute, so that the pace does not drift; those slept through (a paused host) are left out. */
int broadcast(int sock, const sigset_t *signals)
{
    struct sockaddr_in everyone = endpoint(htonl(INADDR_BROADCAST), peer.port);
    int trouble = 0, signal = 0;
    for (int64_t tick = monotonic(); signal == 0; signal = signal_before(tick, signals)) {
        uint32_t wire = htole32(rand() % 1000);
        int error = sendto(sock, &wire, sizeof wire, 0, (struct sockaddr *)&everyone, sizeof everyone) < 0 ? errno : 0;
        if (error && error != trouble)
            fprintf(stderr, "peer: cannot broadcast to 255.255.255.255: %s; trying on\n", strerror(error));
        else if (trouble && !error)
            fputs("peer: broadcasts go out again\n", stderr);
        trouble = error;
        tick += peer.interval * (1 + (monotonic() - tick) / peer.interval);
    }
    return signal;
}
