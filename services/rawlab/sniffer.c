/* sniffer: shows what a raw socket sees: every packet that enters or leaves the host, whoever it belongs to.
 *
 * One packet socket (packet(7)), which takes the same right as any raw socket, CAP_NET_RAW; setuid root, it gives
 * everything up once the socket is open. usage: sniffer [-c COUNT] [PORT]
 * Exit codes: 0 COUNT packets were shown, or ended by a signal's default; 100 wrong usage or no right; 111 try again.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <grp.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PERMANENT = 100, TEMPORARY = 111, SHOWN = 48 };

/* Gives up root once the socket is made, in the fewest calls. */
static void drop_privilege(void)
{
    uid_t user = getuid();
    gid_t group = getgid();
    if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(group, group, group) < 0 || setresuid(user, user, user) < 0))
        err(PERMANENT, "cannot drop root");
    if (user != 0 && setuid(0) == 0)
        errx(PERMANENT, "root can be regained");
}

/* A number up to `most`, or the end with a word on usage. */
static long number(const char *text, long most)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (end == text || *end || value < 1 || value > most)
        errx(PERMANENT, "expected a number from 1 to %ld, not \"%s\"; usage: sniffer [-c COUNT] [PORT]", most, text);
    return value;
}

static unsigned port_at(const uint8_t *header)
{
    return (unsigned)header[0] << 8 | header[1];
}

/* Prints one IPv4 packet in a line; false if it is not about `port` (0: any). Ports and payload of UDP and TCP only:
 * the first fragment has them. */
static bool show(const char *way, const uint8_t *packet, size_t size, unsigned port)
{
    struct ip ip;
    if (size < sizeof ip)
        return false;
    memcpy(&ip, packet, sizeof ip);
    size_t length = ntohs(ip.ip_len) < size ? ntohs(ip.ip_len) : size, at = ip.ip_hl * 4u;
    bool first = (ntohs(ip.ip_off) & IP_OFFMASK) == 0, udp = ip.ip_p == IPPROTO_UDP, tcp = ip.ip_p == IPPROTO_TCP;
    unsigned from = 0, to = 0;
    if (first && ((udp && length >= at + 8) || (tcp && length >= at + 20))) {
        from = port_at(packet + at);
        to = port_at(packet + at + 2);
        at += udp ? 8 : (packet[at + 12] >> 4) * 4u;
    }
    if (port && port != from && port != to)
        return false;

    char source[INET_ADDRSTRLEN], target[INET_ADDRSTRLEN], text[SHOWN + 1];
    inet_ntop(AF_INET, &ip.ip_src, source, sizeof source);
    inet_ntop(AF_INET, &ip.ip_dst, target, sizeof target);
    size_t payload = at < length ? length - at : 0, shown = payload < SHOWN ? payload : SHOWN;
    for (size_t i = 0; i < shown; i++)
        text[i] = isprint(packet[at + i]) ? (char)packet[at + i] : '.';
    text[shown] = '\0';
    printf("%-9s %s:%u > %s:%u %s %zu bytes \"%s\"\n", way, source, from, target, to,
           udp ? "udp" : tcp ? "tcp" : ip.ip_p == IPPROTO_ICMP ? "icmp" : "ip", payload, text);
    return true;
}

int main(int argc, char **argv)
{
    static uint8_t packet[65536];
    static const char *const ways[] = {[PACKET_HOST] = "to us", [PACKET_BROADCAST] = "to all", [PACKET_MULTICAST] = "to many",
                                       [PACKET_OTHERHOST] = "to others", [PACKET_OUTGOING] = "from us"};
    int sock = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ALL));
    if (sock < 0)
        err(errno == EPERM ? PERMANENT : TEMPORARY, "cannot open a packet socket%s", errno != EPERM ? ""
            : ": this takes CAP_NET_RAW, which comes with root, a setuid-root file or a file capability");
    drop_privilege();

    long count = 0, port = 0;
    for (int option; (option = getopt(argc, argv, "c:")) != -1; count = number(optarg, 1000000000))
        if (option != 'c')
            errx(PERMANENT, "usage: sniffer [-c COUNT] [PORT]");
    if (optind < argc)
        port = number(argv[optind++], 65535);
    if (optind < argc)
        errx(PERMANENT, "usage: sniffer [-c COUNT] [PORT]");
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready: every packet of this host passes here, seen by uid %u\n", getuid());
    for (long seen = 0; count == 0 || seen < count;) {
        struct sockaddr_ll link;
        socklen_t length = sizeof link;
        ssize_t size = recvfrom(sock, packet, sizeof packet, 0, (struct sockaddr *)&link, &length);
        if (size < 0)
            err(TEMPORARY, "cannot receive");
        if (ntohs(link.sll_protocol) == ETH_P_IP && link.sll_pkttype < sizeof ways / sizeof *ways)
            seen += show(ways[link.sll_pkttype], packet, (size_t)size, (unsigned)port);
    }
    return 0;
}
