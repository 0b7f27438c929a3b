#include "icmp.h"

#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <string.h>

/* The Internet checksum (RFC 1071); of data that carries its own, it is 0. */
static uint16_t checksum(const uint8_t *data, size_t size)
{
    uint32_t sum = 0;
    for (size_t at = 0; at < size; at++)
        sum += at % 2 ? data[at] : (uint32_t)data[at] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

size_t echo_request(uint8_t *packet, const struct echo *echo, size_t payload)
{
    struct icmphdr header = {.type = ICMP_ECHO,
                             .un.echo = {.id = htons(echo->identifier), .sequence = htons(echo->sequence)}};
    for (size_t at = 0; at < payload; at++)
        packet[sizeof header + at] = (uint8_t)at;
    memcpy(packet, &header, sizeof header);
    header.checksum = checksum(packet, sizeof header + payload);
    memcpy(packet, &header, sizeof header);
    return sizeof header + payload;
}

static const char *words_of(uint8_t type, uint8_t code)
{
    static const char *const unreachable[] = {
        [ICMP_NET_UNREACH] = "Destination net unreachable",
        [ICMP_HOST_UNREACH] = "Destination host unreachable",
        [ICMP_PROT_UNREACH] = "Destination protocol unreachable",
        [ICMP_PORT_UNREACH] = "Destination port unreachable",
        [ICMP_FRAG_NEEDED] = "Fragmentation needed",
        [ICMP_NET_ANO] = "Destination net prohibited",
        [ICMP_HOST_ANO] = "Destination host prohibited",
        [ICMP_PKT_FILTERED] = "Communication prohibited",
    };
    if (type == ICMP_TIME_EXCEEDED)
        return code == ICMP_EXC_TTL ? "Time to live exceeded" : "Reassembly time exceeded";
    if (type == ICMP_DEST_UNREACH)
        return code < sizeof unreachable / sizeof *unreachable && unreachable[code] ? unreachable[code]
                                                                                    : "Destination unreachable";
    return NULL;
}

/* Steps over an IPv4 header; NULL if there is none, or too little behind it. */
static const uint8_t *behind_header(const uint8_t *packet, size_t size, struct iphdr *header)
{
    if (size < sizeof *header)
        return NULL;
    memcpy(header, packet, sizeof *header);
    size_t length = header->ihl * 4u;
    if (length < sizeof *header || size < length + sizeof(struct icmphdr) || header->protocol != IPPROTO_ICMP)
        return NULL;
    return packet + length;
}

struct answer read_answer(const uint8_t *packet, size_t size, const struct echo *echo)
{
    static const struct answer foreign = {.kind = FOREIGN};
    struct iphdr outer, quoted;
    struct icmphdr icmp, request;
    const uint8_t *message = behind_header(packet, size, &outer);
    if (!message)
        return foreign;
    struct answer answer = {.from.s_addr = outer.saddr, .ttl = outer.ttl, .size = size - (size_t)(message - packet)};
    if (checksum(message, answer.size) != 0)
        return foreign;
    memcpy(&icmp, message, sizeof icmp);

    if (icmp.type == ICMP_ECHOREPLY) {
        if (outer.saddr != echo->target.s_addr && !echo->anybody)
            return foreign;
        answer.kind = REPLY;
        request = icmp;
    } else if ((answer.words = words_of(icmp.type, icmp.code))) {
        /* An error quotes the IP header of what it is about, and eight bytes: exactly an echo request's header. */
        const uint8_t *quote = behind_header(message + sizeof icmp, answer.size - sizeof icmp, &quoted);
        if (!quote || quoted.daddr != echo->target.s_addr)
            return foreign;
        memcpy(&request, quote, sizeof request);
        if (request.type != ICMP_ECHO)
            return foreign;
        answer.kind = ERROR;
    } else {
        return foreign;
    }
    if (ntohs(request.un.echo.id) != echo->identifier)
        return foreign;
    answer.sequence = ntohs(request.un.echo.sequence);
    return answer;
}
