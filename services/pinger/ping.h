#ifndef PING_H
#define PING_H
#include "icmp.h"

#include <signal.h>
#include <stdbool.h>

#define SECOND INT64_C(1000000000) /* in nanoseconds, as all times here are */

extern struct wishes {
    unsigned count; /* 0: until told to end */
    int64_t interval, timeout;
    size_t payload;
    int ttl;
} asked;
extern volatile sig_atomic_t told_to_end; /* set by SIGINT and SIGTERM, which are blocked but for the waits */

/* Pings `echo.target` over a raw ICMP socket as `asked`, prints a summary, and tells whether anybody answered. */
bool ping(int sock, struct echo echo);
#endif
