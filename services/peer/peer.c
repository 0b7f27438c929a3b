/* peer: broadcasts a value once a second and prints every value that it hears.
 *
 * A process pair shares one socket: the parent sends (sender.c), the child receives (receiver.c). A value is a datagram
 * of four bytes, a little-endian integer: what the article's program sends on a PC, stated so that any machine does.
 *
 * Standard output carries nothing but `got` lines. Exit codes: 0 ended as asked, 100 wrong usage, 111 try again.
 */
#define _GNU_SOURCE
#include "peer.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct settings peer = {.port = 2066, .interval = SECOND, .lines = 250};

void die(int code, const char *format, ...)
{
    va_list words;
    va_start(words, format);
    fputs("peer: ", stderr);
    vfprintf(stderr, format, words);
    fputc('\n', stderr);
    exit(code);
}

int64_t monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

struct sockaddr_in endpoint(in_addr_t address, int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = address, .sin_port = htons(port)};
}

/* A datagram socket on the port that all peers share, allowed to broadcast. SO_REUSEADDR stays off on purpose: the
 * address tells peers apart, so a host can have one. */
static int open_socket(void)
{
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in here = endpoint(htonl(INADDR_ANY), peer.port);
    if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_BROADCAST, &yes, sizeof yes) < 0)
        die(TEMPORARY, "no datagram socket that may broadcast: %m");
    if (bind(sock, (struct sockaddr *)&here, sizeof here) == 0)
        return sock;
    if (errno == EADDRINUSE)
        die(TEMPORARY, "UDP port %d of this host is taken, probably by another peer: a host can run one. "
            "End that one first, or run this one on another host", peer.port);
    die(errno == EACCES ? USAGE : TEMPORARY, "cannot bind UDP port %d: %m", peer.port);
}

/* Both live or neither: the kernel kills the child when the parent dies, and tells the parent when the child does. */
static int run_pair(void)
{
    int sock = open_socket(), status;
    sigset_t signals, before;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, &before);
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP}, NULL);

    pid_t sender = getpid(), receiver = fork();
    if (receiver < 0)
        die(TEMPORARY, "no second process for the receiver: %m");
    if (receiver == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != sender)
            die(TEMPORARY, "the sender has gone, so the receiver goes too");
        sigprocmask(SIG_SETMASK, &before, NULL);
        receive(sock);
    }
    fprintf(stderr, "ready udp/%d, one broadcast every %g s, sender %d, receiver %d\n", peer.port,
            (double)peer.interval / SECOND, sender, receiver);
    int why = broadcast(sock, &signals);
    if (why != SIGCHLD)
        kill(receiver, SIGKILL);
    waitpid(receiver, &status, 0); /* from here on the port is free */
    if (why != SIGCHLD)
        return ENDED;
    if (WIFEXITED(status))
        return WEXITSTATUS(status); /* it has said why */
    die(TEMPORARY, "the receiver was ended by signal %d (%s), and the sender ends with it", WTERMSIG(status),
        strsignal(WTERMSIG(status)));
}

static double number(const char *option, double least, double most)
{
    char *end;
    double value = strtod(optarg, &end);
    if (end == optarg || *end || !(value >= least && value <= most))
        die(USAGE, "--%s takes a number from %g to %.0f, not \"%s\"", option, least, most, optarg);
    return value;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},     {"as-printed", no_argument, NULL, 'a'},
        {"interval", required_argument, NULL, 'i'}, {"port", required_argument, NULL, 'p'},
        {"lines", required_argument, NULL, 'l'},    {"heard", required_argument, NULL, 'h'},
        {"check", required_argument, NULL, 'c'},    {0}};
    static const char usage[] = "usage: peer [--seed N | --as-printed] [--interval SECONDS] [--port N] [--lines N]"
                                " [--heard FILE] | peer --check FILE";
    const char *checked = NULL;
    unsigned seed;
    int option;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        die(TEMPORARY, "no random seed: %m");
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (option) {
        case 's': seed = (unsigned)number("seed", 1, UINT32_MAX); break;
        case 'a': seed = 1; break; /* as C gives to a program that never calls srand() */
        case 'i': peer.interval = (int64_t)(number("interval", 0.01, 86400) * SECOND); break;
        case 'p': peer.port = (int)number("port", 1, 65535); break;
        case 'l': peer.lines = (unsigned)number("lines", 1, 1e6); break;
        case 'h': peer.heard = optarg; break;
        case 'c': checked = optarg; break;
        default: die(USAGE, usage);
        }
    if (optind < argc)
        die(USAGE, usage);
    srand(seed);
    return checked ? check(checked) : run_pair();
}
