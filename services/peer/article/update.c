/* update: the article's peer in other words. It trusts every call and seeds nothing; compare ../peer.c, which does not. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void)
{
    int value, on = 1, sock = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(2066)};
    struct sockaddr_in everyone = here, sender;
    everyone.sin_addr.s_addr = INADDR_BROADCAST;

    setsockopt(sock, SOL_SOCKET, SO_BROADCAST, &on, sizeof on);
    bind(sock, (struct sockaddr *)&here, sizeof here); /* fails in a second instance, and nobody notices */
    if (fork() == 0)
        for (;;) {
            socklen_t size = sizeof sender;
            recvfrom(sock, &value, sizeof value, 0, (struct sockaddr *)&sender, &size);
            printf("got %3d from %s\n", value, inet_ntoa(sender.sin_addr));
        }
    for (;; sleep(1)) {
        value = rand() % 1000; /* without srand() every run, on every machine, broadcasts the same sequence */
        sendto(sock, &value, sizeof value, 0, (struct sockaddr *)&everyone, sizeof everyone);
    }
}
