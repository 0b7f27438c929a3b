/* ICMP echo over a raw socket: what goes out, and what comes back about it (RFC 792, RFC 1122). */
#ifndef ICMP_H
#define ICMP_H
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct echo {
    struct in_addr target;
    bool anybody; /* replies: the target is an address of many, and each answers from its own */
    uint16_t identifier, sequence;
};

enum kind { FOREIGN, REPLY, ERROR };

/* What a packet says of an echo request of ours. */
struct answer {
    enum kind kind;
    uint16_t sequence;
    struct in_addr from; /* of an error: who reports it */
    int ttl;             /* what is left of it on arrival */
    size_t size;         /* ICMP header and payload */
    const char *words;   /* of an error */
};

/* Writes an echo request of `payload` bytes into `packet`; returns its size. */
size_t echo_request(uint8_t *packet, const struct echo *echo, size_t payload);

/* Reads a whole IPv4 packet, as a raw socket delivers it. It is FOREIGN unless it is intact and answers a request with
 * this target and identifier; the sequence is the caller's to match. */
struct answer read_answer(const uint8_t *packet, size_t size, const struct echo *echo);
#endif
