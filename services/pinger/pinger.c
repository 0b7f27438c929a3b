/* pinger: an ICMP echo client that opens its raw socket as root and does everything else as the user who ran it.
 *
 * Order matters: the socket first, the drop next, and only then what strangers can influence: the words typed, names,
 * packets. Replies are matched on identifier, sequence and source; one request is under way at a time.
 * Exit codes: 0 somebody answered, or ended as asked; 100 wrong usage or no right; 111 no answer.
 */
#define _GNU_SOURCE
#include "ping.h"
#include "privilege.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/icmp.h>
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWERED = 0, PERMANENT = 100, TEMPORARY = 111 };

struct wishes asked = {.interval = SECOND, .timeout = SECOND, .payload = 56, .ttl = 64};
volatile sig_atomic_t told_to_end;

static _Noreturn __attribute__((format(printf, 2, 3))) void die(int code, const char *format, ...)
{
    va_list words;
    va_start(words, format);
    fputs("pinger: ", stderr);
    vfprintf(stderr, format, words);
    fputc('\n', stderr);
    exit(code);
}

static struct in_addr resolve(const char *name)
{
    struct addrinfo *found, wanted = {.ai_family = AF_INET, .ai_socktype = SOCK_RAW};
    int error = getaddrinfo(name, NULL, &wanted, &found);
    if (error)
        die(error == EAI_AGAIN ? TEMPORARY : PERMANENT, "no IPv4 address for \"%s\": %s", name, gai_strerror(error));
    struct in_addr address = ((struct sockaddr_in *)found->ai_addr)->sin_addr;
    freeaddrinfo(found);
    return address;
}

/* Whether it is the broadcast address of a network of ours: only to those a socket is denied that did not ask for it. */
static bool is_broadcast(struct in_addr address)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = address, .sin_port = htons(1)};
    int probe = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool denied = connect(probe, (struct sockaddr *)&to, sizeof to) < 0 && errno == EACCES;
    close(probe);
    return denied;
}

/* Whom to ping, and whose replies count, as ping(8) has it. */
static struct echo choose(const char *name, bool broadcast)
{
    struct echo echo = {.target = resolve(name)};
    if (echo.target.s_addr == htonl(INADDR_ANY))
        echo.target.s_addr = htonl(INADDR_LOOPBACK); /* 0.0.0.0 is "this host": it answers from 127.0.0.1 */
    bool everybody = is_broadcast(echo.target);
    if (everybody && !broadcast)
        die(PERMANENT, "%s is a broadcast address: -b pings all who are there, and whoever answers counts", name);
    echo.anybody = everybody || IN_MULTICAST(ntohl(echo.target.s_addr));
    if (echo.anybody && asked.interval < SECOND)
        die(PERMANENT, "%s may be many hosts: -i takes 1 s or more", name);
    return echo;
}

static double number(int option, double least, double most)
{
    char *end;
    double value = strtod(optarg, &end);
    if (end == optarg || *end || !(value >= least && value <= most))
        die(PERMANENT, "-%c takes a number from %g to %g, not \"%s\"", option, least, most, optarg);
    return value;
}

static void end(int signal)
{
    told_to_end = signal;
}

int main(int argc, char **argv)
{
    int sock = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP), error = errno;
    const char *failed = sock < 0 ? NULL : drop_privilege_for_good();
    if (failed)
        die(PERMANENT, "%s: %m; nothing was sent", failed);
    if (sock < 0)
        die(PERMANENT, "cannot open a raw socket: %s: %s", strerror(error), error == EPERM ? why_no_raw_socket() : "");

    static const char usage[] = "usage: pinger [-c COUNT] [-i SECONDS] [-W SECONDS] [-t TTL] [-s BYTES] [-b] HOST";
    int broadcast = 0;
    for (int option; (option = getopt(argc, argv, "bc:i:W:t:s:")) != -1;)
        switch (option) {
        case 'b': broadcast = 1; break;
        case 'c': asked.count = (unsigned)number('c', 1, 1e9); break;
        case 'i': asked.interval = (int64_t)(number('i', 0.2, 3600) * SECOND); break; /* no floods by way of root */
        case 'W': asked.timeout = (int64_t)(number('W', 0.01, 60) * SECOND); break;
        case 't': asked.ttl = (int)number('t', 1, 255); break;
        case 's': asked.payload = (size_t)number('s', 0, 65507); break;
        default: die(PERMANENT, "%s", usage);
        }
    if (argc - optind != 1)
        die(PERMANENT, "%s", usage);

    struct echo echo = choose(argv[optind], broadcast);
    struct icmp_filter wanted = {~(1u << ICMP_ECHOREPLY | 1u << ICMP_DEST_UNREACH | 1u << ICMP_TIME_EXCEEDED)};
    if (getrandom(&echo.identifier, sizeof echo.identifier, 0) < 0 ||
        setsockopt(sock, SOL_RAW, ICMP_FILTER, &wanted, sizeof wanted) < 0 ||
        setsockopt(sock, SOL_SOCKET, SO_BROADCAST, &broadcast, sizeof broadcast) < 0 ||
        setsockopt(sock, IPPROTO_IP, IP_TTL, &asked.ttl, sizeof asked.ttl) < 0)
        die(TEMPORARY, "cannot prepare the raw socket: %m");
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = end}, NULL);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = end}, NULL);

    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready to ping %s (%s): raw socket open, privileges dropped, uid %u\n", argv[optind],
           inet_ntoa(echo.target), getuid());
    bool answered = ping(sock, echo);
    return answered || told_to_end ? ANSWERED : TEMPORARY;
}
