/* What the two processes of a peer share. */
#ifndef PEER_H
#define PEER_H
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>

enum { ENDED = 0, USAGE = 100, TEMPORARY = 111 };
#define SECOND INT64_C(1000000000) /* in nanoseconds, as all times here are */

struct settings {
    int port;
    int64_t interval;
    unsigned lines;    /* printed a second, at most */
    const char *heard; /* file whose times tell when a broadcast was heard, this host's and another's; may be NULL */
};
extern struct settings peer;

/* The parent: broadcasts until one of `signals` (blocked) comes, and returns it. */
int broadcast(int sock, const sigset_t *signals);

/* The child: prints what comes in. */
_Noreturn void receive(int sock);
int check(const char *file);

/* Says why on standard error (%m is errno's text) and exits. */
_Noreturn void die(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct sockaddr_in endpoint(in_addr_t address, int port);
int64_t monotonic(void);
#endif
