/* Sends datagrams to one UDP server, WINDOW of them under way at a time, and prints how many replies came in how long.
 * Batched, so that it costs less than the server and the server is what is measured.
 *
 *     load ADDRESS PORT COUNT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

enum { WINDOW = 64, SIZE = 16, LOST_MS = 200, LIMIT_S = 20 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc != 4) return fputs("usage: load ADDRESS PORT COUNT\n", stderr), 100;
    int sock = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((in_port_t)atoi(argv[2]))};
    struct timeval patience = {.tv_usec = LOST_MS * 1000};
    if (sock < 0 || inet_pton(AF_INET, argv[1], &server.sin_addr) != 1 ||
        setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
        connect(sock, (struct sockaddr *)&server, sizeof server) < 0)
        return perror("load"), 111;

    char request[] = "sixteen bytes...", replies[WINDOW][SIZE];
    struct iovec out = {request, SIZE}, in[WINDOW];
    struct mmsghdr sending[WINDOW], receiving[WINDOW];
    memset(sending, 0, sizeof sending);
    memset(receiving, 0, sizeof receiving);
    for (int i = 0; i < WINDOW; i++) {
        in[i] = (struct iovec){replies[i], SIZE};
        sending[i].msg_hdr = (struct msghdr){.msg_iov = &out, .msg_iovlen = 1};
        receiving[i].msg_hdr = (struct msghdr){.msg_iov = &in[i], .msg_iovlen = 1};
    }
    long wanted = atol(argv[3]), got = 0, lost = 0;
    double start = now();
    for (int room = WINDOW; got + lost < wanted && now() - start < LIMIT_S;) {
        int sent = sendmmsg(sock, sending, (unsigned)room, 0);
        if (sent < 0) return perror("load: send"), 111;
        room -= sent;
        int came = recvmmsg(sock, receiving, WINDOW, MSG_WAITFORONE, NULL);
        if (came > 0) {
            got += came;
            room += came;
        } else {  /* nothing for so long: all that was under way is lost */
            lost += WINDOW - room;
            room = WINDOW;
        }
    }
    printf("%ld %.6f %ld\n", got, now() - start, lost);
    return 0;
}
