/* All that the hosts of other people's projects run here: one static program, since their images may hold nothing else. */
#include <arpa/inet.h>
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT 7000

static struct sockaddr_in at(uint32_t address)
{
    struct sockaddr_in place = { .sin_family = AF_INET, .sin_port = htons(PORT) };
    place.sin_addr.s_addr = htonl(address);
    return place;
}

static int must(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

static int copy(int from, int to, int (*change)(int))
{
    char data[1 << 16];
    ssize_t size;
    while ((size = read(from, data, sizeof data)) > 0) {
        for (ssize_t i = 0; change && i < size; i++)
            data[i] = change((unsigned char)data[i]);
        for (ssize_t done = 0; done < size;)
            done += must(write(to, data + done, size - done), "write");
    }
    return 0;
}

/* A TCP server that answers in capitals. */
static _Noreturn void serve(void)
{
    struct sockaddr_in place = at(INADDR_ANY);
    int one = 1, listener = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    must(bind(listener, (struct sockaddr *)&place, sizeof place), "bind");
    must(listen(listener, 5), "listen");
    puts("ready");
    for (;;) {
        int client = must(accept(listener, NULL, NULL), "accept");
        copy(client, client, toupper);
        close(client);
    }
}

/* Its health check: connects. */
static int check(void)
{
    struct sockaddr_in place = at(INADDR_LOOPBACK);
    return connect(must(socket(AF_INET, SOCK_STREAM, 0), "socket"), (struct sockaddr *)&place, sizeof place) < 0;
}

/* Tells everybody on its network, once for each line of its input. */
static int cry(void)
{
    char line[100];
    struct sockaddr_in place = at(INADDR_BROADCAST);
    int one = 1, sock = must(socket(AF_INET, SOCK_DGRAM, 0), "socket");
    must(setsockopt(sock, SOL_SOCKET, SO_BROADCAST, &one, sizeof one), "broadcast");
    while (fgets(line, sizeof line, stdin))
        must(sendto(sock, line, strlen(line), 0, (struct sockaddr *)&place, sizeof place), "sendto");
    return 0;
}

/* Prints each datagram that comes. */
static _Noreturn void hear(void)
{
    char data[100];
    struct sockaddr_in place = at(INADDR_ANY), from;
    socklen_t length = sizeof from;
    int sock = must(socket(AF_INET, SOCK_DGRAM, 0), "socket");
    must(bind(sock, (struct sockaddr *)&place, sizeof place), "bind");
    puts("ready");
    for (;;) {
        ssize_t size = must(recvfrom(sock, data, sizeof data, 0, (struct sockaddr *)&from, &length), "recvfrom");
        printf("%s says %.*s", inet_ntoa(from.sin_addr), (int)size, data);
    }
}

/* Leaves a child in a session of its own, and waits as it does. */
static _Noreturn void spawn(void)
{
    if (fork() == 0)
        setsid();
    signal(SIGTERM, SIG_IGN);
    puts("spawned");
    for (;;)
        pause();
}

static void end(int number)
{
    (void)number;
    _exit(0);
}

int main(int count, char **words)
{
    const char *word = count > 1 ? words[1] : "idle";
    signal(SIGTERM, end); /* which the first process of a container would not notice */
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(word, "serve"))
        serve();
    if (!strcmp(word, "check"))
        return check();
    if (!strcmp(word, "cry"))
        return cry();
    if (!strcmp(word, "hear"))
        hear();
    if (!strcmp(word, "spawn"))
        spawn();
    if (!strcmp(word, "cat"))
        return copy(0, 1, NULL);
    if (!strcmp(word, "exit"))
        return atoi(words[2]);
    for (;;)
        pause();
}
